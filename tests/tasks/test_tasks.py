"""The task `ctc` as a learner sees it: the same loss, counts per utterance, and what selects."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from thaw.config.tasks import CTC
from thaw.models import LayeredModel
from thaw.tasks import Ctc, task_for, tasks_for
from thaw.tasks.ctc import ctc_loss
from thaw.training.data import Batch
from thaw.training.forward import Answer
from thaw.units import EVERY, Alphabet, ctc_frames

UNITS = Alphabet(" ab")


def batch(texts: list[str], frames: int) -> Batch:
    labels = [UNITS.encode(text) for text in texts]
    return Batch(
        ids=tuple(map(str, range(len(texts)))),
        x=torch.zeros(len(texts), frames, 1),
        lengths=torch.full((len(texts),), frames),
        targets=torch.tensor([label for each in labels for label in each], dtype=torch.int32),
        target_lengths=torch.tensor([len(each) for each in labels], dtype=torch.int32),
        langs=("xx",) * len(texts),
        texts=tuple(texts),
    )


def answer(logits: torch.Tensor, frames: torch.Tensor, given: Batch) -> Answer:
    """What a head with these logits says."""
    rows = tuple(range(len(given.ids)))
    return Answer(EVERY, rows, given, {"output": logits}, frames, given.x, LayeredModel({}, {EVERY: ("output",)}))


def spelt(*texts: str) -> torch.Tensor:
    """Logits (B, T, V) whose best path writes a text, a blank after each letter."""
    longest = max(2 * len(text) for text in texts)
    classes = torch.full((len(texts), longest), UNITS.size)
    for row, text in enumerate(texts):
        classes[row, : 2 * len(text) : 2] = torch.tensor(UNITS.encode(text))
    return F.one_hot(classes, UNITS.size + 1).float() * 9


def test_counts_are_edits_of_each_utterance_over_its_reference() -> None:
    logits = spelt("ab b", "a  b", "bb")
    frames = torch.tensor([8, 8, 2])  # of the third, one letter is heard
    counts = Ctc(UNITS).counts(answer(logits, frames, batch(["ab a", "a b", ""], 8)))
    over = {name: [(each.errors, each.total) for each in edits] for name, edits in counts.items()}
    assert over == {"cer": [(1, 4), (0, 3), (1, 0)], "wer": [(1, 2), (0, 2), (1, 0)]}


def test_losses_are_those_of_the_function() -> None:
    given, frames = batch(["ab a", "bb"], 8), torch.tensor([8, 8])
    logits = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(1))
    expected = ctc_loss(logits, frames, given.targets, given.target_lengths)
    assert torch.equal(Ctc(UNITS).losses(answer(logits, frames, given)), expected)


def test_what_a_head_of_the_task_has() -> None:
    task = task_for(CTC, UNITS)
    assert (task.classes, task.measures, task.selects) == (4, ("cer", "wer"), "loss")
    assert task.least_frames([1, 1, 2]) == ctc_frames([1, 1, 2]) == 4
    assert task.select({"loss": 2.5, "cer": None, "wer": None}) == 2.5
    assert list(tasks_for(CTC, {"aa": UNITS, "bb": UNITS})) == ["aa", "bb"]


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0], [1]])
def test_part_of_a_batch(rows: list[int]) -> None:
    whole = batch(["ab a", "", "bb"], 8)
    part = whole.part(rows)
    assert (part is whole) == (rows == [0, 1, 2])
    assert [whole.texts[row] for row in rows] == list(part.texts)
    lengths = part.target_lengths.tolist()
    assert [UNITS.decode(labels.tolist()) for labels in torch.split(part.targets, lengths)] == list(part.texts)
    assert part.x.shape == (len(rows), 8, 1)
    assert tasks_for(CTC, {EVERY: UNITS})[EVERY].classes == 4
