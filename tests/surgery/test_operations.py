"""Operations: what each does to a model, what the checks after it notice, and what a recipe's keys mean."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_layered import Normed
from thaw.config.models import QuartzNetSpec
from thaw.config.run import LoadRecipe, RunRecipe
from thaw.config.schema import FrozenSpec
from thaw.errors import UserError
from thaw.models import LayeredModel, build
from thaw.models.layered import Drop, Layer
from thaw.surgery.checks import SurgeryError, check_layers, draw_of, drawn_state, same_bits
from thaw.surgery.operations import FIRST, START, Freeze, KeepRows, Load, Reset, apply, operations_of
from thaw.surgery.surgery import prepare
from thaw.units import EVERY, Alphabet

MODEL: dict[str, Any] = {"kind": "quartznet", "variant": "mini-3x1"}
LAYERS = QuartzNetSpec.model_validate(MODEL).layer_names
LETTERS = " abc"


def recipe(**keys: Any) -> RunRecipe:
    plain = {"version": 2, "model": MODEL, "alphabet": LETTERS, "corpora": ["c"], "recipe": {"epochs": 1}, "seed": 1}
    return RunRecipe.model_validate(plain | keys)


def model() -> LayeredModel:
    return build(QuartzNetSpec.model_validate(MODEL), len(LETTERS) + 1)


def trained(seed: int = 1, shift: float = 0.01) -> dict[str, Tensor]:
    """The weights of a run of this seed after some steps, statistics of norms included."""
    made = model()
    made.initialise(seed)
    random = torch.Generator().manual_seed(8)
    return {n: t + shift * (1 + torch.rand(t.shape, generator=random)) for n, t in made.state_dict().items()}


def meta(run: RunRecipe) -> dict[str, Any]:
    return {"model": MODEL, "alphabet": LETTERS, "run": run.model_dump(mode="json")}


def test_a_layer_reset_with_the_donors_seed_does_not_get_the_donors_first_weights_unnoticed():
    donor, run = recipe(), recipe(start="d", reset=["block_2"])
    new = model()
    with pytest.raises(UserError, match="layer block_2 is drawn from seed 1, draw 0, as it was in the run"):
        prepare(new, operations_of(run, new), {START: trained()}, meta(donor)).check_start()
    for mended in (run.model_copy(update={"draw": 1}), run.model_copy(update={"seed": 2})):
        new = model()
        prepare(new, operations_of(mended, new), {START: trained()}, meta(donor)).check_start()


def test_a_head_of_another_size_is_not_drawn_from_the_donors_numbers_either():
    """Its rows would be the donor's own first ones, times a constant: the donor's other layers learnt beside them."""
    wide = build(QuartzNetSpec.model_validate(MODEL), len(LETTERS) + 3)
    run = recipe(start="d", reset=["decoder"], alphabet=LETTERS + "xy")
    with pytest.raises(UserError, match="layer decoder is drawn from seed 1, draw 0"):
        prepare(wide, operations_of(run, wide), {START: trained()}, meta(recipe())).check_start()
    other = run.model_copy(update={"draw": 1})
    prepare(wide, operations_of(other, wide), {START: trained()}, meta(recipe())).check_start()


def test_first_values_may_be_the_donors_own_where_a_recipe_says_so():
    """Zhang et al. (2021) train an AWD-LSTM again from the baseline's own initial weights, its top layer frozen."""
    run, new, first = recipe(start="d", reset=["conv_2"], redraw=True), model(), model()
    first.initialise(1)
    prepare(new, operations_of(run, new), {START: trained()}, meta(recipe())).check_start()
    assert all(
        torch.equal(new.layer_state("conv_2")[name], tensor) for name, tensor in first.layer_state("conv_2").items()
    )
    told = run.model_copy(update={"redraw": False})
    with pytest.raises(UserError, match="layer conv_2 is drawn from seed 1, draw 0"):
        prepare(model(), operations_of(told, model()), {START: trained()}, meta(recipe())).check_start()


def test_the_donors_own_reset_counts_as_its_draw_and_what_it_took_over_does_not():
    donor = recipe(start="x", reset=["block_2"], draw=1, seed=5)
    assert draw_of(meta(donor), "block_2") == (5, 1)
    assert draw_of(meta(donor), "block_1") is None
    swapped = recipe(loads=[{"start": "x", "layers": ["decoder"]}])
    assert draw_of(meta(swapped), "decoder") is None
    assert draw_of(meta(swapped), "block_1") == (1, 0)
    for unknown in ({}, {"run": "toy"}, {"run": {"checkpoint": "nemo", "name": "x", "sha256": ""}}):
        assert draw_of(unknown, "block_1") is None
    run, new = recipe(start="d", reset=["block_1", "block_2"], seed=5, draw=1), model()
    with pytest.raises(UserError, match="layer block_2 is drawn from seed 5, draw 1"):
        prepare(new, operations_of(run, new), {START: trained()}, meta(donor)).check_start()


def test_rows_that_are_drawn_beside_kept_ones_are_compared_too():
    run, new = recipe(start="d", reset=["decoder"], output_rows="shared"), model()
    operations = operations_of(run, new, {EVERY: Alphabet(" axy")})
    assert operations[-1] == KeepRows("decoder", ((0, 0), (1, 1), (4, 4)))
    with pytest.raises(UserError, match="layer decoder is drawn from seed 1"):
        prepare(new, operations, {START: trained()}, meta(recipe())).check_start()
    again = run.model_copy(update={"draw": 3})
    prepare(new, operations_of(again, new, {EVERY: Alphabet(" axy")}), {START: trained()}, meta(recipe())).check_start()


def test_draws_of_one_seed_differ_and_the_first_is_what_a_training_from_scratch_begins_with():
    made = model()
    made.initialise(1)
    first, second = (drawn_state(made, "block_1", 1, draw) for draw in (0, 1))
    assert same_bits(first, made.state_dict())
    weight = "layers.block_1.sub.0.pointwise.weight"
    assert not torch.equal(first[weight], second[weight])


def test_a_recipe_from_scratch_draws_all_layers_and_nothing_else():
    assert operations_of(recipe(seed=3), model()) == (Reset(LAYERS, "draw", 3, 0),)


def test_a_recipes_keys_as_operations():
    run = recipe(
        start="a",
        snapshot="last",
        loads=[{"start": "b", "snapshot": "epoch-2", "layers": ["decoder", "conv_3"]}],
        reset=["block_1", "conv_1"],
        draw=2,
        freeze=["decoder"],
        frozen={"dropout": "off"},
    )
    assert operations_of(run, model()) == (
        Load(START, ("block_2", "block_3", "conv_2")),
        Load("b@epoch-2", ("conv_3", "decoder")),
        Reset(("block_1", "conv_1"), "draw", 1, 2),
        Freeze(("decoder",), FrozenSpec(dropout="off")),
    )
    with pytest.raises(ValueError, match=r"more than one origin \(reset, loads\): \['decoder'\]"):
        recipe(start="a", reset=["decoder"], loads=[LoadRecipe(start="b", layers=("decoder",))])


def test_layers_of_a_second_run_with_another_architecture():
    other = {name: tensor for name, tensor in trained(9).items() if name.startswith("layers.decoder")}
    other["layers.attention.weight"] = torch.zeros(3)
    run, new = recipe(start="a", loads=[{"start": "b", "layers": ["decoder"]}], freeze=["decoder"]), model()
    surgery = prepare(new, operations_of(run, new), {START: trained(), "b@best": other})
    record = surgery.check_start()
    assert record["loaded"] == {"b@best": ["decoder"]}
    assert record["kept"] == list(LAYERS[:-1])
    assert not any("decoder" in name for name in surgery.kept_parameters())
    with torch.no_grad():
        new.layer("decoder").bias[0] += 1e-6
    with pytest.raises(SurgeryError, match="layer decoder differs from that of b@best"):
        surgery.check_start()
    with pytest.raises(UserError, match=r"b@best: layer conv_3 does not fit this model: it is missing there"):
        apply(model(), [Load("b@best", ("conv_3",))], {"b@best": other})


@pytest.mark.parametrize("buffers", [True, False])
@pytest.mark.parametrize("to", ["draw", "first", "zero"])
def test_resets_with_and_without_buffers(to: Any, buffers: bool):
    now, first = trained(), trained(shift=0.0)
    operations = [Load(START, LAYERS), Reset(("block_1",), to, seed=7, buffers=buffers)]
    made = model()
    apply(made, operations, {START: now, FIRST: first})
    check_layers(made, operations, {START: now, FIRST: first}, meta(recipe()))
    state = made.state_dict()
    assert all(torch.equal(state[name], now[name]) for name in state if not name.startswith("layers.block_1."))
    fresh = drawn_state(made, "block_1", 7, 0)
    for name in fresh:
        if "running" in name:
            expected = fresh[name] if buffers else now[name]  # before its first step a norm has seen nothing
        else:
            expected = {"draw": fresh[name], "first": first[name], "zero": torch.zeros_like(now[name])}[to]
        assert torch.equal(state[name], expected), name


def test_resets_that_were_not_done_are_noticed():
    now, first = trained(), trained(shift=0.0)
    sources = {START: now, FIRST: first}
    made = model()
    apply(made, [Load(START, LAYERS)], sources)
    with pytest.raises(SurgeryError, match="block_1 is not what it was at first"):
        check_layers(made, [Reset(("block_1",), "first")], sources)
    with pytest.raises(SurgeryError, match=r"not reset to zero: \['layers.block_1"):
        check_layers(made, [Reset(("block_1",), "zero")], sources)
    with pytest.raises(SurgeryError, match="reset left the start's values in"):
        check_layers(made, [Reset(("block_1",), "draw", 7)], sources)


class Grouped(Normed):
    """As the layer it is made of, with another kind of norm."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__(3, 4)
        self.norm = norm

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        return self.norm(self.linear(x).transpose(1, 2)).transpose(1, 2), lengths

    def reset_parameters(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(self.linear.weight.shape, generator=generator))


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.RMSNorm(4)], ids=lambda n: type(n).__name__)
def test_every_kind_of_norm_learns_in_a_frozen_layer_where_norms_learn(norm: nn.Module):
    layers: dict[str, Layer] = {"low": Grouped(norm), "high": Normed(4, 5)}
    made = LayeredModel(layers)
    surgery = prepare(made, [Reset(("low", "high")), Freeze(("low",), FrozenSpec(norm="learn"))])
    names = {name for name in surgery.check_start()["trainable"] if ".low." in name}
    assert names == {f"layers.low.norm.{name}" for name, _ in norm.named_parameters()}
    with torch.no_grad():
        norm.weight.add_(1.0)
        made.layer("high").linear.weight.add_(1.0)
    surgery.check_end([name for name in surgery.trainable() if name != "layers.low.norm.weight"])
    with torch.no_grad():
        made.layer("low").linear.weight.add_(1.0)
    with pytest.raises(SurgeryError, match="frozen layers changed"):
        surgery.check_end(list(surgery.trainable()))
