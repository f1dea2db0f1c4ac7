"""The studio: levels, noise, and processes that never outlive their use."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from thaw.corpora import studio as module
from thaw.corpora.espeak import Manner
from thaw.corpora.studio import Clip, Studio, make, mp3, record
from thaw.errors import UserError

MANNER = Manner("m1", rate=170, pitch=50, range=50)


def studio(folder: Path, snr: float = 30.0, level: float = -15.0) -> Studio:
    return Studio("gmw/de", 16000, (snr, snr), (level, level), folder)


def clips(count: int) -> list[Clip]:
    return [Clip(f"clip{i}", "Guten Tag.", MANNER, seed=i) for i in range(count)]


def test_noise_and_level_are_as_asked() -> None:
    room = studio(Path(), snr=20.0, level=-15.0)
    speech = np.sin(np.arange(32000) * 0.1).astype(np.float32)
    sound = record(speech, room, seed=5)
    assert 20 * np.log10(np.abs(sound).max()) == pytest.approx(-15.0, abs=0.01)
    noise = sound[: int(0.05 * 16000)]  # the room before the words
    scale = np.abs(sound).max() / 1.3  # the sine's peak is 1, with noise about 1.3
    snr = 10 * np.log10(0.5 * scale**2 / np.mean(noise.astype(float) ** 2))
    assert snr == pytest.approx(20.0, abs=2.0)
    assert np.array_equal(sound, record(speech, room, seed=5))
    assert not np.array_equal(sound[:800], record(speech, room, seed=6)[:800])


def test_mp3_is_the_same_every_time() -> None:
    sound = np.sin(np.arange(16000) * 0.05).astype(np.float32) * 0.5
    first = mp3(sound, 16000)
    mp3(sound[::-1], 32000)
    assert mp3(sound, 16000) == first
    assert 2000 < len(first) < 20000


def test_an_error_in_a_process_reaches_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIPS_PER_PROCESS", 1)
    odd = [*clips(1), Clip("bad", "Guten Tag.", Manner("nosuchvariant", 170, 50, 50), seed=1)]
    with pytest.raises(UserError, match="nosuchvariant"):
        make(studio(tmp_path), odd, processes=2)


def test_a_process_that_dies_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fork = multiprocessing.get_context("fork")

    class Dead:
        """A context whose processes end at once, as those do that run out of memory."""

        Pipe = fork.Pipe

        @staticmethod
        def Process(**_: object) -> object:  # noqa: N802
            return fork.Process(target=os._exit, args=(9,), daemon=True)

    monkeypatch.setattr(module, "CLIPS_PER_PROCESS", 1)
    monkeypatch.setattr(module.multiprocessing, "get_context", lambda _: Dead())
    with pytest.raises(UserError, match="the same command goes on"):
        make(studio(tmp_path), clips(2), processes=2)


def test_a_process_stops_when_its_parent_is_gone(tmp_path: Path) -> None:
    module._make_clips(studio(tmp_path), clips(2), parent=os.getppid() + 1)
    assert list(tmp_path.iterdir()) == []
    module._make_clips(studio(tmp_path), clips(2), parent=os.getppid())
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "clips").write_text("not a folder")
    with pytest.raises(UserError, match="cannot use"):
        make(studio(tmp_path / "clips"), clips(1), processes=1)
