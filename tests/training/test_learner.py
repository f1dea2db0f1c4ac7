"""A session drives any learner: saves it between its units of work, resumes it, stops it, and writes what it gives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from tests.training.conftest import ALPHABET, Bench, make_recipe
from thaw.config.run import RunRecipe
from thaw.errors import Unfinished, UserError
from thaw.files import read_json, read_jsonl
from thaw.models import build, load_model
from thaw.training import session
from thaw.training.begin import Job
from thaw.training.learner import Diverged, Kept, Learner, Moment, Place
from thaw.units import EVERY, Alphabet

ROUNDS = 3


class Counter:
    """A learner without an optimiser or data: each round adds one to every weight; the second epoch is the best."""

    def __init__(self, recipe: RunRecipe, fail: bool = False) -> None:
        self.recipe = recipe
        self.fail = fail
        self.model = build(recipe.model, len(recipe.alphabet) + 1)
        for parameter in self.model.parameters():
            torch.nn.init.zeros_(parameter)
        self.step, self.epoch, self.round = 0, 1, 0
        self.rows: list[dict[str, Any]] = []
        self.kept: dict[str, Kept] = {}

    def run(self) -> Iterator[Moment]:
        while self.epoch <= self.recipe.recipe.epochs:
            while self.round < ROUNDS:
                if self.fail:
                    raise Diverged("rounds lead nowhere")
                with torch.no_grad():
                    for parameter in self.model.parameters():
                        parameter += 1
                self.step, self.round = self.step + 1, self.round + 1
                yield Moment.STEP
            loss = float(abs(self.epoch - 2))
            self.rows.append({"epoch": self.epoch, "step": self.step, "train_loss": loss, "dev_loss": loss})
            if self.best and self.best["epoch"] == self.epoch:
                weights = {name: tensor.clone() for name, tensor in self.weights().items()}
                self.kept["best"] = Kept(self.epoch, weights, {"step": torch.tensor(self.step)})
            self.epoch, self.round = self.epoch + 1, 0
            yield Moment.EPOCH

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.weights())

    def facts(self) -> dict[str, Any]:
        return {"at": [self.step, self.epoch, self.round], "rows": self.rows}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        self.model.load_state_dict(dict(tensors))
        (self.step, self.epoch, self.round), self.rows = facts["at"], list(facts["rows"])

    @property
    def place(self) -> Place:
        return Place(self.epoch, self.round, self.step, ROUNDS * self.recipe.recipe.epochs, None, 0.0)

    @property
    def best(self) -> dict[str, Any] | None:
        return min(
            ({"epoch": row["epoch"], "dev_loss": row["dev_loss"]} for row in self.rows), key=of_loss, default=None
        )

    def weights(self) -> dict[str, Tensor]:
        return self.model.state_dict()

    def settle(self) -> None:
        pass

    def unsaved(self) -> dict[str, Kept]:
        kept, self.kept = self.kept, {}
        return kept

    def record(self) -> dict[str, Any]:
        return {"rounds": self.step}

    def unmoved(self) -> list[str]:
        return []


def of_loss(best: dict[str, Any]) -> float:
    return float(best["dev_loss"])


class Begun:
    """What `begin` gives, without a surgery."""

    units: ClassVar[dict[str, Alphabet]] = {EVERY: Alphabet(ALPHABET)}

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def check_end(self) -> dict[str, Any]:
        return {"end": "checked"}

    def check_kept(self, weights: Mapping[str, Tensor]) -> None:
        assert weights  # those of the best epoch, whatever this process has trained itself


@pytest.fixture
def job(bench: Bench) -> Job:
    recipe = RunRecipe.model_validate(make_recipe(epochs=4, snapshots=["first", "last"]))
    names = ("model.safetensors", "optimizer.safetensors", "snapshots.safetensors", "run.json", "metrics.jsonl")
    outputs = {name: bench.folder / "out" / name for name in names}
    return Job(recipe, [bench.train], [bench.dev], outputs, bench.folder / "state", device="cpu")


def begin_with(monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    monkeypatch.setattr(session, "begin", lambda job, world, say: Begun(Counter(job.recipe, **options)))


def test_a_learner_of_ones_own_is_saved_resumed_and_delivered(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_with(monkeypatch)
    starts = 0
    with monkeypatch.context() as hurry:
        hurry.setattr("thaw.training.stopping.Stop.reason", lambda self: "tired")
        for _ in range(5):  # a unit of work each: the best epoch is not reached yet, nor its weights taken
            with pytest.raises(Unfinished, match="tired"):
                session.train(job)
            starts += 1
    session.train(job)
    record = read_json(job.outputs["run.json"])
    assert (record["rounds"], record["checks"], record["cost"]["attempts"]) == (12, {"end": "checked"}, starts + 1)
    assert [row["step"] for row in read_jsonl(job.outputs["metrics.jsonl"])] == [3, 6, 9, 12]
    for snapshot, file, value in (("best", "model", 6), ("first", "snapshots", 0), ("last", "snapshots", 12)):
        weights = load_model(job.outputs[f"{file}.safetensors"], snapshot)[0].state_dict()
        assert all((tensor == value).all() for tensor in weights.values()), snapshot
    assert json.loads(json.dumps(record)) == record


def test_a_learner_that_diverges_is_not_started_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_with(monkeypatch, fail=True)
    with pytest.raises(UserError, match="rounds lead nowhere"):
        session.train(job)
    with pytest.raises(UserError, match="failed before, and would again"):
        session.train(job)
