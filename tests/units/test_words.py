"""Words and byte pairs as units: how they are counted, read, kept in a file, and turned into text again."""

from __future__ import annotations

from pathlib import Path

import pytest

from thaw.config.units import BpeUnits, WordUnits
from thaw.errors import UserError
from thaw.files import write_json
from thaw.units import EVERY, Pieces, Words, metadata_of, read_units, units_from
from thaw.units.making import make_units
from thaw.units.words import read_words

TEXTS = ["the cat sat", "the dog sat", "", "a cat and the <unk>"]


def test_words_are_counted_and_rare_ones_are_unknown() -> None:
    units, record = make_units(WordUnits(kind="words", min_count=2), TEXTS)
    assert isinstance(units, Words)
    assert units.words == ("<unk>", "the", "cat", "sat")  # the commonest first, equals by their letters
    assert units.encode("the dog sat") == [1, 0, 3]
    assert units.decode([1, 0, 3]) == "the <unk> sat"
    assert record["unknown"] == 4  # dog, a, and, and the text's own <unk>
    assert (record["size"], record["words"], record["sentences"]) == (4, 11, 4)
    with pytest.raises(IndexError):
        units.decode([4])


def test_a_users_vocabulary_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("<eos>\n<unk>\nsat\nthe\n\n")
    units, _ = make_units(WordUnits(kind="words", file=str(path)), TEXTS)
    assert units.plain() == {"kind": "words", "words": ["<unk>", "sat", "the"]}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("the\nsat\n", "lacks <unk>"),
        ("<unk>\nthe\nthe\n", "'the' twice"),
        ("<unk>\nthe cat\n", "'the cat' is not one word"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(tmp_path: Path, lines: str, said: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(lines)
    with pytest.raises(UserError, match=said) as error:
        read_words(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_text_gives_no_units() -> None:
    for spec in (WordUnits(kind="words"), BpeUnits(kind="bpe", size=10)):
        with pytest.raises(UserError, match="training text is empty"):
            make_units(spec, ["", " "])


def test_byte_pairs_spell_every_text_and_the_same_text_gives_the_same() -> None:
    texts = ["the cat sat on the mat", "the dog sat there", "that hat"] * 5
    units, record = make_units(BpeUnits(kind="bpe", size=25), texts)
    again, _ = make_units(BpeUnits(kind="bpe", size=25), texts)
    assert isinstance(units, Pieces)
    assert units.plain() == again.plain()
    assert units.size == record["size"] == 25
    for text in (*texts, "a dog that sat"):
        assert units.decode(units.encode(text)) == text
    assert len(units.encode("the cat")) < len("the cat")
    with pytest.raises(IndexError):
        units.decode([25])


def test_too_few_characters_for_so_many_byte_pairs() -> None:
    with pytest.raises(UserError, match="gives no 5,000 byte pairs"):
        make_units(BpeUnits(kind="bpe", size=5000), TEXTS)


def test_a_file_holds_them_whole(tmp_path: Path) -> None:
    for spec in (WordUnits(kind="words"), BpeUnits(kind="bpe", size=20)):
        units, _ = make_units(spec, TEXTS)
        path = tmp_path / f"{spec.kind}.json"
        write_json(path, units.plain())
        assert read_units(path).plain() == units.plain()
        assert units_from(metadata_of({EVERY: units}))[EVERY].plain() == units.plain()
    write_json(tmp_path / "no.json", {"kind": "words", "words": ["a"]})
    with pytest.raises(UserError, match=r"no\.json: the vocabulary lacks <unk>"):
        read_units(tmp_path / "no.json")
    write_json(tmp_path / "odd.json", {"words": ["a"]})
    with pytest.raises(UserError, match="not made by `thaw units`"):
        read_units(tmp_path / "odd.json")
