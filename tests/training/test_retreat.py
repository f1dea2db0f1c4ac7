"""After an epoch that is worse than the best: its weights again, a smaller epsilon, and the same bits after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.training.test_central import make_learner, run_to_end
from thaw.config.schema import RecipeSpec
from thaw.training.judging import Dev
from thaw.training.learner import Moment

ADADELTA = {"optimizer": "adadelta", "learning_rate": 1.0, "rho": 0.95, "epsilon_decay": 0.01, "epochs": 4}


def dev(loss: float) -> Dev:
    return Dev({"loss": loss, "cer": 0.5, "wer": 0.5}, 10, {})


def test_it_goes_back_and_takes_smaller_steps(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, **ADADELTA)
    epsilons, weights = [], []
    for loss in (3.0, 2.0, 2.5, 2.0, 2.1, 1.0):
        for batch in learner.batches(1):
            learner.step(batch)
        trained = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
        learner.close_epoch(dev(loss))
        epsilons.append(learner.optimizer.options["eps"])  # type: ignore[attr-defined]
        same = all(torch.equal(tensor, trained[name]) for name, tensor in learner.model.state_dict().items())
        weights.append(same)
    assert epsilons == pytest.approx([1e-8, 1e-8, 1e-10, 1e-10, 1e-12, 1e-12], rel=1e-9)
    assert weights == [True, True, False, True, False, True]  # as good as the best is not worse
    assert learner.progress.retreats == 2


def test_what_it_goes_back_to_is_the_best(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, **ADADELTA)
    learner.step(learner.batches(1)[0])
    learner.close_epoch(dev(2.0))
    best = learner.unsaved()["best"].weights
    learner.step(learner.batches(1)[0])
    learner.close_epoch(dev(3.0))
    assert all(torch.equal(tensor, best[name]) for name, tensor in learner.model.state_dict().items())


@pytest.mark.parametrize("done", [4, 9])
def test_a_kill_changes_no_bit(tmp_path: Path, done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dev gets worse after the first epoch, whatever is learnt: what is gone back to must be in the checkpoint."""

    def learner(name: str) -> Any:
        (tmp_path / name).mkdir()
        made = make_learner(tmp_path / name, **ADADELTA)
        # Every epoch is worse than the first. The task is one for all tests.
        monkeypatch.setattr(made.task, "select", lambda values: float(made.progress.epoch))
        return made

    whole = learner("whole")
    run_to_end(whole)
    assert whole.progress.retreats == 3
    first, steps = learner("first"), 0
    for moment in first.run():
        steps += moment is Moment.STEP
        if steps == done:
            break
    second = learner("second")
    second.restore(first.tensors(), first.facts())
    run_to_end(second)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    assert second.progress.retreats == 3


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"optimizer": "adam", "epsilon_decay": 0.01}, "epsilon_decay: adam has none; adadelta has"),
        ({"optimizer": "adadelta", "epsilon_decay": 0}, "greater than 0"),
    ],
)
def test_it_belongs_to_adadelta(recipe: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RecipeSpec(epochs=1, **recipe)
