"""The Transformer: its sizes, an utterance in whatever batch, taught or step by step, and what sees what."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.models.test_attention import CLASSES, labels
from tests.models.test_blstm import randn
from thaw.config.models import places
from thaw.config.transformer import TransformerSpec
from thaw.models import Noise, build
from thaw.models.layered import Labels
from thaw.models.transformer import TransformerCtcAttention, placed
from thaw.surgery.surgery import parameter_counts


def spec(**keys: Any) -> TransformerSpec:
    sizes = {"mel": 8, "width": 8, "attention_heads": 2, "inner": 12, "encoder_layers": 2, "decoder_layers": 2}
    return TransformerSpec.model_validate({"kind": "transformer", **sizes, **keys})


def small(seed: int = 1, **keys: Any) -> TransformerCtcAttention:
    model = build(spec(**keys), CLASSES)
    assert isinstance(model, TransformerCtcAttention)
    model.initialise(seed)
    return model


def test_published_size() -> None:
    """About 28.7 million parameters at 2002 outputs, by the sheet; 83 features give as many frequency rows as 80."""
    with torch.device("meta"):
        counts = parameter_counts(build(TransformerSpec(kind="transformer"), 2002))
    block = 4 * (256 * 256 + 256) + 2 * 256 * 2048 + 2048 + 256 + 4 * 256
    assert counts["by_layer"]["encoder_1"] == block
    assert counts["by_layer"]["encoder_12"] == block + 512
    assert counts["by_layer"]["subsampling"] == 256 * 9 + 256 + 256 * 256 * 9 + 256 + 256 * 19 * 256 + 256
    assert counts["total"] == pytest.approx(28.7e6, rel=0.01)


def test_names_and_places() -> None:
    model = small()
    assert tuple(model.layers) == spec().layer_names
    assert model.trunk == ("subsampling", "encoder_1", "encoder_2")
    assert model.heads == ("ctc_output", "attention_output")
    assert model.places == places(spec())


@pytest.mark.parametrize("noise", [None, 0.3])
def test_an_utterance_gives_the_same_outputs_alone_and_padded_in_a_batch(noise: float | None) -> None:
    model = small()
    lengths, said = torch.tensor([41, 18, 7, 3]), labels([1, 2, 0, 5, 5], [3, 1], [], [2])
    x = randn(4, 41, 8)
    for row, length in zip(x, lengths.tolist(), strict=True):
        row[length:] = math.nan

    def outputs(rows: slice) -> tuple[dict[str, Tensor], Tensor]:
        ids = ["a", "b", "c", "d"][rows]
        drawn = None if noise is None else Noise(dict.fromkeys(model.layers, noise), 1, 1, ids)
        some, u = lengths[rows], said.lengths[rows]
        encoded, frames = model(x[rows, : some.max()], some, drawn, upto=len(model.trunk))
        assert encoded.shape[1] == model.padded(int(some.max()), len(model.trunk))
        return model.outputs(encoded, frames, drawn, labels=Labels(said.ids[rows, : u.max()], u)), frames

    whole, frames = outputs(slice(0, 4))
    assert frames.tolist() == [spec().frames(400 + 160 * (n - 1)) for n in lengths.tolist()] == [9, 3, 1, 0]
    for row in range(3):
        alone, _ = outputs(slice(row, row + 1))
        t, u = int(frames[row]), int(said.lengths[row]) + 1
        torch.testing.assert_close(alone["ctc_output"][0], whole["ctc_output"][row, :t], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            alone["attention_output"][0], whole["attention_output"][row, :u], rtol=1e-5, atol=1e-5
        )
    assert whole["attention_output"].isfinite().all()


def test_step_by_step_it_says_what_it_was_taught() -> None:
    model, x, lengths = small().eval(), randn(2, 9, 8), torch.tensor([9, 5])
    said = labels([1, 2, 0], [3, 3, 6])
    taught = model.outputs(x, lengths, labels=said)["attention_output"].log_softmax(dim=-1)
    memory, state = model.memory(x, lengths)
    last = torch.full((2,), CLASSES - 1)
    for place in range(4):
        log_probs, state = model.step(memory, state, last)
        torch.testing.assert_close(log_probs, taught[:, place], rtol=1e-5, atol=1e-5)
        last = said.ids[:, place] if place < 3 else last
    swapped, turned = torch.tensor([1, 0]), model.step(memory, state, last)[0]
    log_probs, _ = model.step(memory.of(swapped), state.of(swapped), last[swapped])
    torch.testing.assert_close(log_probs, turned[swapped])


def test_labels_reach_only_what_comes_behind_them() -> None:
    model, x, lengths = small(), randn(1, 9, 8), torch.tensor([9])
    one, other = (model.outputs(x, lengths, labels=labels(row))["attention_output"] for row in ([1, 2, 3], [1, 4, 3]))
    torch.testing.assert_close(one[:, :2], other[:, :2])
    assert not torch.allclose(one[:, 2], other[:, 2])


def test_places_are_sines_and_cosines() -> None:
    made = placed(torch.zeros(1, 4, 6), first=2)[0]
    for place in range(4):
        for pair in range(3):
            turn = (place + 2) / 1e4 ** (2 * pair / 6)
            assert made[place, 2 * pair].item() == pytest.approx(math.sin(turn), abs=1e-6)
            assert made[place, 2 * pair + 1].item() == pytest.approx(math.cos(turn), abs=1e-6)
    assert torch.allclose(placed(torch.ones(1, 1, 4)) - placed(torch.zeros(1, 1, 4)), torch.full((1, 1, 4), 2.0))


def test_dropout_has_places_in_every_layer_but_the_heads() -> None:
    model, x, lengths, said = small(), randn(1, 41, 8), torch.tensor([41]), labels([1, 2])
    for name in model.layers:
        noise = Noise({name: 0.5}, 1, 1, ["a"])
        quiet, loud = (model.outputs(*model(x, lengths, drawn, upto=3), drawn, labels=said) for drawn in (None, noise))
        same = all(torch.equal(quiet[head], loud[head]) for head in quiet)
        assert same == (name in model.heads), name


def test_every_parameter_takes_part_but_biases_of_keys() -> None:
    model, x, lengths = small(), randn(2, 41, 8), torch.tensor([41, 20])
    encoded, frames = model(x, lengths, upto=3)
    made = model.outputs(encoded, frames, labels=labels([1, 2], [3]))
    sum(logits.square().sum() for logits in made.values()).backward()  # type: ignore[union-attr]
    still = {name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-5}
    assert all(name.endswith("key.bias") for name in still)


@pytest.mark.parametrize("keys", [{"width": 9}, {"width": 8, "attention_heads": 3}, {"width": 7, "attention_heads": 7}])
def test_a_width_that_does_not_divide(keys: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="width: an even number"):
        spec(**keys)
