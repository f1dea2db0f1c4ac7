"""Both optimisers against scalar restatements, Adam against torch's too; state that comes back bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from thaw.config.schema import RecipeSpec
from thaw.training.optim import AdamTF, NovoGrad, Optimizer
from thaw.training.torch_optim import optimizer_for

KINDS = [AdamTF, NovoGrad]


def gradients(steps: int, *shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(steps, *shape, generator=torch.Generator().manual_seed(seed))


def parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(9)
    return {name: nn.Parameter(torch.randn(2, 3, generator=generator)) for name in ("a", "b")}


def run(optimizer: Optimizer, first: int, last: int, rate: float = 1e-2) -> None:
    for a, b in zip(gradients(9, 2, 3)[first:last], gradients(9, 2, 3, seed=2)[first:last], strict=True):
        optimizer.parameters[0].grad, optimizer.parameters[1].grad = a.clone(), b.clone()
        optimizer.step(rate)


def test_equals_the_formula_number_by_number():
    parameter = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = AdamTF({"p": parameter}, betas=(0.8, 0.95), epsilon=1e-3)
    theta, m, v = np.array([1.0, -2.0, 0.5]), np.zeros(3), np.zeros(3)
    for t, gradient in enumerate(gradients(6, 3) * 1e-3, start=1):  # as small as epsilon, so that its place shows
        parameter.grad = gradient.clone()
        optimizer.step(0.1 / t)
        for i, g in enumerate(gradient.double().tolist()):
            m[i] = 0.8 * m[i] + 0.2 * g
            v[i] = 0.95 * v[i] + 0.05 * g * g
            rate = 0.1 / t * math.sqrt(1 - 0.95**t) / (1 - 0.8**t)
            theta[i] -= rate * m[i] / (math.sqrt(v[i]) + 1e-3)
    np.testing.assert_allclose(parameter.detach().numpy(), theta, rtol=1e-6)


def test_equals_torchs_adam_where_epsilon_does_not_matter():
    ours, theirs = parameters(), parameters()
    optimizer = AdamTF(ours, epsilon=1e-20)
    reference = torch.optim.Adam(theirs.values(), lr=1e-2, eps=1e-20)
    run(optimizer, 0, 9)
    for a, b in zip(gradients(9, 2, 3), gradients(9, 2, 3, seed=2), strict=True):
        theirs["a"].grad, theirs["b"].grad = a.clone(), b.clone()
        reference.step()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_novograd_equals_the_formula_number_by_number(weight_decay: float):
    shapes, epsilon = {"w": (2, 3), "b": (3,), "late": (2,)}, 1e-3
    ours = {name: nn.Parameter(gradients(1, *shape, seed=4)[0]) for name, shape in shapes.items()}
    theta = {name: p.detach().double().flatten().tolist() for name, p in ours.items()}
    m, v = {name: [0.0] * len(values) for name, values in theta.items()}, dict.fromkeys(shapes, 0.0)
    optimizer = NovoGrad(ours, betas=(0.9, 0.3), epsilon=epsilon, weight_decay=weight_decay)
    for t in range(6):
        for name, shape in shapes.items():
            g = gradients(6, *shape, seed=5)[t] * (0.0 if name == "late" and t < 3 else 1e-2)
            ours[name].grad = g.clone()
            values = g.double().flatten().tolist()
            square = sum(x * x for x in values)
            v[name] = square if v[name] == 0.0 else 0.3 * v[name] + 0.7 * square
            for i, x in enumerate(values):
                m[name][i] = 0.9 * m[name][i] + x / (math.sqrt(v[name]) + epsilon) + weight_decay * theta[name][i]
            for i in range(len(values)):
                theta[name][i] -= 0.05 / (t + 1) * m[name][i]
        optimizer.step(0.05 / (t + 1))
        assert optimizer.unmoved() == (["late"] if t < 3 else [])
    for name, shape in shapes.items():
        np.testing.assert_allclose(ours[name].detach().numpy(), np.reshape(theta[name], shape), rtol=2e-6, atol=1e-7)
    assert [tensor.item() for tensor in optimizer.v] == pytest.approx(list(v.values()), rel=1e-6)


def test_novograds_second_moment_is_one_float32_number_per_tensor():
    optimizer = NovoGrad({"p": nn.Parameter(torch.ones(4, 5, dtype=torch.bfloat16))})
    optimizer.parameters[0].grad = torch.full((4, 5), 0.1, dtype=torch.bfloat16)
    optimizer.step(1e-2)
    assert (optimizer.v[0].shape, optimizer.v[0].dtype) == (torch.Size([]), torch.float32)
    assert optimizer.parameters[0].dtype == torch.bfloat16


def test_a_recipe_names_its_optimiser_and_all_its_numbers():
    numbers = {"betas": (0.8, 0.5), "epsilon": 1e-6}
    novograd = optimizer_for(RecipeSpec(epochs=1, optimizer="novograd", weight_decay=1e-3, **numbers), parameters())
    adam = optimizer_for(RecipeSpec(epochs=1, **numbers), parameters())
    assert isinstance(novograd, NovoGrad)
    assert isinstance(adam, AdamTF)
    assert novograd.weight_decay == 1e-3
    for optimizer in (novograd, adam):
        assert (optimizer.betas, optimizer.epsilon) == ((0.8, 0.5), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_restored_training_goes_on_bit_for_bit(kind: type[Optimizer]):
    whole = parameters()
    run(kind(whole), 0, 9)
    halves = parameters()
    optimizer = kind(halves)
    run(optimizer, 0, 4)
    state = {key: tensor.clone() for key, tensor in optimizer.state().items()}
    assert sorted(state) == ["a/m", "a/v", "b/m", "b/v", "step"]
    resumed = kind(halves)
    resumed.restore(state)
    run(resumed, 4, 9)
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_restore_wants_the_same_parameters():
    state = AdamTF(parameters()).state()
    with pytest.raises(RuntimeError, match=r"other parameters: \['b/m', 'b/v'\]"):
        AdamTF({"a": parameters()["a"]}).restore(state)
    with pytest.raises(RuntimeError, match="shapes differ"):
        AdamTF({"a": nn.Parameter(torch.zeros(3)), "b": parameters()["b"]}).restore(state)
    with pytest.raises(RuntimeError, match="shapes differ"):
        NovoGrad(parameters()).restore(state)  # another optimiser's


def test_transferred_state_leaves_a_fresh_layer_without_bias_correction():
    source = AdamTF(parameters())
    run(source, 0, 9)
    state = source.state() | {"step": torch.tensor(732522)}
    target = parameters()
    before = target["b"].detach().clone()
    optimizer = AdamTF(target)
    assert optimizer.transfer(state, kept=["a", "elsewhere"]) == ["a"]
    assert optimizer.t == 732522
    assert torch.equal(optimizer.m[0], source.m[0])
    assert not optimizer.v[1].any()
    run(optimizer, 0, 1, rate=1e-4)
    # The first step of a corrected Adam is the learning rate; without correction it is (1-β1)/sqrt(1-β2) = 3.16 times.
    torch.testing.assert_close((target["b"] - before).abs(), torch.full((2, 3), 3.1623e-4), rtol=2e-3, atol=0)


def test_novograds_transferred_state_lets_a_fresh_layer_begin_afresh():
    source = NovoGrad(parameters())
    run(source, 0, 9)
    target = parameters()
    before = target["b"].detach().clone()
    optimizer = NovoGrad(target)
    assert optimizer.transfer(source.state(), kept=["a"]) == ["a"]
    assert torch.equal(optimizer.m[0], source.m[0])
    assert torch.equal(optimizer.v[0], source.v[0])
    run(optimizer, 0, 1, rate=1e-4)
    assert (target["b"] - before).norm().item() == pytest.approx(1e-4, rel=1e-3)  # a gradient of norm 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_without_gradient_is_named(kind: type[Optimizer]):
    optimizer = kind(parameters())
    optimizer.parameters[0].grad = torch.zeros(2, 3)
    with pytest.raises(RuntimeError, match=r"no gradient reached \['b'\]"):
        optimizer.step(1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_unmoved_are_those_whose_gradient_was_always_zero(kind: type[Optimizer]):
    optimizer = kind(parameters())
    optimizer.parameters[0].grad, optimizer.parameters[1].grad = torch.zeros(2, 3), torch.ones(2, 3)
    optimizer.step(1e-3)
    assert optimizer.unmoved() == ["a"]
    optimizer.zero_grad()
    assert optimizer.parameters[1].grad is None


@pytest.mark.parametrize(("limit", "after"), [(1.0, 1.0), (100.0, 5.0)])
def test_clipping_by_the_norm_over_all_gradients(limit: float, after: float):
    values = {"a": nn.Parameter(torch.zeros(1)), "b": nn.Parameter(torch.zeros(2))}
    optimizer = AdamTF(values)
    values["a"].grad, values["b"].grad = torch.tensor([3.0]), torch.tensor([0.0, -4.0])
    assert optimizer.clip_gradients(limit).item() == pytest.approx(5.0)
    assert optimizer.gradient_norm().item() == pytest.approx(after)
    assert values["b"].grad.tolist() == pytest.approx([0.0, -0.8 * after])


# --- torch's own ------------------------------------------------------------------------------------------------------

THEIRS: dict[str, tuple[dict[str, Any], Callable[[list[nn.Parameter]], torch.optim.Optimizer]]] = {
    "sgd": ({"weight_decay": 0.1}, lambda p: torch.optim.SGD(p, weight_decay=0.1)),
    "sgd, momentum": ({"momentum": 0.9}, lambda p: torch.optim.SGD(p, momentum=0.9)),
    "adagrad": ({"epsilon": 1e-10}, lambda p: torch.optim.Adagrad(p, eps=1e-10)),
    "adadelta": ({"rho": 0.95}, lambda p: torch.optim.Adadelta(p, rho=0.95, eps=1e-8)),
    "adam": ({"betas": (0.8, 0.9)}, lambda p: torch.optim.Adam(p, betas=(0.8, 0.9))),
    "adamw": ({"weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, weight_decay=0.1)),
    "asgd": ({"averaging_start": 3}, lambda p: torch.optim.ASGD(p, lr=1e-2, lambd=0.0, t0=3)),
}
SLOTS = {
    "sgd": [],
    "sgd, momentum": ["momentum_buffer"],
    "adagrad": ["step", "sum"],
    "adadelta": ["step", "square_avg", "acc_delta"],
    "adam": ["step", "exp_avg", "exp_avg_sq"],
    "adamw": ["step", "exp_avg", "exp_avg_sq"],
    "asgd": ["step", "eta", "mu", "ax"],
}


def theirs(name: str, values: dict[str, nn.Parameter]) -> Optimizer:
    recipe = RecipeSpec.model_validate({"epochs": 1, "optimizer": name.split(",")[0], **THEIRS[name][0]})
    return optimizer_for(recipe, values)


@pytest.mark.parametrize("name", THEIRS)
def test_steps_are_those_of_torch(name: str):
    ours, plain = parameters(), parameters()
    run(theirs(name, ours), 0, 9)
    reference = THEIRS[name][1](list(plain.values()))
    for group in reference.param_groups:
        group["lr"] = 1e-2
    for a, b in zip(gradients(9, 2, 3), gradients(9, 2, 3, seed=2), strict=True):
        plain["a"].grad, plain["b"].grad = a.clone(), b.clone()
        reference.step()
    assert all(torch.equal(ours[key], plain[key]) for key in ours)


@pytest.mark.parametrize("name", THEIRS)
def test_torchs_state_has_named_slots_and_comes_back_bit_for_bit(name: str):
    whole, halves = parameters(), parameters()
    run(theirs(name, whole), 0, 9)
    optimizer = theirs(name, halves)
    empty = optimizer.state()
    run(optimizer, 0, 4)
    state = {key: tensor.clone() for key, tensor in optimizer.state().items()}
    assert set(state) == {"step", *(f"{p}/{slot}" for p in "ab" for slot in [*SLOTS[name], "moved"])}
    assert {key: tensor.shape for key, tensor in empty.items()} == {key: tensor.shape for key, tensor in state.items()}
    resumed = theirs(name, halves)
    resumed.restore(state)
    run(resumed, 4, 9)
    assert all(torch.equal(whole[key], halves[key]) for key in whole)


@pytest.mark.parametrize("name", [*THEIRS, "adam-tf", "novograd"])
def test_idle_parameters_and_their_state_stand_still(name: str):
    values = parameters()
    optimizer = (
        theirs(name, values)
        if name in THEIRS
        else optimizer_for(RecipeSpec.model_validate({"epochs": 1, "optimizer": name}), values)
    )
    run(optimizer, 0, 3)
    before = {key: tensor.clone() for key, tensor in optimizer.state().items()}
    held, other = values["b"].detach().clone(), values["a"].detach().clone()
    optimizer.zero_grad()
    optimizer.idle = {"b"}
    values["a"].grad = torch.ones(2, 3)
    assert optimizer.gradient_norm().item() == pytest.approx(math.sqrt(6))
    optimizer.step(1e-2)
    assert torch.equal(values["b"], held)
    assert not torch.equal(values["a"], other)
    after = optimizer.state()
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items() if key in ("b/m", "b/v", "b/exp_avg"))


@pytest.mark.parametrize("name", THEIRS)
def test_unmoved_of_torchs_are_those_whose_gradient_was_always_zero(name: str):
    values = parameters()
    optimizer = theirs(name, values)
    assert optimizer.unmoved() == ["a", "b"]
    values["a"].grad, values["b"].grad = torch.zeros(2, 3), torch.full((2, 3), 1e-30)
    optimizer.step(1e-3)
    assert optimizer.unmoved() == ["a"]
    again = theirs(name, parameters())
    again.restore({key: tensor.clone() for key, tensor in optimizer.state().items()})
    assert again.unmoved() == ["a"]


def test_torchs_slots_are_transferred_for_the_layers_that_are_kept():
    source, target = theirs("adam", parameters()), theirs("adam", parameters())
    run(source, 0, 4)
    assert target.transfer(source.state(), kept=["a"]) == ["a"]
    state = target.state()
    assert torch.equal(state["a/exp_avg_sq"], source.state()["a/exp_avg_sq"])
    assert (state["a/step"].item(), state["b/step"].item()) == (4.0, 0.0)  # corrected for the start by itself
    assert target.unmoved() == ["a", "b"]  # no gradient of this training yet
    assert theirs("adagrad", parameters()).transfer(source.state(), kept=["a"]) == []


def test_averages_take_the_place_of_the_weights_meanwhile():
    values = parameters()
    optimizer = theirs("asgd", values)
    assert optimizer.averages() == {}
    seen = []
    for step in range(8):
        run(optimizer, step, step + 1)
        seen.append(values["a"].detach().clone())
    raw = values["a"].detach().clone()
    with optimizer.averaged():
        # torch averages from the second step after averaging_start
        torch.testing.assert_close(values["a"].detach(), torch.stack(seen[4:]).mean(0))
        assert torch.equal(optimizer.averages()["a"], values["a"])
    assert torch.equal(values["a"], raw)


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "adam-tf", "weight_decay": 0.1},
        {"optimizer": "adam", "momentum": 0.9},
        {"optimizer": "sgd", "rho": 0.95},
        {"optimizer": "sgd", "averaging_start": 3},
        {"snapshots": ["epoch-2"]},
    ],
)
def test_numbers_that_an_optimiser_does_not_have_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=r"has none|has no epoch-2"):
        RecipeSpec.model_validate({"epochs": 1, **wrong})
