"""Churn, CKA and gradients on numbers that can be had in another way."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.conftest import ALPHABET, TASKS, sentences, write_split
from thaw.config.models import DeepSpeechSpec
from thaw.corpora.manifest import read_manifest
from thaw.errors import UserError
from thaw.layers.change import churn, relative_churn
from thaw.layers.gradients import Gradients, gradients
from thaw.layers.likeness import Cka, cka_by_layer
from thaw.layers.predictors import best_of, least_harm, ranks
from thaw.models import LayeredModel, build
from thaw.training.data import Examples
from thaw.training.forward import forward
from thaw.units import EVERY

SPEC = DeepSpeechSpec(kind="deepspeech", hidden=12, context=1)
CPU = torch.device("cpu")


def network(seed: int = 1) -> LayeredModel:
    model = build(SPEC, len(ALPHABET) + 1)
    model.initialise(seed)
    return model.eval()


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    path = write_split(tmp_path_factory.mktemp("target"), "train", sentences("target", 10))
    return Examples(read_manifest(path), TASKS, SPEC.frontend)


# --- churn ----------------------------------------------------------------------------------------


def test_churn_is_the_norm_of_the_change_of_weight_matrices_alone() -> None:
    first = {
        "layers.a.weight": torch.ones(2, 3),
        "layers.a.bias": torch.zeros(2),
        "layers.a.attention.u": torch.zeros(2, 1, 3),  # a bias of each head
        "layers.b.weight": torch.ones(1, 1),
    }
    later = {
        "layers.a.attention.u": torch.ones(2, 1, 3),
        "layers.a.weight": torch.full((2, 3), 3.0),
        "layers.a.bias": torch.ones(2),
        "layers.b.weight": torch.ones(1, 1),
    }
    assert churn(first, later, ["a", "b"]) == {"a": pytest.approx(math.sqrt(24)), "b": 0.0}
    assert relative_churn(first, later, ["a"]) == {"a": pytest.approx(2.0)}


# --- likeness -------------------------------------------------------------------------------------


def centred_cka(x: Tensor, y: Tensor) -> float:
    """By the kernels, Kornblith et al. (2019) equation 5, with n by n Gram matrices."""
    n = len(x)
    centre = torch.eye(n, dtype=torch.float64) - 1 / n
    a, b = (centre @ (z.double() @ z.double().T) @ centre for z in (x, y))
    return float((a * b).sum() / (a.norm() * b.norm()))


def test_cka_is_that_of_the_gram_matrices_however_frames_come() -> None:
    random = torch.Generator().manual_seed(1)
    x = torch.randn(40, 5, generator=random) + 3
    y = torch.randn(40, 7, generator=random) + 0.5 * x[:, :1]
    whole, parts = Cka(), Cka()
    whole.add(x, y)
    for start in (0, 7, 20):
        parts.add(x[start : {0: 7, 7: 20, 20: 40}[start]], y[start : {0: 7, 7: 20, 20: 40}[start]])
    assert whole.value() == pytest.approx(centred_cka(x, y), abs=1e-10)
    assert parts.value() == pytest.approx(whole.value(), abs=1e-10)


def test_cka_sees_no_turn_no_scale_and_no_shift_and_nothing_in_a_constant() -> None:
    random = torch.Generator().manual_seed(2)
    x = torch.randn(50, 6, generator=random)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=random))
    same, constant = Cka(), Cka()
    same.add(x, 3 * x @ turn + 5)
    constant.add(x, torch.ones(50, 4))
    assert same.value() == pytest.approx(1, abs=1e-6)
    assert constant.value() == 0


def test_cka_by_layer_is_one_with_itself_and_less_above_the_first_layer_that_differs() -> None:
    random = torch.Generator().manual_seed(3)
    inputs = [torch.randn(frames, 26, generator=random) for frames in (20, 33)]
    model, other = network(), network()
    other.reset_layer("layer_3", 9)
    alike = cka_by_layer(model, other, model.trunk, inputs)
    assert list(alike) == ["layer_1", "layer_2", "layer_3", "lstm", "layer_5"]
    assert [alike["layer_1"], alike["layer_2"]] == [pytest.approx(1), pytest.approx(1)]
    assert all(alike[layer] < 0.99 for layer in ("layer_3", "lstm", "layer_5"))


# --- gradients ------------------------------------------------------------------------------------


def measured(examples: Examples, head_epochs: int = 0) -> Gradients:
    return gradients(network(), TASKS[EVERY], examples, head_epochs=head_epochs, seed=1, device=CPU)


def test_rgn_and_fisher_are_those_of_plain_gradients(examples: Examples) -> None:
    found, model = measured(examples), network()
    task, rows = TASKS[EVERY], []
    for index in range(len(examples)):
        model.zero_grad()
        batch = examples.batch([index])
        task.losses(forward(model, batch, None)[0]).sum().backward()
        rows.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    for layer in model.trunk:
        names = [name for name in rows[0] if name.split(".")[1] == layer]
        mean = torch.cat([torch.stack([row[name] for row in rows]).mean(0).flatten() for name in names])
        weights = torch.cat([dict(model.named_parameters())[name].flatten() for name in names])
        squares = torch.cat([torch.stack([row[name] for row in rows]).square().mean(0).flatten() for name in names])
        assert found.rgn[layer] == pytest.approx((mean.norm() / weights.norm()).item(), rel=1e-4)
        assert found.fisher[layer] == pytest.approx(squares.mean().item(), rel=1e-4)
    assert found.utterances == 10


def test_snr_is_high_where_all_utterances_agree(examples: Examples) -> None:
    one = Examples([examples.utterances[0]] * 1, TASKS, SPEC.frontend)
    assert all(
        value == 0 for value in gradients(network(), TASKS[EVERY], one, head_epochs=0, seed=1, device=CPU).snr.values()
    )
    found = measured(examples).snr
    assert all(math.isfinite(value) and value > 0 for value in found.values())


def test_only_the_head_learns_before_the_gradients(examples: Examples) -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    found = gradients(model, TASKS[EVERY], examples, head_epochs=5, seed=1, device=CPU)
    moved = {name.split(".")[1] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"layer_6"}
    assert found.head_loss[1] < found.head_loss[0]
    assert found == measured(examples, head_epochs=5)  # nothing is random but by the seed


def test_utterances_that_nothing_can_spell_are_an_error(tmp_path: Path) -> None:
    path = write_split(tmp_path, "train", {"long-1": "ab"})
    [utterance] = read_manifest(path)
    long = [type(utterance)(**{**{f: getattr(utterance, f) for f in utterance.__slots__}, "text": "ab" * 400})]
    with pytest.raises(UserError, match="finite loss"):
        gradients(network(), TASKS[EVERY], Examples(long, TASKS, SPEC.frontend), head_epochs=1, seed=1, device=CPU)


# --- choices --------------------------------------------------------------------------------------


def test_ranks_share_and_choices_take_the_least_harm() -> None:
    assert ranks([3.0, 1.0, 3.0, 2.0]) == [3.5, 1.0, 3.5, 2.0]
    scores = {"a": 0.3, "b": 0.1, "c": 0.2, "d": 0.1}
    assert least_harm("rgn", scores, 2) == ("b", "d")
    assert least_harm("cka", scores, 2) == ("a", "c")  # unlike is harm
    assert least_harm("rgn", dict.fromkeys("abcd", 1.0), 2) == ("a", "b")
    assert best_of("rgn", scores, [("a", "b"), ("b", "c"), ("c", "d")]) == ("b", "c")
