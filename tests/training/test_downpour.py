"""Late gradients: none late is plain Adagrad to the bit, and how late they are is what was asked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.aligned import align
from tests.training.conftest import Bench, same_but_for_time
from tests.training.test_frames import make_frames_bench, train
from thaw.config.run import RunRecipe
from thaw.files import read_json, read_jsonl
from thaw.models import load_tensors
from thaw.training.begin import Job, begin
from thaw.training.distributed import World
from thaw.training.downpour import Downpour


def with_learner(folder: Path, **spec: Any) -> Bench:
    folder.mkdir(exist_ok=True)
    return make_frames_bench(folder, epochs=3, learner={"kind": "downpour", **spec})


def learner_of(bench: Bench) -> Downpour:
    files = [align(bench.train), align(bench.dev)]
    recipe = RunRecipe.model_validate(bench.recipe)
    job = Job(recipe, [bench.train], [bench.dev], {}, bench.folder / "state", alignments=files, device="cpu")
    learner = begin(job, World(), print).learner
    assert isinstance(learner, Downpour)
    return learner


def test_one_replica_that_is_never_late_is_plain_adagrad_to_the_bit(tmp_path: Path) -> None:
    plain = make_frames_bench(tmp_path, epochs=3)
    late = plain.with_recipe(learner={"kind": "downpour"})
    assert train(plain, "plain")[0] == train(late, "late")[0] == 0
    for option in ("model", "optimizer"):
        tensors, _ = load_tensors(plain.outputs("plain")[option])
        others, _ = load_tensors(late.outputs("late")[option])
        assert tensors.keys() == others.keys()
        assert all(torch.equal(tensors[name], others[name]) for name in tensors)


@pytest.mark.parametrize(("spec", "late"), [({"replicas": 4}, 3), ({"replicas": 2, "staleness": 5}, 5)])
def test_gradients_are_of_the_weights_of_so_many_updates_ago(tmp_path: Path, spec: dict[str, int], late: int) -> None:
    learner = learner_of(with_learner(tmp_path, warm_start_steps=4, **spec))
    seen: list[Tensor] = []
    had: list[Tensor] = []
    plain_losses = learner.losses

    def losses(*args: Any) -> Any:
        seen.append(learner.optimizer.parameters[0].detach().clone())
        return plain_losses(*args)

    learner.losses = losses  # type: ignore[method-assign]
    for batch in learner.batches(1)[:15]:
        had.append(learner.optimizer.parameters[0].detach().clone())
        learner.step(batch)
    for step in range(15):
        before = step if step < 4 else max(4, step - late)  # the warm start leaves all replicas its last weights
        assert torch.equal(seen[step], had[before]), step


def test_lateness_changes_what_is_learnt(tmp_path: Path) -> None:
    """A server alone with its replica learns other weights than one whose replicas are late."""
    benches = [with_learner(tmp_path / str(n), replicas=n) for n in (1, 8)]
    for bench in benches:
        assert train(bench, "out")[0] == 0
    one, many = (load_tensors(bench.outputs("out")["model"])[0] for bench in benches)
    assert any(not torch.equal(one[name], many[name]) for name in one)
    row = read_jsonl(benches[1].outputs("out")["metrics"])[0]
    assert (row["replicas"], row["staleness"]) == (8, 7)
    assert row["parallel_seconds"] == pytest.approx(row["step_seconds"] * 20 / 8)


def test_a_late_training_resumes_to_the_bit(tmp_path: Path) -> None:
    bench = with_learner(tmp_path, replicas=3, warm_start_steps=5)
    assert train(bench, "whole", state="state-whole")[0] == 0
    for _ in range(4):
        train(bench, "out", "--budget", "0.001")
    assert train(bench, "out")[0] == 0
    for option in ("model", "optimizer"):
        assert bench.outputs("out")[option].read_bytes() == bench.outputs("whole")[option].read_bytes()
    assert same_but_for_time(*(strip(read_jsonl(bench.outputs(out)["metrics"])) for out in ("whole", "out")))
    assert read_json(bench.outputs("out")["record"])["learner"] == {"kind": "downpour", "reproducible": True}


def strip(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "parallel_seconds"} for row in rows]


def test_processes_on_one_host_learn_too_and_say_that_they_race(tmp_path: Path) -> None:
    bench = with_learner(tmp_path, replicas=2, warm_start_steps=3, mode="processes")
    code, error = train(bench, "out")
    assert code == 0, error
    rows = read_jsonl(bench.outputs("out")["metrics"])
    assert [row["step"] for row in rows] == [20, 40, 60]  # every batch once in every epoch
    assert Counter(row["utterances"] for row in rows) == {40: 3}
    assert rows[-1]["dev_fer"] < rows[0]["dev_fer"]
    assert all(np.isfinite(row["staleness"]) and row["staleness"] <= row["most_staleness"] for row in rows)
    record = read_json(bench.outputs("out")["record"])
    assert record["learner"] == {"kind": "downpour", "reproducible": False}
    assert record["checks"]["end"]["without_gradient"] == []
