from __future__ import annotations

from pathlib import Path

import pytest

from thaw.alignment.lexicon import Lexicon, by_espeak, known_words, read_lexicon, write_lexicon
from thaw.errors import UserError


def test_a_lexicon_comes_back_as_it_was_written(tmp_path: Path) -> None:
    lexicon = Lexicon({"a": (("e", "i"), ("ə",)), "bee": (("b", "iː"),)})
    write_lexicon(tmp_path / "l.txt", lexicon)
    assert (tmp_path / "l.txt").read_text(encoding="utf-8") == "a\te i\na\tə\nbee\tb iː\n"
    assert read_lexicon(tmp_path / "l.txt") == lexicon
    assert lexicon.phones == ("b", "e", "i", "iː", "ə")
    assert lexicon.missing("bee see a see") == ["see"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\tb\nword\n", r"l\.txt:2: not a line of a lexicon"),
        ("two words\ta b\n", r"l\.txt:1: not a line of a lexicon"),
        ("a\t \n", r"l\.txt:1: not a line of a lexicon"),
        ("<s>\ta\n", r"l\.txt:1: '<s>' is a name of Kaldi's"),
        ("a\tb SIL\n", r"l\.txt:1: 'SIL' is a name of thaw's"),
        ("a\t#1\n", r"l\.txt:1: '#1' is a name"),
        ("\n", "the lexicon is empty"),
        ("a\tb\nc\tb bb\n", r"l\.txt:2: 'c' has the phone 'bb'; did you mean 'b'\? allowed: a, b"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "l.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=said):
        read_lexicon(tmp_path / "l.txt", ("a", "b"))


def test_pronunciations_with_unknown_phones_are_left_out() -> None:
    lexicon = Lexicon({"a": (("x",), ("b",)), "c": (("x", "y"),)})
    assert known_words(lexicon, ("b", "y")) == (Lexicon({"a": (("b",),)}), "x")


def test_espeak_says_words_of_its_languages() -> None:
    spanish = by_espeak(["perro", "hola", "señor", "hola"], "es")
    assert spanish.words == {
        "hola": (("o", "l", "a"),),
        "perro": (("p", "e", "r", "o"),),
        "señor": (("s", "e", "ɲ", "o", "ɾ"),),
    }
    assert by_espeak(["não"], "pt-br").words["não"] == (("n", "ɐ̃ʊ̃"),)
    with pytest.raises(UserError, match="espeak-ng does not speak it"):
        by_espeak(["a"], "xx-none")


def test_a_change_of_language_within_a_word_leaves_no_mark() -> None:
    phones = {phone for said in by_espeak(["computer", "baguette", "jeans"], "de").words.values() for phone in said[0]}
    assert not any(set(phone) & set("()ˈˌ ") for phone in phones)
