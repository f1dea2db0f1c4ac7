"""A synthesised corpus: the same bytes however it is made, in the layout of a Common Voice release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from thaw.config.schema import SyntheticSource
from thaw.corpora import studio
from thaw.corpora.commonvoice import read
from thaw.corpora.listing import Listing
from thaw.corpora.ownership import claim
from thaw.corpora.synthetic import TABLES, plan, synthesise
from thaw.errors import UserError

VOICES = {voice: voice for voice in ("de", "es", "ru", "fr", "it", "pt", "ro", "ca", "eu", "nl")}
VOICES |= {"en-us": "en", "pt-br": "pt_BR"}


def source(voice: str = "de", train: int = 4, **changes: Any) -> SyntheticSource:
    settings: dict[str, Any] = {
        "kind": "synthetic",
        "voice": voice,
        "locale": VOICES.get(voice, "de"),
        "utterances": {"train": train, "dev": 2, "test": 2},
        "speakers": {"train": 3, "dev": 2, "test": 2},
        "vocabulary": 30,
    }
    return SyntheticSource(**(settings | changes))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def listing(root: Path) -> Listing:
    return read(root, TABLES)


def test_same_seed_same_bytes_with_any_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthesise(source(), tmp_path / "one", processes=1)
    monkeypatch.setattr(studio, "CLIPS_PER_PROCESS", 1)
    synthesise(source(), tmp_path / "two", processes=2)
    assert len(contents(tmp_path / "one")) == 8 + 3 + 1
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_another_seed_gives_other_clips() -> None:
    one, two = plan(source(train=20)), plan(source(train=20, seed=2))
    assert [row.clip.name for row in one] == [row.clip.name for row in two]
    assert [row.clip.sentence for row in one] != [row.clip.sentence for row in two]
    assert not {row.speaker.client_id for row in one} & {row.speaker.client_id for row in two}


def test_an_interrupted_fetch_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesise(source(), tmp_path / "whole", processes=1)
    written: list[Path] = []

    def dies_after_three(path: Path, data: bytes, sealed: bool) -> None:
        if len(written) == 3:
            path.with_name(f".{path.name}.1.part").write_bytes(data[:100])
            raise KeyboardInterrupt
        written.append(path)
        path.write_bytes(data)

    with monkeypatch.context() as patch:
        patch.setattr(studio, "write_bytes", dies_after_three)
        with pytest.raises(KeyboardInterrupt):
            synthesise(source(), tmp_path / "killed", processes=1)
    times = {path: path.stat().st_mtime_ns for path in written}
    synthesise(source(), tmp_path / "killed", processes=1)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in written} == times  # these were not made again


def test_another_recipe_starts_over_in_the_same_folder(tmp_path: Path) -> None:
    synthesise(source(), tmp_path / "used", processes=1)
    synthesise(source(train=2, seed=2), tmp_path / "used", processes=1)
    synthesise(source(train=2, seed=2), tmp_path / "fresh", processes=1)
    assert contents(tmp_path / "used") == contents(tmp_path / "fresh")


def test_a_folder_of_the_users_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"thesis\.txt"):
        synthesise(source(), tmp_path)
    with pytest.raises(UserError, match=r"thesis\.txt"):
        claim(tmp_path, {})
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_speakers_and_sentences_are_disjoint_between_splits() -> None:
    sizes = {"speakers": {"train": 24, "dev": 2, "test": 2}, "utterances": {"train": 60, "dev": 9, "test": 9}}
    rows = plan(source(**sizes))
    sentences = {split: {row.clip.sentence for row in rows if row.split == split} for split in TABLES}
    speakers = {split: {row.speaker.client_id for row in rows if row.split == split} for split in TABLES}
    for found in (sentences, speakers):
        assert not found["train"] & found["test"]
        assert not found["train"] & found["dev"]
        assert not found["dev"] & found["test"]
    manners = {row.clip.manner for row in rows}
    assert len(manners) == len({row.speaker.client_id for row in rows}) == 28
    assert all(len(row.speaker.client_id) == 128 for row in rows)
    assert len({manner.variant for manner in manners}) == 16


def test_a_larger_corpus_begins_with_the_smaller() -> None:
    small = [row for row in plan(source(train=5)) if row.split == "train"]
    more = source(train=9, speakers={"train": 3, "dev": 1, "test": 5})
    large = [row for row in plan(more) if row.split == "train"]
    assert large[:5] == small


@pytest.mark.parametrize("voice", VOICES)
def test_every_language_speaks(voice: str, tmp_path: Path) -> None:
    one_each = {"train": 1, "dev": 1, "test": 1}
    synthesise(source(voice, utterances=one_each, phrases=(2, 2)), tmp_path, processes=1)
    found = listing(tmp_path)
    assert found.rejects == []
    assert [utterance.split for utterance in found.utterances] == ["train", "dev", "test"]
    for utterance in found.utterances:
        sound, rate = soundfile.read(tmp_path / "clips" / utterance.file)
        assert rate == 32000
        assert sound.ndim == 1
        seconds = len(sound) / rate
        assert 0.8 < seconds < 8
        assert 3 < len(utterance.text) / seconds < 20  # characters a second
        assert -27 < 20 * np.log10(np.abs(sound).max()) < -11
        loud = np.abs(sound) > 0.1 * np.abs(sound).max()
        assert loud.mean() > 0.04  # a click, or noise alone, is not speech


def test_the_table_has_the_columns_of_a_release(tmp_path: Path) -> None:
    synthesise(source("pt-br", train=1), tmp_path, processes=1)
    header, row = (tmp_path / "train.tsv").read_text(encoding="utf-8").splitlines()
    assert header.replace("\t", " ") == (
        "client_id path sentence_id sentence sentence_domain up_votes down_votes"
        " age gender accents variant locale segment"
    )
    cells = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert cells["path"] == "common_voice_pt-BR_10000000.mp3"
    assert cells["locale"] == "pt-BR"
    assert cells["gender"] in ("male_masculine", "female_feminine")
