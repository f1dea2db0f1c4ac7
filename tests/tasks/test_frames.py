"""The task `frames` as a learner sees it: cross entropy by frame, frame errors, weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.tasks.test_tasks import answer
from thaw.config.tasks import FramesSpec
from thaw.errors import UserError
from thaw.tasks import Frames, task_for
from thaw.training.data import Batch
from thaw.units import States, units_from

UNITS = States(4, "gmm")


def batch(*states: list[int]) -> Batch:
    frames = max(len(each) for each in states)
    return Batch(
        ids=tuple(map(str, range(len(states)))),
        x=torch.zeros(len(states), frames, 1),
        lengths=torch.tensor([len(each) for each in states]),
        targets=torch.tensor([state for each in states for state in each], dtype=torch.int32),
        target_lengths=torch.tensor([len(each) for each in states], dtype=torch.int32),
        langs=("xx",) * len(states),
        texts=("",) * len(states),
    )


def test_losses_are_sums_over_the_valid_frames_of_an_utterance() -> None:
    given = batch([0, 1, 3], [2])
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1))
    losses = Frames(UNITS).losses(answer(logits, given.lengths, given))
    log_probs = F.log_softmax(logits, dim=-1)
    assert losses[0].item() == pytest.approx(-float(log_probs[0, 0, 0] + log_probs[0, 1, 1] + log_probs[0, 2, 3]))
    assert losses[1].item() == pytest.approx(-float(log_probs[1, 0, 2]))


def test_counts_are_wrong_frames_over_frames() -> None:
    given = batch([0, 1, 3], [2])
    logits = F.one_hot(torch.tensor([[0, 2, 3], [2, 0, 0]]), 4).float()
    counts = Frames(UNITS).counts(answer(logits, given.lengths, given))
    assert {name: [(c.errors, c.total) for c in each] for name, each in counts.items()} == {"fer": [(1, 3), (0, 1)]}


def test_what_a_head_of_the_task_has() -> None:
    task = task_for(FramesSpec(kind="frames"), UNITS)
    assert (task.classes, task.measures, task.selects) == (4, ("fer",), "fer")
    assert task.select({"loss": 2.5, "fer": 0.25}) == 0.25
    assert task.weight(7) == 7


def test_states_are_no_text() -> None:
    with pytest.raises(UserError, match="alignment"):
        UNITS.encode("a")
    with pytest.raises(UserError, match="hybrid"):
        UNITS.decode([1])
    assert units_from({"units": UNITS.plain()})[""].plain() == UNITS.plain()
