"""The user's own table: columns by name, splits given or made, errors that name the place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.corpora.wavs import recording
from thaw.config.sources import TableSource
from thaw.corpora.listing import Listing
from thaw.corpora.table import read
from thaw.errors import UserError

HEAD = "path\ttext\tspeaker\n"


def table(folder: Path, rows: str, name: str = "t.tsv", head: str = HEAD) -> Path:
    """A table beside clips a.wav, b.flac, c.ogg."""
    for clip in ("a.wav", "b.flac", "c.ogg"):
        recording(folder / "clips" / clip)
    path = folder / name
    path.write_text(head + rows, encoding="utf-8")
    return path


def listed(path: Path, **source: Any) -> Listing:
    return read(TableSource.model_validate({"kind": "table", "path": str(path), **source}))


def reasons(listing: Listing) -> list[tuple[str, str, str]]:
    return [(reject.id, reject.reason, reject.detail) for reject in listing.rejects]


THREE = 'clips/a.wav\tone\tann\nclips/b.flac\ttwo\tbob\nclips/c.ogg\t"three\tcay\n'


def test_speakers_make_the_splits(tmp_path: Path) -> None:
    listing = listed(table(tmp_path, THREE), speakers={"dev": ["bob"], "test": ["cay"]})
    assert [(u.id, u.text, u.speaker, u.split) for u in listing.utterances] == [
        ("clips/a", "one", "ann", "train"),
        ("clips/b", "two", "bob", "dev"),
        ("clips/c", '"three', "cay", "test"),  # between tabs, a quotation mark is a character
    ]
    assert next(listing.clips / u.file for u in listing.utterances) == tmp_path / "clips" / "a.wav"
    assert all(u.bytes == (listing.clips / u.file).stat().st_size for u in listing.utterances)


def test_columns_audio_folder_and_a_column_of_splits(tmp_path: Path) -> None:
    head = "File;Was;Wer;Nr;Satz\n"
    rows = 'a.wav;"eins; zwei";ann;x1;train\nb.flac;"sagt ""drei""";bob;x2;Validation\nc.ogg;vier;cay;x3;TEST\n'
    columns = {"path": "File", "text": "Was", "speaker": "Wer", "id": "Nr", "split": "Satz"}
    path = table(tmp_path, rows, "t.csv", head)
    listing = listed(path, columns=columns, delimiter=";", audio=str(tmp_path / "clips"))
    assert [(u.id, u.text, u.split) for u in listing.utterances] == [
        ("x1", "eins; zwei", "train"),
        ("x2", 'sagt "drei"', "dev"),
        ("x3", "vier", "test"),
    ]


def test_a_file_per_split(tmp_path: Path) -> None:
    files = {}
    for split, row in zip(("train", "dev", "test"), THREE.splitlines(), strict=True):
        files[split] = str(table(tmp_path, f"{row}\n", f"{split}.tsv"))
    listing = read(TableSource.model_validate({"kind": "table", "splits": files}))
    assert [(u.id, u.split) for u in listing.utterances] == [
        ("clips/a", "train"),
        ("clips/b", "dev"),
        ("clips/c", "test"),
    ]


def test_rejects(tmp_path: Path) -> None:
    rows = THREE + "clips/a.wav\tagain\tann\nclips/gone.wav\tgone\tann\nclips/b.flac\ttwo\n\ttwo\tbob\n\n"
    listing = listed(table(tmp_path, rows))
    assert [u.id for u in listing.utterances] == ["clips/a", "clips/b", "clips/c"]
    assert reasons(listing) == [
        ("clips/a", "duplicate id", "the clip is listed before, here or in another split"),
        ("clips/gone", "missing clip", str(tmp_path / "clips" / "gone.wav")),
        ("t.tsv:7", "malformed row", "2 cells, not 3"),
        ("t.tsv:8", "malformed row", "no path"),
    ]
    head = "path\ttext\tspeaker\tset\n"
    path = table(tmp_path, "".join(f"{row}\tholdout\n" for row in THREE.splitlines()), head=head)
    assert {reason for _, reason, _ in reasons(listed(path, columns={"split": "set"}))} == {"unknown split"}


def test_a_table_without_speakers_keeps_its_splits(tmp_path: Path) -> None:
    head, rows = "path\ttext\tset\n", "clips/a.wav\tone\ttrain\nclips/b.flac\ttwo\tdev\nclips/c.ogg\tthree\ttest\n"
    listing = listed(table(tmp_path, rows, head=head), columns={"speaker": "", "split": "set"})
    assert {u.speaker for u in listing.utterances} == {"unknown"}
    with pytest.raises(UserError, match="1 speakers cannot make the splits train, test, dev"):
        listed(table(tmp_path, rows, head=head), columns={"speaker": ""})


@pytest.mark.parametrize(
    ("content", "source", "said"),
    [
        (b"file\ttext\tspeaker\n", {}, r"t\.tsv: no column 'path'.*'file', 'text', 'speaker'; name the columns"),
        (b"path,text,speaker\n", {}, r"no column 'path'.*'path,text,speaker'.*check `delimiter`"),
        (b"", {}, r"no column 'path' in its first line, which has nothing|''"),
        (b"path\ttext\tspeaker\na\t\xff\tb\n", {}, "not a UTF-8 text"),
        (b'path\ttext\tspeaker\na\t"b\tc\n', {"quotes": True}, r"t\.tsv:\d+: unexpected end.*`quotes: false`"),
        (b"path\ttext\tspeaker\ta\n", {"columns": {"split": "set"}}, "no column 'set'"),
    ],
)
def test_what_a_user_can_mend(content: bytes, source: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said):
        listed(path, **source)


def test_names_and_a_split_contradict_each_other(tmp_path: Path) -> None:
    head = "path\ttext\tspeaker\tset\n"
    path = table(tmp_path, "clips/a.wav\tone\tann\ttest\n", head=head)
    with pytest.raises(UserError, match="has its own test"):
        listed(path, columns={"split": "set"}, speakers={"test": ["ann"]})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "give either path"),
        ({"path": "a", "splits": {"train": "b"}}, "give either path"),
        ({"splits": {"dev": "b"}}, "train is missing"),
        ({"path": "a", "speakers": {"dev": ["x"], "test": ["x"]}}, "both in dev and test: x"),
        ({"path": "a", "held_out": {"dev": 0.5, "test": 0.5}}, "nothing to train on"),
        ({"path": "a", "delimiter": "||"}, "delimiter"),
    ],
)
def test_what_a_config_cannot_say(source: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TableSource.model_validate({"kind": "table", **source})
