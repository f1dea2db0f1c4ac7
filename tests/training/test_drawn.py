"""Frames drawn at random: each once in an epoch, with its own neighbours and label; the same ones after a resume."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.aligned import align
from tests.training.conftest import same_but_for_time, sentences, write_split
from tests.training.test_frames import DNN, frames_recipe, make_frames_bench, train
from thaw.config.run import RunRecipe
from thaw.config.schema import AugmentationSpec, RecipeSpec
from thaw.config.tasks import FramesSpec
from thaw.files import read_json, read_jsonl, write_jsonl
from thaw.models.layered import LayeredModel
from thaw.training.augment import Augment
from thaw.training.begin import Job, begin
from thaw.training.central import Central
from thaw.training.data import Examples
from thaw.training.distributed import World
from thaw.training.drawn import Drawn

TASK: dict[str, Any] = {"kind": "frames", "drawn": 32}


def augment(epoch: int) -> Augment:
    return Augment(AugmentationSpec(), lambda samples: 0, 1, epoch)


def learner_of(folder: Path, langs: tuple[str, ...] = (), **changes: Any) -> Central:
    """A learner of 16 utterances a language, at its first step."""
    recipe = frames_recipe(task=TASK, **changes)
    splits: dict[str, list[Path]] = {"train": [], "dev": []}
    for split, paths in splits.items():
        for lang in langs or ("xx",):
            path = write_split(folder, f"{split}-{lang}", sentences(f"{split}{lang}", 16 if split == "train" else 4))
            write_jsonl(path, [{**row, "lang": lang} for row in read_jsonl(path)])
            paths.append(path)
    files = [align(path) for path in (*splits["train"], *splits["dev"])]
    many = {"heads": dict.fromkeys(langs, ""), "corpora": list(langs), "alignments": list(langs)} if langs else {}
    run = RunRecipe.model_validate({**recipe, **many})
    job = Job(run, splits["train"], splits["dev"], {}, folder / "state", alignments=files, device="cpu")
    learner = begin(job, World(), print).learner
    assert isinstance(learner, Central)
    return learner


def drawn_of(learner: Central) -> Drawn:
    assert isinstance(learner.examples, Drawn)
    return learner.examples


def frames_and_labels(examples: Examples) -> list[tuple[bytes, int]]:
    """All frames of whole utterances, each with its label, sorted."""
    rows = []
    for index, labels in enumerate(examples.labels):
        rows += [(row.tobytes(), int(label)) for row, label in zip(examples.features(index), labels, strict=True)]
    return sorted(rows)


def dealt(drawn: Drawn, batches: list[list[int]], epoch: int, middle: slice) -> list[tuple[bytes, int]]:
    """The frames of an epoch as they come, without their neighbours, each with its label."""
    rows = []
    for indices in batches:
        batch = drawn.batch(indices, augment(epoch))
        valid = [row[:length] for row, length in zip(batch.x.numpy(), batch.lengths, strict=True)]
        rows += [
            (x[middle].tobytes(), int(label)) for x, label in zip(np.concatenate(valid), batch.targets, strict=True)
        ]
    return rows


@pytest.mark.parametrize("pool_hours", [10.0, 1 / 3600])  # one pool; a pool for every other utterance or so
def test_every_frame_comes_once_in_an_epoch_with_its_label(tmp_path: Path, pool_hours: float) -> None:
    learner = learner_of(tmp_path)
    whole = drawn_of(learner).whole
    drawn = Drawn(whole, FramesSpec(**TASK, pool_hours=pool_hours), DNN["context"])
    middle = slice(DNN["context"] * 40, (DNN["context"] + 1) * 40)
    epochs = [dealt(drawn, drawn.in_turn(learner.batches(epoch)), epoch, middle) for epoch in (1, 2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == frames_and_labels(whole)
    assert epochs[0] != epochs[1]
    pools = drawn._cuts("xx", augment(1))
    assert (len(pools) > 3) == (pool_hours < 1)
    assert all(one.end == other.begin for one, other in pairwise(pools))


def test_threads_deal_the_same_hands(tmp_path: Path) -> None:
    """Of more pools than are kept, so that threads throw out each other's."""
    whole = drawn_of(learner_of(tmp_path)).whole
    spec = FramesSpec(**TASK, pool_hours=1 / 3600)
    alone, together = (Drawn(whole, spec, DNN["context"]) for _ in range(2))
    wanted = [(epoch, hand) for hand in range(len(alone)) for epoch in (1, 2)] * 3
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda each: together.features(each[1], augment(each[0])), wanted))
    for (epoch, hand), rows in zip(wanted, found, strict=True):
        assert np.array_equal(rows, alone.features(hand, augment(epoch)))


def test_frames_in_a_hand_are_of_many_utterances(tmp_path: Path) -> None:
    drawn = drawn_of(learner_of(tmp_path))
    pool = drawn._pool("xx", drawn._cuts("xx", augment(1))[0], augment(1))
    assert len(set(pool.first[pool.order[:32]].tolist())) > 8  # of 16


def test_a_drawn_frame_gets_the_outputs_that_it_has_in_its_utterance(tmp_path: Path) -> None:
    learner = learner_of(tmp_path)
    drawn, model = drawn_of(learner), learner.model
    pool = drawn._pool("xx", drawn._cuts("xx", augment(1))[0], augment(1))
    own = [outputs(model, drawn.whole, index) for index in drawn._cuts("xx", augment(1))[0].utterances]
    batch = drawn.batch([0, 1], augment(1))
    with torch.no_grad():
        y, _ = model(batch.x, batch.lengths, upto=len(model.layers))
    torch.testing.assert_close(y.reshape(64, -1), torch.cat(own)[pool.order[:64]], rtol=1e-5, atol=1e-5)


def outputs(model: LayeredModel, examples: Examples, index: int) -> torch.Tensor:
    batch = examples.batch([index])
    with torch.no_grad():
        y, _ = model(batch.x, batch.lengths, upto=len(model.layers))
    return y[0]


def test_languages_are_mixed_in_every_batch_and_dealt_in_turn(tmp_path: Path) -> None:
    learner = learner_of(tmp_path, ("aa", "bb"), order="mixed", batch_size=4)
    drawn = drawn_of(learner)
    batches = learner.batches(1)
    assert all({drawn.hands[index][0] for index in batch} == {"aa", "bb"} for batch in batches[:-1])
    numbers = [drawn.hands[index] for batch in batches for index in batch]
    for lang in ("aa", "bb"):
        assert [number for its, number in numbers if its == lang] == list(range(sum(i == lang for i, _ in numbers)))
    loss = [learner.losses(drawn.batch(batch, augment(1)), None)[0].sum().isfinite() for batch in batches]
    assert all(loss)


def test_it_learns_and_resumes_to_the_bit(tmp_path: Path) -> None:
    bench = make_frames_bench(tmp_path, task=TASK, batch_size=4, dropout=0.1)
    assert train(bench, "whole", state="state-whole")[0] == 0
    for _ in range(3):
        train(bench, "out", "--budget", "0.001")
    assert train(bench, "out")[0] == 0
    for option in ("model", "optimizer"):
        assert bench.outputs("out")[option].read_bytes() == bench.outputs("whole")[option].read_bytes()
    rows = [read_jsonl(bench.outputs(name)["metrics"]) for name in ("whole", "out")]
    assert same_but_for_time(*rows)
    assert rows[0][0]["dev_fer"] > rows[0][-1]["dev_fer"] < 0.3
    assert read_json(bench.outputs("out")["record"])["corpora"]["train"]["utterances"] == 40


def test_behind_frozen_layers_their_outputs_are_drawn(tmp_path: Path) -> None:
    """What is computed once brings no neighbours along: the layer that splices is done."""
    first = make_frames_bench(tmp_path, epochs=1)
    assert train(first, "first")[0] == 0
    changes = {"start": "first", "freeze": ["hidden_1"], "reset": ["output"], "draw": 1}
    after = first.with_recipe(task=TASK, epochs=1, **changes)
    code, error = train(after, "after", "--start", str(first.outputs("first")["model"]), state="state-after")
    assert code == 0, error
    record = read_json(after.outputs("after")["record"])
    assert record["checks"]["computed_once"] == ["hidden_1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": "bucketed"}, "order: drawn frames have no duration to be bucketed by; set shuffled or mixed"),
        ({"order": "shuffled", "augmentation": {"spec_augment": {}}}, "masks are of an utterance"),
        ({"order": "shuffled", "learner": {"kind": "downpour", "mode": "processes"}}, "hear whole utterances"),
        ({"order": "shuffled", "task": {"kind": "frames", "pool_hours": 1.0}}, "set drawn"),
    ],
)
def test_what_drawn_frames_cannot_do_is_refused(changes: dict[str, Any], message: str) -> None:
    recipe = {"epochs": 1, "optimizer": "adagrad", "task": TASK, **changes}
    with pytest.raises(ValueError, match=message):
        RecipeSpec.model_validate(recipe)


def test_a_model_that_hears_more_than_a_frame_is_refused() -> None:
    recipe = {**frames_recipe(task=TASK), "model": {"kind": "blstm", "layers": 1, "cells": 4, "projection": 4}}
    with pytest.raises(ValueError, match="a blstm hears frames in their order"):
        RunRecipe.model_validate(recipe)
