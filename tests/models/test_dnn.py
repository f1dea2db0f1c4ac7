"""Heigold et al.'s network against its published sizes, and itself in other batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from thaw.config.dnn import DnnSpec
from thaw.config.models import layer_names
from thaw.models import LayeredModel, Noise, build
from thaw.models.dnn import Spliced, spliced
from thaw.surgery.surgery import parameter_counts

STATES = {  # Heigold et al. (2013), table 1
    "eu-es": 1600, "ca-es": 3300, "pt-pt": 2900, "ro-ro": 5700, "es-ar": 3500, "es-419": 5500,
    "fr-fr": 6200, "pt-br": 4700, "it-it": 5100, "es-es": 4900, "es-mx": 3700,
}  # fmt: skip


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(11))


def small(classes: int | dict[str, int] = 9, **sizes: int) -> LayeredModel:
    model = build(DnnSpec(kind="dnn", hidden=24, **sizes), classes)
    model.initialise(1)
    return model


@pytest.mark.parametrize(("lang", "total"), [("eu-es", 24_895_040), ("pt-pt", 28_224_340), ("fr-fr", 36_675_640)])
def test_published_size_of_one_language(lang: str, total: int) -> None:
    with torch.device("meta"):
        counts = parameter_counts(build(DnnSpec(kind="dnn"), STATES[lang]))
    assert counts["by_layer"]["hidden_1"] == 1_128_960
    assert {counts["by_layer"][f"hidden_{n}"] for n in (2, 3, 4)} == {6_556_160}
    assert counts["by_layer"]["output"] == 2561 * STATES[lang]
    assert counts["total"] == total == 20_797_440 + 2561 * STATES[lang]


def test_published_size_of_eleven_languages_together() -> None:
    with torch.device("meta"):
        model = build(DnnSpec(kind="dnn"), STATES)
    counts = parameter_counts(model)["by_layer"]
    assert sum(STATES.values()) == 47_100
    assert sum(counts[name] for name in model.trunk) == 14_241_280
    assert sum(counts[name] for names in model.branches.values() for name in names) == 192_740_860
    assert sum(counts.values()) == 206_982_140
    assert tuple(model.layers) == layer_names(DnnSpec(kind="dnn"), STATES)


@pytest.mark.parametrize("classes", [9, {"aa": 9, "bb": 5}])
def test_an_utterance_gives_the_same_outputs_alone_and_padded_in_a_batch(classes: int | dict[str, int]) -> None:
    model = small(classes).eval()
    lang = "" if isinstance(classes, int) else "aa"
    lengths = torch.tensor([40, 17, 1])
    x = randn(3, 40, 40) + 100.0  # what lies in the padding must not matter
    logits, out_lengths = model(x, lengths, lang=lang)
    assert logits.shape == (3, 40, 9)
    assert torch.equal(out_lengths, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, _ = model(x[row : row + 1, :length], lengths[row : row + 1], lang=lang)
        torch.testing.assert_close(alone[0], logits[row, :length], rtol=1e-5, atol=1e-5)


def test_so_does_it_under_dropout() -> None:
    model = small()
    x, lengths = randn(2, 30, 40), torch.tensor([30, 12])
    rates = dict.fromkeys(model.layers, 0.4)
    batch, _ = model(x, lengths, Noise(rates, 1, 1, ["a", "b"]))
    alone, _ = model(x[1:, :12], lengths[1:], Noise(rates, 1, 1, ["b"]))
    torch.testing.assert_close(alone[0], batch[1, :12], rtol=1e-5, atol=1e-5)
    quiet, _ = model(x, lengths)
    assert not torch.allclose(quiet, batch, atol=1e-2)


def test_neighbours_beyond_the_ends_are_the_last_ones_again() -> None:
    x = torch.arange(8.0).view(1, 4, 2)
    got = spliced(x, torch.tensor([3]), 1)
    assert got[0, :3].tolist() == [[0, 1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 4, 5]]


def test_all_is_as_the_formulas_say() -> None:
    model = small(layers=2).eval()
    first = model.layer("hidden_1")
    assert isinstance(first, Spliced)
    features = np.asarray(randn(50, 40) * 3 + 7, np.float32)
    first.fit([features[:20], features[20:]])
    x = torch.from_numpy(features)[None]
    logits, _ = model(x, torch.tensor([50]))
    normal = (features - features.mean(0)) / features.std(0)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    rows = np.concatenate([normal[np.clip(np.arange(50) + k, 0, 49)] for k in range(-5, 6)], axis=1)
    for name in ("hidden_1", "hidden_2"):
        rows = 1 / (1 + np.exp(-(rows @ weights[f"layers.{name}.weight"].T + weights[f"layers.{name}.bias"])))
    want = rows @ weights["layers.output.weight"].T
    np.testing.assert_allclose(logits[0].detach().numpy(), want, atol=2e-4)
