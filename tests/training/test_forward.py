"""A batch through a model that is taught by labels: what it is given, and what its answer holds."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tests.tasks.test_tasks import UNITS, batch
from thaw.config.rnn import BlstmSpec
from thaw.models.blstm import Linear, blstm_stack
from thaw.models.layered import Labels, LayeredModel, Noise
from thaw.training.forward import forward, labels_of
from thaw.units import EVERY


class Taught(LayeredModel):
    """Two heads side by side, of which the second reads labels."""

    taught: ClassVar[bool] = True

    def path(self, lang: str = EVERY) -> tuple[str, ...]:
        return (*self.trunk, "one")

    def outputs(
        self, x: Tensor, lengths: Tensor, noise: Noise | None = None, lang: str = EVERY, labels: Labels | None = None
    ) -> dict[str, Tensor]:
        assert labels is not None
        one, _ = self._through(["one"], x, lengths, noise)
        return {"one": one, "two": labels.ids.float()}


def taught() -> Taught:
    spec = BlstmSpec(kind="blstm", mel=8, layers=2, cells=3, projection=4, subsample=(2, 1))
    heads = {"one": Linear(4, 4), "two": Linear(4, 4)}
    model = Taught({**blstm_stack(spec, 1), **heads}, {EVERY: ("one", "two")}, outputs=2)
    model.initialise(1)
    return model


def test_a_taught_model_gets_the_labels_of_its_batch() -> None:
    model, given = taught(), batch(["ab a", "", "b"], 8)
    (answer,) = forward(model, given, None)
    assert answer.frames.tolist() == [4, 4, 4]
    assert answer.encoded.shape == (3, 4, 4)
    assert answer.model is model
    assert torch.equal(answer.logits, answer.outputs["one"])
    assert answer.outputs["two"].tolist() == [[1, 2, 0, 1], [0, 0, 0, 0], [2, 0, 0, 0]]
    labels = labels_of(given)
    assert (labels.ids.dtype, labels.lengths.tolist()) == (torch.int64, [4, 0, 1])
    assert UNITS.encode("ab a") == [1, 2, 0, 1]


def test_its_first_head_answers_without_labels() -> None:
    model, given = taught(), batch(["ab a", "b"], 8)
    logits, _ = model(given.x, given.lengths)
    assert torch.equal(logits, forward(model, given, None)[0].logits)


def test_its_heads_stand_at_one_place() -> None:
    model = taught()
    assert model.heads == ("one", "two")
    assert model.places == (("blstm_1",), ("blstm_2",), ("one", "two"))
    assert model.trunk == ("blstm_1", "blstm_2")
