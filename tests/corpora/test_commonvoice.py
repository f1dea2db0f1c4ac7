"""The Common Voice reader: every release's tables, and every way in which a table can be off."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from thaw.config.schema import Split
from thaw.corpora.commonvoice import find_release, read
from thaw.corpora.listing import Listing
from thaw.errors import UserError

TABLES: dict[Split, str] = {"train": "train.tsv", "dev": "dev.tsv", "test": "test.tsv"}
OLD = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"
NEW = (
    "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes"
    "\tage\tgender\taccents\tvariant\tlocale\tsegment"
)


def release(folder: Path, clips: list[str], **tables: bytes | str) -> Path:
    """A release with these clips and tables; splits not named have no rows."""
    (folder / "clips").mkdir(parents=True)
    for name in clips:
        (folder / "clips" / name).write_bytes(b"audio")
    for name, content in ({"train": OLD, "dev": OLD, "test": OLD} | tables).items():
        (folder / f"{name}.tsv").write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def old(client: str, path: str, sentence: str) -> str:
    return f"\n{client}\t{path}\t{sentence}\t2\t0\t\t\t"


def reasons(listing: Listing) -> list[tuple[str, str, str]]:
    return sorted((reject.id, reject.split, reject.reason) for reject in listing.rejects)


def test_old_release_without_extension(tmp_path: Path) -> None:
    folder = release(
        tmp_path, ["0a1b.mp3", "2c.mp3"], train=OLD + old("c1", "0a1b", "Hallo!"), test=OLD + old("c2", "2c", "Ja")
    )
    first, second = read(folder, TABLES).utterances
    assert (first.id, first.split, first.text, first.speaker, first.file) == (
        "0a1b",
        "train",
        "Hallo!",
        "c1",
        "0a1b.mp3",
    )
    assert (second.id, second.split, second.bytes) == ("2c", "test", 5)


def test_new_release_by_column_names(tmp_path: Path) -> None:
    row = "\nspk\tcommon_voice_de_1.mp3\tsid\tGuten Tag.\tgeneral\t2\t0\tteens\t\tDeutschland\t\tde\t"
    folder = release(tmp_path, ["common_voice_de_1.mp3"], train=NEW + row)
    (found,) = read(folder, TABLES).utterances
    assert (found.id, found.text, found.speaker) == ("common_voice_de_1", "Guten Tag.", "spk")


def test_other_audio_extensions_are_kept(tmp_path: Path) -> None:
    folder = release(tmp_path, ["a.flac", "b.x.mp3"], train=OLD + old("c", "a.flac", "eins") + old("c", "b.x", "zwei"))
    assert [(u.id, u.file) for u in read(folder, TABLES).utterances] == [("a", "a.flac"), ("b.x", "b.x.mp3")]


def test_quotation_marks_are_characters(tmp_path: Path) -> None:
    rows = old("c", "a", '"Er kam') + old("c", "b", 'und "sie" ging') + old("c", "d", '""')
    folder = release(tmp_path, ["a.mp3", "b.mp3", "d.mp3"], train=OLD + rows)
    assert [u.text for u in read(folder, TABLES).utterances] == ['"Er kam', 'und "sie" ging', '""']


def test_byte_order_mark_crlf_blank_lines_and_odd_separators(tmp_path: Path) -> None:
    rows = (old("c", "a", "eins\u2028zwei\x85drei") + "\n" + old("c", "b", "vier\rfünf")).replace("\n", "\r\n") + "\r\n"
    folder = release(tmp_path, ["a.mp3", "b.mp3"], train=b"\xef\xbb\xbf" + (OLD + rows).encode())
    listing = read(folder, TABLES)
    assert [u.text for u in listing.utterances] == ["eins\u2028zwei\x85drei", "vier\rfünf"]
    assert listing.rejects == []


def test_empty_text_is_not_this_rooms_business(tmp_path: Path) -> None:
    folder = release(tmp_path, ["a.mp3"], train=OLD + old("c", "a", ""))
    assert [u.text for u in read(folder, TABLES).utterances] == [""]


def test_rejects(tmp_path: Path) -> None:
    train = (
        OLD + old("c", "a", "eins") + old("c", "a.mp3", "noch einmal") + old("c", "gone", "weg") + old("c", "t", "drin")
    )
    folder = release(tmp_path, ["a.mp3", "t.mp3"], train=train, test=OLD + old("c", "t", "drin"))
    listing = read(folder, TABLES)
    assert [(u.id, u.split, u.text) for u in listing.utterances] == [("a", "train", "eins"), ("t", "test", "drin")]
    assert reasons(listing) == [
        ("a", "train", "duplicate id"),
        ("gone", "train", "missing clip"),
        ("t", "train", "duplicate id"),  # test keeps it
    ]


@pytest.mark.parametrize(
    "row",
    [
        b"\nc\ta\teins\t2",
        b"\nc\ta\tein\ts\t2\t0\t\t\t",
        b"\nc\ta\t\xff\xfe\t2\t0\t\t\t",
        *(
            f"\nc\t{path}\teins\t2\t0\t\t\t".encode()
            for path in ("../a.mp3", "/etc/passwd", "x/a.mp3", "", ".mp3", "..\\a")
        ),
    ],
)
def test_malformed_rows_name_their_line(row: bytes, tmp_path: Path) -> None:
    table = OLD.encode() + old("c", "a", "gut").encode() + row + old("c", "b", "auch gut").encode()
    listing = read(release(tmp_path, ["a.mp3", "b.mp3"], train=table), TABLES)
    assert [u.id for u in listing.utterances] == ["a", "b"]
    assert reasons(listing) == [("train.tsv:3", "train", "malformed row")]


def test_missing_column_and_encoding(tmp_path: Path) -> None:
    folder = release(tmp_path / "a", [], train="client_id\tpath\ttext")
    with pytest.raises(UserError, match=r"train\.tsv: no column sentence.*found: client_id, path, text"):
        read(folder, TABLES)
    folder = release(tmp_path / "b", [], train=OLD.encode("utf-16"))
    with pytest.raises(UserError, match="UTF-8"):
        read(folder, TABLES)
    with pytest.raises(UserError, match="no column client_id"):
        read(release(tmp_path / "c", [], train=b""), TABLES)


def test_missing_table_and_delta_release(tmp_path: Path) -> None:
    folder = release(tmp_path / "full", [])
    (folder / "dev.tsv").unlink()
    with pytest.raises(UserError, match=r"has no dev\.tsv; name its tables"):
        read(folder, TABLES)
    assert read(folder, {"train": "train.tsv", "test": "test.tsv"}).utterances == []
    delta = tmp_path / "cv-corpus-21.0-delta-2025-03-14" / "de"
    (delta / "clips").mkdir(parents=True)
    with pytest.raises(UserError, match="delta release"):
        read(delta, TABLES)


def test_the_folder_of_a_language_is_found(tmp_path: Path) -> None:
    german = release(tmp_path / "cv-corpus-9" / "de", [])
    assert find_release(german, "de") == german
    assert find_release(tmp_path, "de") == german
    swiss = release(tmp_path / "cv-corpus-9" / "gsw", [])
    assert find_release(tmp_path / "cv-corpus-9", "gsw") == swiss
    with pytest.raises(UserError, match="several corpora"):
        find_release(tmp_path / "cv-corpus-9", "fr")
    with pytest.raises(UserError, match="no folder clips/"):
        find_release(german / "clips", "de")
    with pytest.raises(UserError, match="no such folder"):
        find_release(tmp_path / "nowhere", "de")


def test_reading_is_linear(tmp_path: Path) -> None:
    rows = "".join(old(f"speaker{i % 500}", f"clip{i}", f"Satz Nummer {i}") for i in range(20000))
    folder = release(tmp_path, [], train=OLD + rows)
    start = time.process_time()
    listing = read(folder, TABLES)
    assert len(listing.rejects) == 20000
    assert time.process_time() - start < 5  # a quadratic reader takes minutes
