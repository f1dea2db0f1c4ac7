"""Features kept on disk are those that would be computed, whoever writes beside whom, is killed, or fills the disk."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training.conftest import TASKS, Bench, sentences, write_split
from thaw.canonical import digest
from thaw.config.run import RunRecipe
from thaw.config.schema import AugmentationSpec
from thaw.corpora.manifest import Utterance, read_manifest
from thaw.files import read_json
from thaw.frontends import features
from thaw.planning.ours import foreign_features
from thaw.training import begin as begin_module
from thaw.training import data as data_module
from thaw.training import store as store_module
from thaw.training.augment import Augment, at_speed
from thaw.training.begin import Job, begin
from thaw.training.data import Examples
from thaw.training.distributed import World
from thaw.training.store import RECORD, Store, identity, name_of

FRONTEND = "deepspeech"


@pytest.fixture
def clips(tmp_path: Path) -> list[Utterance]:
    return read_manifest(write_split(tmp_path, "train", sentences("train", 12)))


def open_store(tmp_path: Path, clips: list[Utterance], limit: float = 1e9, said: list[str] | None = None) -> Store:
    say = (lambda text: None) if said is None else said.append
    return Store(tmp_path / "features", FRONTEND, (clip.digest for clip in clips), limit, say)


def made_of(clip: Utterance, speed: float = 1.0) -> NDArray[np.float32]:
    return features(FRONTEND, clip.pcm() if speed == 1.0 else at_speed(clip.pcm(), speed))


def fill(store: Store, clips: list[Utterance], speed: float = 1.0) -> None:
    for clip in clips:
        assert store.put(clip.digest, clip.samples, speed, made_of(clip, speed))


def assert_all_there(store: Store, clips: list[Utterance], speed: float = 1.0) -> None:
    for clip in clips:
        kept = store.get(clip.digest, clip.samples, speed)
        assert kept is not None
        assert kept.dtype == np.float32
        assert kept.tobytes() == made_of(clip, speed).tobytes()
        assert not kept.flags.writeable


def test_what_is_kept_is_what_was_computed_at_each_speed(tmp_path: Path, clips: list[Utterance]) -> None:
    store = open_store(tmp_path, clips)
    assert store.get(clips[0].digest, clips[0].samples, 1.0) is None
    for speed in (1.0, 0.9):
        fill(store, clips, speed)
    for each in (store, open_store(tmp_path, clips)):
        assert_all_there(each, clips)
        assert_all_there(each, clips, 0.9)
        assert each.get(clips[0].digest, clips[0].samples, 1.1) is None
        assert each.get(clips[0].digest, clips[0].samples + 1, 1.0) is None  # of other audio
    assert len(list(store.folder.glob("*.index"))) == 1


def test_it_is_named_by_what_the_front_end_makes_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = name_of(FRONTEND)
    store = open_store(tmp_path, [])
    fill(open_store(tmp_path, clips := read_manifest(write_split(tmp_path, "x", sentences("x", 1)))), clips)
    assert store.folder.name == name
    assert digest(read_json(store.folder / "store.json")) == name[-10:]
    assert foreign_features(store.folder) == ""
    assert name_of("nemo-v0.10") != name_of("nemo-v1.0")
    identity.cache_clear()
    monkeypatch.setattr(store_module, "features", lambda name, pcm: np.nextafter(features(name, pcm), np.float32(9)))
    assert name_of(FRONTEND) != name  # another processor, another library: one bit
    identity.cache_clear()


@pytest.mark.parametrize("case", ["silence", "noise of one bit", "clipping", "another speed", "an odd length"])
def test_what_few_clips_go_through_is_part_of_the_name(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """A floor below the logarithm, say, is nothing to speech: who moves it must not read what was kept before."""
    concerned = {
        "silence": lambda pcm: not pcm.any(),
        "noise of one bit": lambda pcm: 0 < np.abs(pcm).max() <= 2,
        "clipping": lambda pcm: (np.abs(pcm.astype(np.float64)) >= 32767).mean() > 0.01,
        "another speed": lambda pcm: pcm.dtype == np.float32,
        "an odd length": lambda pcm: len(pcm) % 160 != 0,
    }[case]
    name = name_of(FRONTEND)
    identity.cache_clear()
    made = store_module.features
    monkeypatch.setattr(store_module, "features", lambda name, pcm: made(name, pcm) + concerned(pcm))
    assert name_of(FRONTEND) != name
    identity.cache_clear()


def test_a_second_one_knows_what_the_first_adds(
    tmp_path: Path, clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LOOK_SECONDS", 0.0)
    first, second = open_store(tmp_path, clips), open_store(tmp_path, clips[:9])
    fill(first, clips[:6])
    fill(second, clips[6:9])
    assert_all_there(second, clips[:9])
    assert_all_there(first, clips[:9])
    assert len(list(first.folder.glob("*.index"))) == 2
    size = sum(path.stat().st_size for path in first.folder.glob("*.features"))
    fill(second, clips[:6])  # which are there
    assert sum(path.stat().st_size for path in first.folder.glob("*.features")) == size
    assert len(open_store(tmp_path, clips[:2])) == 2  # a store knows of its own clips alone


def write_all_of(folder: Path, manifest: Path) -> None:
    clips = read_manifest(manifest)
    store = Store(folder / "features", FRONTEND, [clip.digest for clip in clips], 1e9)
    fill(store, clips)
    assert_all_there(store, clips)


def test_processes_write_at_once(tmp_path: Path) -> None:
    manifest = write_split(tmp_path, "train", sentences("train", 30))
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_all_of, args=(tmp_path, manifest)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    clips = read_manifest(manifest)
    assert_all_there(open_store(tmp_path, clips), clips)


def test_a_fork_writes_a_file_of_its_own(tmp_path: Path, clips: list[Utterance]) -> None:
    store = open_store(tmp_path, clips)
    fill(store, clips[:4])
    process = multiprocessing.get_context("fork").Process(target=fill, args=(store, clips[4:8]))
    process.start()
    fill(store, clips[8:])
    process.join(60)
    assert process.exitcode == 0
    assert_all_there(open_store(tmp_path, clips), clips)
    assert len(list(store.folder.glob("*.index"))) == 2


def test_what_a_kill_or_a_crash_leaves_is_not_believed(tmp_path: Path, clips: list[Utterance]) -> None:
    store = open_store(tmp_path, clips)
    fill(store, clips)
    (index,) = store.folder.glob("*.index")
    (data,) = store.folder.glob("*.features")
    records = np.frombuffer(index.read_bytes(), RECORD)
    features_now, index_now = bytearray(data.read_bytes()), bytearray(index.read_bytes())
    features_now[int(records[1]["offset"]) + 5] ^= 1  # the disk's fault
    index_now[2 * RECORD.itemsize + 17] ^= 1
    data.write_bytes(features_now[: int(records[11]["offset"]) + 7])  # the last one is cut off, its record is not
    index.write_bytes(index_now[: 11 * RECORD.itemsize] + index_now[11 * RECORD.itemsize :][:-7])
    del store
    after = open_store(tmp_path, clips)
    lost = [place for place, clip in enumerate(clips) if after.get(clip.digest, clip.samples, 1.0) is None]
    assert lost == [1, 2, 11]
    fill(after, [clips[place] for place in lost])
    assert_all_there(after, clips)
    assert_all_there(open_store(tmp_path, clips), clips)


def test_it_takes_no_more_than_it_may(tmp_path: Path, clips: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "WEIGH_BYTES", 0)
    said: list[str] = []
    store = open_store(tmp_path, clips, limit=20_000, said=said)
    kept = [store.put(clip.digest, clip.samples, 1.0, made_of(clip)) for clip in clips]
    assert kept == sorted(kept, reverse=True)
    assert 0 < sum(kept) < len(clips)
    assert len(said) == 1
    assert "fill the 2e-05 GB" in said[0]
    assert_all_there(open_store(tmp_path, clips), clips[: sum(kept)])
    examples = Examples(clips, TASKS, FRONTEND, store=open_store(tmp_path, clips, limit=1))
    for index, clip in enumerate(examples.utterances):
        assert np.array_equal(examples.features(index), made_of(clip))
    assert len(examples.cache) == len(clips) - sum(kept)  # what finds no place on disk is kept in memory


def test_what_others_rename_while_it_is_weighed_ends_nothing(
    tmp_path: Path, clips: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process's `store.json`, say, before it has its name."""
    monkeypatch.setattr(store_module, "WEIGH_BYTES", 0)
    store = open_store(tmp_path, clips)
    look = Path.stat

    def renamed(self: Path, **how: Any) -> os.stat_result:
        found = look(self, **how)
        if self.suffix == ".part":
            self.unlink()
        return found

    monkeypatch.setattr(Path, "stat", renamed)
    for clip in clips:
        store.root.mkdir(exist_ok=True)
        (store.root / f".store.json.{clip.samples}.part").touch()
        assert store.put(clip.digest, clip.samples, 1.0, made_of(clip))
    assert_all_there(store, clips)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_ends_no_training(
    tmp_path: Path, clips: list[Utterance], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(*arguments: Any) -> int:
        raise OSError(code, os.strerror(code))

    said: list[str] = []
    store = open_store(tmp_path, clips, said=said)
    fill(store, clips[:3])
    monkeypatch.setattr(os, "pwrite", full)
    assert not store.put(clips[3].digest, clips[3].samples, 1.0, made_of(clips[3]))
    assert not store.put(clips[4].digest, clips[4].samples, 1.0, made_of(clips[4]))
    assert len(said) == 1
    assert os.strerror(code) in said[0]
    assert "computed in every epoch" in said[0]
    assert_all_there(store, clips[:3])


def test_a_store_that_is_deleted_while_it_is_used_is_missed_by_nobody(tmp_path: Path, clips: list[Utterance]) -> None:
    store = open_store(tmp_path, clips)
    fill(store, clips[:6])
    for path in store.folder.iterdir():
        path.unlink()
    store.folder.rmdir()
    assert_all_there(store, clips[:6])
    fill(store, clips[6:])
    assert_all_there(store, clips)


def test_dither_passes_it_by(tmp_path: Path, clips: list[Utterance]) -> None:
    store = open_store(tmp_path, clips)
    examples, plain = Examples(clips, TASKS, FRONTEND, store=store), Examples(clips, TASKS, FRONTEND)
    spec = AugmentationSpec.model_validate({"dither": 1e-4, "speed": [0.9, 1.1], "spec_augment": {}})
    for epoch in (1, 2):
        augment = Augment(spec, lambda samples: samples // 320, 1, epoch)
        assert torch.equal(examples.batch(range(12), augment).x, plain.batch(range(12), augment).x)
    assert not len(store)
    assert not store.folder.exists()


# --- in a training --------------------------------------------------------------------------------


def job_of(bench: Bench, store: Path | None, **recipe: Any) -> Job:
    run = RunRecipe.model_validate(bench.with_recipe(epochs=2, **recipe).recipe)
    return Job(run, [bench.train], [bench.dev], {}, bench.folder / "state", device="cpu", features=store)


def weights_of(job: Job, said: list[str]) -> dict[str, torch.Tensor]:
    learner = begin(job, World(), said.append).learner
    for _ in learner.run():
        pass
    return learner.weights()


@pytest.mark.parametrize("augmentation", [{}, {"speed": [0.9, 1.0, 1.1], "spec_augment": {}}], ids=["plain", "speed"])
def test_a_training_has_the_same_bits_and_a_second_one_computes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, augmentation: dict[str, Any]
) -> None:
    said: list[str] = []
    expected = weights_of(job_of(bench, None, augmentation=augmentation), said)
    assert said == []
    store = bench.folder / "features"
    weights_of(job_of(bench, store, augmentation=augmentation), said)
    assert not store.exists()  # minutes of audio are computed sooner
    monkeypatch.setattr(begin_module, "STORED_HOURS", 0.0)
    first = weights_of(job_of(bench, store, augmentation=augmentation), said)
    monkeypatch.setattr(data_module, "features", lambda *arguments: pytest.fail("computed again"))
    second = weights_of(job_of(bench, store, augmentation=augmentation), said)
    for weights in (first, second):
        assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert "; 0 are there" in said[0]
    assert "; 0 are there" not in said[1]
