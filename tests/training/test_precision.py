"""What a recipe's precision switches, where it cannot be had, and in what type an LSTM computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.conftest import Bench
from thaw.config.load import load
from thaw.errors import UserError
from thaw.models import lstm as lstm_module
from thaw.models.awd_lstm import Recurrent
from thaw.models.blstm import Blstm
from thaw.models.deepspeech import Lstm
from thaw.models.layered import keep
from thaw.models.transducer import Joint
from thaw.training import environment

ROOT = Path(__file__).parents[2]
CUDA = torch.device("cuda", 0)


def switches() -> set[str]:
    """What torch itself says of a GPU's products."""
    return {torch._C._get_fp32_precision_getter("cuda", what) for what in ("matmul", "conv", "rnn")}


@pytest.fixture
def new_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has TF32, as far as torch is asked."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H200")


@pytest.mark.usefixtures("new_gpu")
def test_products_are_whole_but_where_a_recipe_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    environment.set_products("ieee")
    assert switches() == {"ieee"}
    for precision, expected in (("fp32", "ieee"), ("bf16", "ieee"), ("tf32", "tf32")):
        with environment.products_in(precision, CUDA):
            assert switches() == {expected}
            record = environment.record(CUDA, 1, 25)
            assert record["gpu_share"] == 25
            assert record["products"] == dict.fromkeys(("matrices", "convolutions", "recurrence"), expected)
        assert switches() == {"ieee"}
    with pytest.raises(KeyError), environment.products_in("tf32", CUDA):
        raise KeyError
    assert switches() == {"ieee"}


def test_a_device_without_tf32_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(UserError, match="precision: tf32: a CPU has none"),
        environment.products_in("tf32", torch.device("cpu")),
    ):
        pass
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "T4")
    with pytest.raises(UserError, match="tf32: T4 is older"), environment.products_in("tf32", CUDA):
        pass
    assert "tf32" not in switches()


def test_a_training_on_a_cpu_says_so_in_a_line(bench: Bench) -> None:
    code, told = bench.with_recipe(precision="tf32").run("out")
    assert code == 2
    assert told.strip().splitlines()[-1] == "thaw train: precision: tf32: a CPU has none; take fp32, or --device cuda"


def test_a_config_that_cannot_be_trained_is_refused() -> None:
    over: dict[str, Any] = {"execution": {"device": "cpu"}, "recipes": {"fine": {"epochs": 1, "precision": "tf32"}}}
    with pytest.raises(UserError, match=r"execution\.device: a CPU has no TF32, .* recipes\.fine; take cuda"):
        load([ROOT / "config" / "config.yaml"], over)
    load([ROOT / "config" / "config.yaml"], {**over, "execution": {"device": "auto"}})
    del over["recipes"]
    over["treatments"] = {"fine": {"recipe": {"precision": "tf32"}}}
    with pytest.raises(UserError, match=r"of treatments\.fine; take cuda"):
        load([ROOT / "config" / "config.yaml"], over)


# --- LSTMs ----------------------------------------------------------------------------------------


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def of_layer(layer: Any) -> Any:
    """Run a layer that has an LSTM."""
    layer.reset_parameters(torch.Generator().manual_seed(1))
    x, lengths = drawn(3, 9, 6), torch.tensor([9, 9, 7])
    if isinstance(layer, Joint):
        return layer.step(torch.tensor([1, 2, 0]), None)[0]
    return layer(x, lengths, keep)[0] if not isinstance(layer, Blstm) else layer(x, lengths)


LAYERS = [lambda: Lstm(6, 5), lambda: Recurrent(6, 5), lambda: Joint(4, 5, 4)]


@pytest.mark.parametrize("make", LAYERS)
def test_an_lstm_computes_in_the_type_that_autocast_was_given(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And autocast has no part in it: of a GPU's LSTM, torch's would make half precision."""
    seen: list[tuple[set[torch.dtype], bool]] = []
    honest = lstm_module._lstm

    def watched(x: Tensor, state: Any, weights: list[Tensor], *how: Any) -> Any:
        seen.append(({tensor.dtype for tensor in (x, *state, *weights)}, torch.is_autocast_enabled("cpu")))
        return honest(x, state, weights, *how)

    monkeypatch.setattr(lstm_module, "_lstm", watched)
    layer = make()
    of_layer(layer)
    with torch.autocast("cpu", torch.bfloat16):
        half = of_layer(layer)
    assert seen == [({torch.float32}, False), ({torch.bfloat16}, False)]
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("both_ways", [False, True])
def test_on_a_cpu_the_cast_is_that_of_autocast_to_the_bit(both_ways: bool) -> None:
    ways = 1 + both_ways
    weights = [drawn(20, *rest) for _ in range(ways) for rest in ((6,), (5,), (), ())]
    for weight in weights:
        weight.requires_grad_()
    x, state = drawn(3, 9, 6), torch.zeros(ways, 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        ours, (hidden, cell) = lstm_module.lstm(x, (state, state), weights, True, both_ways)
        theirs = torch.lstm(x, (state, state), weights, True, 1, 0.0, True, both_ways, True)
    assert all(torch.equal(*pair) for pair in zip((ours, hidden, cell), theirs, strict=True))
    gradients = [
        torch.autograd.grad(y.float().square().sum(), weights[:4], retain_graph=True) for y in (ours, theirs[0])
    ]
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
