"""Adam in TensorFlow's form against a scalar restatement and torch's; state that comes back bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from thaw.training.optim import AdamTF


def gradients(steps: int, *shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(steps, *shape, generator=torch.Generator().manual_seed(seed))


def parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(9)
    return {name: nn.Parameter(torch.randn(2, 3, generator=generator)) for name in ("a", "b")}


def run(optimizer: AdamTF, first: int, last: int, rate: float = 1e-2) -> None:
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


def test_saved_and_restored_training_goes_on_bit_for_bit():
    whole = parameters()
    run(AdamTF(whole), 0, 9)
    halves = parameters()
    optimizer = AdamTF(halves)
    run(optimizer, 0, 4)
    state = {key: tensor.clone() for key, tensor in optimizer.state().items()}
    assert sorted(state) == ["a/m", "a/v", "b/m", "b/v", "step"]
    resumed = AdamTF(halves)
    resumed.restore(state)
    run(resumed, 4, 9)
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_restore_wants_the_same_parameters():
    state = AdamTF(parameters()).state()
    with pytest.raises(RuntimeError, match=r"other parameters: \['b/m', 'b/v'\]"):
        AdamTF({"a": parameters()["a"]}).restore(state)
    with pytest.raises(RuntimeError, match="shapes differ"):
        AdamTF({"a": nn.Parameter(torch.zeros(3)), "b": parameters()["b"]}).restore(state)


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


def test_a_parameter_without_gradient_is_named():
    optimizer = AdamTF(parameters())
    optimizer.parameters[0].grad = torch.zeros(2, 3)
    with pytest.raises(RuntimeError, match=r"no gradient reached \['b'\]"):
        optimizer.step(1e-3)


def test_unmoved_are_those_whose_gradient_was_always_zero():
    optimizer = AdamTF(parameters())
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
