"""ESPnet's own modules with the same weights: encoders, attention, losses, prefix scores, the search, the noam rate."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models import make_golden_espnet as espnet
from tests.models.make_golden_espnet import DATA, SAID, SMOOTHING, UNEVEN, UNITS, heard, uniform
from thaw.config.decoders import JointSpec
from thaw.config.rnn import AttentionDecoderSpec, BlstmSpec
from thaw.config.transformer import TransformerSpec
from thaw.decoding.emissions import Recogniser
from thaw.decoding.joint import search
from thaw.decoding.prefixes import CtcPrefixes
from thaw.models import build
from thaw.models.attention import RecurrentCtcAttention
from thaw.models.blstm import blstm_stack
from thaw.models.ctc_attention import shifted
from thaw.models.layered import Labels, Layer, LayeredModel, keep
from thaw.models.transformer import TransformerCtcAttention
from thaw.models.vgg import Vgg
from thaw.tasks.ctc_attention import PADDING, label_loss
from thaw.training.schedule import noam
from thaw.units import EVERY, Alphabet

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
END = UNITS


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    with np.load(DATA) as file:
        return {name: file[name] for name in file.files}


def close(made: Tensor, wanted: np.ndarray) -> None:
    torch.testing.assert_close(made.detach(), torch.from_numpy(wanted), **CLOSE)


@torch.no_grad()
def valued(model: torch.nn.Module, but: str = "ctc_output") -> None:
    """Give a model the values that ESPnet's modules had."""
    for name, tensor in model.state_dict().items():
        if but not in name:
            tensor.copy_(uniform(name, tuple(tensor.shape)))


@pytest.mark.skipif(importlib.util.find_spec("espnet") is None, reason="needs espnet; see make_golden_espnet.py")
def test_the_file_holds_what_espnet_says(golden: dict[str, Any]) -> None:
    for name, values in espnet.golden().items():
        np.testing.assert_allclose(values, golden[name], rtol=1e-5, atol=1e-6, err_msg=name)


def encoder() -> LayeredModel:
    sizes = {"layers": 3, "cells": espnet.CELLS, "projection": espnet.PROJECTION, "subsample": espnet.STRIDES}
    spec = BlstmSpec.model_validate({"kind": "blstm", **sizes})
    return LayeredModel({**blstm_stack(spec, espnet.FEATURES), "output": Vgg((1, 1))})


def test_projected_lstms(golden: dict[str, Any]) -> None:
    model = encoder()
    valued(model)
    x = heard("x rnnp", espnet.RNNP_FRAMES, espnet.FEATURES)
    made, lengths = model(x, torch.tensor(espnet.RNNP_FRAMES), upto=3)
    assert lengths.tolist() == golden["rnnp_lengths"].tolist()
    for row, length in enumerate(lengths.tolist()):
        close(made[row, :length], golden["rnnp"][row, :length])


def test_convolutions(golden: dict[str, Any]) -> None:
    layer = Vgg((64, 128))
    valued(layer)
    x = heard("x vgg", (espnet.VGG_FRAMES,), espnet.VGG_FEATURES)
    made, lengths = layer(x, torch.tensor([espnet.VGG_FRAMES]), keep)
    assert lengths.tolist() == [3]
    torch.testing.assert_close(made[:, :, ::37].detach(), torch.from_numpy(golden["vgg"]), rtol=1e-5, atol=1e-4)
    assert made.norm().item() == pytest.approx(golden["vgg_norm"].item(), rel=1e-5)


def decoder() -> RecurrentCtcAttention:
    spec = AttentionDecoderSpec(
        width=espnet.WIDTH, attention=espnet.ATTENTION, channels=espnet.CHANNELS, reach=espnet.REACH
    )
    nothing: dict[str, Layer] = {}
    model = RecurrentCtcAttention(nothing, espnet.PROJECTION, spec, UNITS + 1)
    model.initialise(1)
    valued(model)
    return model.eval()


def targets(rows: tuple[tuple[int, ...], ...]) -> tuple[Labels, Tensor]:
    """Labels, and what is to be said."""
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    wanted = torch.full((len(rows), ids.shape[1] + 1), PADDING)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = wanted[place, : len(row)] = torch.tensor(row)
        wanted[place, len(row)] = END
    return Labels(ids, torch.tensor([len(row) for row in rows])), wanted


def test_location_aware_attention(golden: dict[str, Any]) -> None:
    model, frames = decoder(), torch.tensor(espnet.HEARD)
    attended = model.attended(heard("x decoder", espnet.HEARD, espnet.PROJECTION), frames)
    before = uniform("before", (2, espnet.HEARD[0])).softmax(-1)
    before[1, espnet.HEARD[1] :] = 0.0
    weights = model.attention.weights(attended.keys, attended.outside, uniform("state", (2, espnet.WIDTH)), before)
    close(weights, golden["attention"])
    close(attended.mean(weights), golden["attended"])


def test_the_decoders_loss(golden: dict[str, Any]) -> None:
    """ESPnet's is the mean over labels and ends, times the mean number of labels."""
    model, x = decoder(), heard("x decoder", espnet.HEARD, espnet.PROJECTION)
    labels, wanted = targets(UNEVEN)
    logits = model.outputs(x, torch.tensor(espnet.HEARD), labels=labels)["attention_output"]
    said = labels.lengths.sum().item()
    made = label_loss(logits, wanted, 0.0).sum() / (said + len(UNEVEN)) * said / len(UNEVEN)
    assert made.item() == pytest.approx(golden["decoder_loss"].item(), rel=1e-5)
    right = (logits.argmax(-1) == wanted).sum().item() / (said + len(UNEVEN))
    assert right == pytest.approx(golden["decoder_right"].item())


def test_the_smoothed_loss(golden: dict[str, Any]) -> None:
    """Of utterances of one length ESPnet smooths no padding; the share of the labels is as before, that of the
    distribution is a sum over labels and ends."""
    model, x = decoder(), heard("x decoder", espnet.HEARD, espnet.PROJECTION)
    labels, wanted = targets(SAID)
    logits = model.outputs(x, torch.tensor(espnet.HEARD), labels=labels)["attention_output"]
    length, shares = len(SAID[0]), torch.from_numpy(espnet.SHARES).float()
    plain = label_loss(logits, wanted, 0.0).mean()
    spread = (label_loss(logits, wanted, SMOOTHING, shares).mean() - (1 - SMOOTHING) * plain) / SMOOTHING
    made = (1 - SMOOTHING) * plain * length / (length + 1) + SMOOTHING * spread
    assert made.item() == pytest.approx(golden["decoder_smooth"].item(), rel=1e-5)


def test_prefix_scores(golden: dict[str, Any]) -> None:
    log_probs = espnet.ctc_log_probs()
    ctc = CtcPrefixes(log_probs[None], torch.tensor([len(log_probs)]))
    one = torch.zeros(1, dtype=torch.int64)
    prefixes, rows = ctc.begin(one), []
    for label in (*espnet.PREFIX, None):
        rows.append(ctc.scores(prefixes, one, torch.arange(UNITS + 1)[None])[0])
        if label is not None:
            prefixes = ctc.extended(prefixes, one, torch.tensor([label]))
    close(torch.stack(rows).float(), golden["prefixes"])


class Heard(RecurrentCtcAttention):
    """Its CTC hears what it is told."""

    def forward(self, x: Tensor, lengths: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return espnet.ctc_log_probs()[: x.shape[1]].expand(len(x), -1, -1), lengths


def test_the_search(golden: dict[str, Any]) -> None:
    """Both utterances side by side, where ESPnet took one by one: the three best of each, and their scores."""
    model = decoder()
    model.__class__ = Heard
    with torch.no_grad():
        model.get_parameter("layers.attention_output.bias")[-1] += espnet.ENDS
    frames = torch.tensor(espnet.SEARCH_FRAMES)
    x = torch.zeros(2, max(espnet.SEARCH_FRAMES), espnet.PROJECTION)
    for row, count in zip(x, espnet.SEARCH_FRAMES, strict=True):
        row[:count] = heard("x search", (count,), espnet.PROJECTION)[0]
    units = {EVERY: Alphabet(" abcdefgh"[:UNITS])}
    recogniser = Recogniser(model, units, "log-mel-80", torch.device("cpu"), {}, None)
    found = search(JointSpec(kind="joint", **espnet.SEARCH), recogniser, x, frames)
    for number, hypotheses in enumerate(found):
        for rank, hypothesis in enumerate(hypotheses[:3]):
            assert list(hypothesis.labels) == golden[f"search_{number}_{rank}_labels"].tolist()
            assert hypothesis.score == pytest.approx(golden[f"search_{number}_{rank}_score"].item(), rel=1e-5)
        assert 0 < len(hypotheses[0].labels) < espnet.SEARCH_FRAMES[number]


def transformer() -> TransformerCtcAttention:
    sizes = espnet.TRANSFORMER
    blocks = {"encoder_layers": sizes["blocks"], "decoder_layers": sizes["blocks"]}
    spec = TransformerSpec(
        kind="transformer", mel=9, width=sizes["width"], attention_heads=sizes["heads"], inner=sizes["inner"], **blocks
    )
    model = build(spec, UNITS + 1)
    assert isinstance(model, TransformerCtcAttention)
    valued(model, but="nothing")
    return model.eval()


def test_the_transformer(golden: dict[str, Any]) -> None:
    model = transformer()
    x = heard("x transformer", (espnet.TRANSFORMER_FRAMES,), espnet.TRANSFORMER_FEATURES)
    encoded, frames = model(x, torch.tensor([espnet.TRANSFORMER_FRAMES]), upto=len(model.trunk))
    close(encoded, golden["encoded"])
    labels, wanted = targets(SAID[:1])
    assert shifted(labels, END).tolist() == [[END, *SAID[0]]]
    logits = model.outputs(encoded, frames, labels=labels)["attention_output"]
    close(logits, golden["decoded"])
    # ESPnet's is a divergence: less the entropy of what is wanted, of each label.
    wanted_shares = torch.tensor([1 - SMOOTHING, *[SMOOTHING / UNITS] * UNITS])
    entropy = -(wanted_shares * wanted_shares.log()).sum().item() * (len(SAID[0]) + 1)
    loss = label_loss(logits, wanted, SMOOTHING).item()
    assert loss - entropy == pytest.approx(golden["uniform_loss"].item(), rel=1e-5)


def test_the_noam_rate(golden: dict[str, Any]) -> None:
    how = espnet.NOAM
    made = [noam(how["factor"], how["width"], step, how["warm"]) for step in how["steps"]]
    np.testing.assert_allclose(made, golden["noam"], rtol=1e-12)
