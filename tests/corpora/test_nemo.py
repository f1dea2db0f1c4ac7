"""The user's own corpus as a NeMo manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.corpora.wavs import recording
from thaw.config.sources import ManifestSource
from thaw.corpora.listing import Listing
from thaw.corpora.nemo import read
from thaw.errors import UserError

NONE = {"dev": 0.0, "test": 0.0}


def manifest(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def listed(**source: Any) -> Listing:
    return read(ManifestSource.model_validate({"kind": "manifest", **source}))


def test_relative_and_absolute_paths_and_speakers(tmp_path: Path) -> None:
    recording(tmp_path / "m" / "wav" / "a.wav")
    away = recording(tmp_path / "elsewhere" / "b.flac")
    recording(tmp_path / "m" / "c.wav")
    rows = [
        {"audio_filepath": "wav/a.wav", "duration": 0.2, "text": "one", "speaker": 7},
        {"audio_filepath": str(away), "text": "two", "speaker": "ann", "offset": 0.0},
        {"audio_filepath": "c.wav", "text": "", "id": "third", "speaker": "bob", "lang": "en"},
    ]
    path = manifest(tmp_path / "m" / "all.jsonl", *rows)
    listing = listed(path=str(path), speakers={"dev": ["ann"], "test": ["bob"]})
    found = {u.id: (u.text, u.speaker, u.split, listing.clips / u.file) for u in listing.utterances}
    assert found == {
        "wav/a": ("one", "7", "train", tmp_path / "m" / "wav" / "a.wav"),
        str(away.with_suffix("")): ("two", "ann", "dev", away),
        "third": ("", "bob", "test", tmp_path / "m" / "c.wav"),
    }


def test_a_file_per_split(tmp_path: Path) -> None:
    files = {}
    for split in ("train", "dev", "test"):
        recording(tmp_path / split / f"{split}.wav")
        row = {"audio_filepath": f"{split}.wav", "text": split}
        files[split] = str(manifest(tmp_path / split / "manifest.json", row))
    listing = listed(splits=files)
    assert [(u.text, u.split, u.speaker) for u in listing.utterances] == [
        ("dev", "dev", "unknown"),
        ("test", "test", "unknown"),
        ("train", "train", "unknown"),
    ]


def test_splits_in_the_rows_and_rejects(tmp_path: Path) -> None:
    clips = [recording(tmp_path / f"{name}.wav").name for name in ("a", "b", "c")]
    rows: list[dict[str, Any]] = [
        {"audio_filepath": clip, "text": "x", "split": split}
        for clip, split in zip(clips, ("train", "val", "test"), strict=True)
    ]
    odd = [{"audio_filepath": "a.wav"}, {"audio_filepath": "no.wav", "text": "x"}, {**rows[0], "split": "dry run"}]
    listing = listed(path=str(manifest(tmp_path / "m.jsonl", *rows, *odd)))
    assert [(u.id, u.split) for u in listing.utterances] == [("a", "train"), ("b", "dev"), ("c", "test")]
    assert [(r.id, r.reason) for r in listing.rejects] == [
        ("m.jsonl:4", "malformed row"),
        ("no", "missing clip"),
        ("m.jsonl:6", "unknown split"),
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"audio_filepath": "a.wav", "text": "x", "offset": 1.5},
            r"row 1 is a part of a longer recording \(offset 1.5\)",
        ),
        (["a.wav"], ":1: not a JSON object, but list"),
    ],
)
def test_what_a_user_can_mend(row: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        listed(path=str(manifest(tmp_path / "m.jsonl", row)))
    with pytest.raises(UserError, match="no such file"):
        listed(path=str(tmp_path / "gone.jsonl"))


@pytest.mark.parametrize("key", ["audio_filepath", "text", "speaker", "id", "split", "other"])
def test_half_of_a_surrogate_pair_is_a_malformed_row(tmp_path: Path, key: str) -> None:
    recording(tmp_path / "a.wav")
    good = {"audio_filepath": "a.wav", "text": "one", "speaker": "ann", "split": "train"}
    listing = listed(path=str(manifest(tmp_path / "m.jsonl", {**good, key: "\ud800"}, good)), held_out=NONE)
    assert [(reject.id, reject.reason) for reject in listing.rejects] == [("m.jsonl:1", "malformed row")]
    assert [u.id for u in listing.utterances] == ["a"]
