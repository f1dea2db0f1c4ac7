"""Snapshots that are means of the last epochs: exact, and the same bits after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.training.test_central import make_learner
from thaw.config.schema import RecipeSpec
from thaw.training.central import Central
from thaw.training.learner import Moment

HOW = {"epochs": 5, "snapshots": ["best", "mean-3", "mean-5", *(f"epoch-{n}" for n in range(1, 6))]}


def trained(learner: Central, snapshots: dict[str, Any], steps: int = 10_000) -> None:
    """Train, or so many steps; `snapshots` takes what is kept."""
    for moment in learner.run():
        snapshots |= {name: kept.weights for name, kept in learner.unsaved().items()}
        steps -= moment is Moment.STEP
        if not steps:
            return


def test_a_mean_is_that_of_the_last_epochs(tmp_path: Path) -> None:
    snapshots: dict[str, Any] = {}
    trained(make_learner(tmp_path, **HOW), snapshots)
    for count in (3, 5):
        for name, made in snapshots[f"mean-{count}"].items():
            rows = [snapshots[f"epoch-{epoch}"][name].double() for epoch in range(6 - count, 6)]
            assert torch.equal(made, (torch.stack(rows).sum(0) / count).float()), name
    assert not torch.equal(made, snapshots["epoch-5"][name])


@pytest.mark.parametrize("steps", [4, 11, 13])
def test_a_kill_changes_no_bit(tmp_path: Path, steps: int) -> None:
    learners = []
    for name in ("whole", "first", "second"):
        (tmp_path / name).mkdir()
        learners.append(make_learner(tmp_path / name, **HOW))
    whole, first, second = learners
    wanted, made = dict[str, Any](), dict[str, Any]()
    trained(whole, wanted)
    trained(first, made, steps)
    second.restore(first.tensors(), first.facts())
    trained(second, made)
    for name in ("mean-3", "mean-5"):
        assert all(torch.equal(tensor, made[name][key]) for key, tensor in wanted[name].items())


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"epochs": 3, "snapshots": ["mean-4"]}, "a training of 3 epochs has no mean-4"),
        ({"epochs": 9, "snapshots": ["mean-4"], "early_stop_epochs": 2}, "which epochs are the last is not known"),
        ({"epochs": 9, "snapshots": ["mean-0"]}, "pattern"),
    ],
)
def test_the_last_epochs_must_be_known(recipe: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RecipeSpec.model_validate(recipe)
