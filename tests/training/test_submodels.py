"""Federated dropout: smaller networks that learn as the whole one would without those units, and what comes back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.training.conftest import ALPHABET, TASKS, Bench, make_recipe
from thaw.config.run import RunRecipe
from thaw.errors import UserError
from thaw.files import write_jsonl
from thaw.models.deepspeech import Dense
from thaw.models.layered import Drop, HiddenUnits, Layer, LayeredModel
from thaw.probing.ranking import criticality, ranked, unit_rates
from thaw.surgery.operations import Reset
from thaw.surgery.surgery import Surgery, prepare
from thaw.training.aggregation import Mean, Update, mean_buffers
from thaw.training.clients import Clients, by_speaker
from thaw.training.data import Examples, read_examples
from thaw.training.distributed import World
from thaw.training.federated import Federated
from thaw.training.submodels import add_at, cut, draw_cuts, kept_units, saved

WIDTH, HIDDEN = 26, 104  # d and 4d; the front end of DeepSpeech has 26 coefficients
BLOCKS = ("block_1", "block_2", "block_3")


class Block(Layer):
    """A feed-forward module beside its input."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        return x + self.w2(F.silu(self.w1(x))), lengths

    def reset_parameters(self, generator: torch.Generator) -> None:
        for parameter in self.parameters():
            with torch.no_grad():
                parameter.copy_(torch.empty(parameter.shape).uniform_(-0.1, 0.1, generator=generator))

    def hidden_units(self) -> tuple[HiddenUnits, ...]:
        return (HiddenUnits("w1.weight", "w1.bias", "w2.weight", HIDDEN),)


def network(seed: int = 1) -> tuple[LayeredModel, Surgery]:
    model = LayeredModel({**{name: Block() for name in BLOCKS}, "output": Dense(WIDTH, len(ALPHABET) + 1, None)})
    return model, prepare(model, [Reset(tuple(model.layers), "draw", seed)])


def recipe(**learner: Any) -> RunRecipe:
    plain = make_recipe(
        optimizer="sgd", learning_rate=0.001, batch_size=4, epochs=2, dropout=0.0, max_gradient_norm=1.0,
        learner={"kind": "federated", "clients": 3, "rounds": 2, **learner},
    )  # fmt: skip
    return RunRecipe.model_validate(plain)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    from tests.training.conftest import make_bench

    return read_examples([make_bench(tmp_path_factory.mktemp("toy")).train], TASKS, "deepspeech")


def clients(run: RunRecipe, examples: Examples, rates: Mapping[str, float]) -> tuple[Clients, LayeredModel]:
    model, surgery = network()
    return Clients(run, model, surgery, by_speaker(examples), rates, torch.device("cpu")), model


# --- cuts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.5])
def test_exactly_so_many_parameters_are_saved(rate: float) -> None:
    """rate · (8d² + 4d) for d -> 4d -> d, where rate · 4d is a whole number."""
    model, _ = network()
    share = 1 - kept_units(rate, HIDDEN) / HIDDEN
    less = saved(model, dict.fromkeys(BLOCKS, rate))
    assert less == pytest.approx(len(BLOCKS) * share * (8 * WIDTH**2 + 4 * WIDTH))
    if rate in (0.25, 0.5):
        assert less == len(BLOCKS) * rate * (8 * WIDTH**2 + 4 * WIDTH)


def test_kept_units_are_a_fixed_number_and_nested() -> None:
    model, _ = network()
    half, most = (draw_cuts(model, dict.fromkeys(BLOCKS, rate), 1, 7, "ann") for rate in (0.5, 0.1))
    for name in half:
        for dim, indices in half[name].items():
            assert set(indices.tolist()) < set(most[name][dim].tolist())
            assert (len(indices), len(most[name][dim])) == (52, 94)
            assert indices.tolist() == sorted(indices.tolist())
    other = draw_cuts(model, dict.fromkeys(BLOCKS, 0.5), 1, 7, "bob")
    assert not torch.equal(half["layers.block_1.w1.weight"][0], other["layers.block_1.w1.weight"][0])
    assert not torch.equal(half["layers.block_1.w1.weight"][0], half["layers.block_2.w1.weight"][0])
    assert torch.equal(half["layers.block_1.w1.bias"][0], half["layers.block_1.w2.weight"][1])


def test_a_cut_and_its_place() -> None:
    whole = torch.arange(20.0).view(4, 5)
    kept = {0: torch.tensor([1, 3]), 1: torch.tensor([0, 2, 4])}
    part = cut(whole, kept)
    assert part.tolist() == [[5.0, 7.0, 9.0], [15.0, 17.0, 19.0]]
    target = torch.zeros_like(whole)
    add_at(target, kept, part)
    add_at(target, kept, 1.0)
    expected = torch.zeros_like(whole)
    for row in (1, 3):
        for column in (0, 2, 4):
            expected[row, column] = whole[row, column] + 1
    assert torch.equal(target, expected)


# --- what a client learns -------------------------------------------------------------------------------


def test_the_dense_small_network_learns_what_the_whole_one_would_without_those_units(examples: Examples) -> None:
    """The masked equivalent: units that are silenced before every step, whose gradients are thrown away."""
    rates = {"block_1": 0.5, "block_2": 0.25}
    run = recipe(dropout={})
    trainer, model = clients(run, examples, rates)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (update,) = trainer.train(3, ["4"], weights)
    assert update.weights["layers.block_1.w1.weight"].shape == (52, WIDTH)

    class Silenced(Block):
        def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
            return x + self.w2(F.silu(self.w1(x)) * self.alive), lengths

        alive: Tensor

    whole, surgery = network()
    for name in BLOCKS:
        layer, own = Silenced(), whole.layer(name).state_dict()
        layer.load_state_dict(own)
        layer.alive = torch.zeros(HIDDEN)
        kept = update.cuts.get(f"layers.{name}.w1.weight", {0: torch.arange(HIDDEN)})[0]
        layer.alive[kept] = 1.0
        whole.layers[name] = layer
    masked = Clients(run, whole, surgery, by_speaker(examples), {}, torch.device("cpu"))
    (reference,) = masked.train(3, ["4"], weights)
    moved = 0.0
    for name, value in update.weights.items():
        expected = cut(reference.weights[name], update.cuts.get(name))
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
        moved = max(moved, float((value - cut(weights[name], update.cuts.get(name))).abs().max()))
    assert moved > 1e-4
    for name, dims in update.cuts.items():
        rest = reference.weights[name].clone()
        add_at(rest, dims, -cut(rest, dims) + cut(weights[name], dims))
        assert torch.equal(rest, weights[name])  # what was silenced did not move


def test_clients_of_a_round_may_lack_the_same_units(examples: Examples) -> None:
    rates = dict.fromkeys(BLOCKS, 0.5)
    for units, same in (("client", False), ("round", True)):
        trainer, model = clients(recipe(dropout={"units": units}), examples, rates)
        a, b = (
            update.cuts["layers.block_1.w1.bias"][0]
            for update in trainer.train(1, ["1", "2"], dict(model.state_dict()))
        )
        assert torch.equal(a, b) == same


# --- the mean --------------------------------------------------------------------------------------------


def update_of(client: str, value: float, kept: list[int], size: int = 4) -> Update:
    cuts = {"w": {0: torch.tensor(kept)}} if len(kept) < size else {}
    return Update(client, {"w": torch.full((len(kept),), 1 + value)}, {}, cuts, 1)


@pytest.mark.parametrize(
    ("aggregation", "expected"), [("masked", [3.0, 2.0, 4.0, 0.0]), ("zero-fill", [3.0, 1.0, 2.0, 0.0])]
)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_both_ways_to_take_the_mean(aggregation: Any, expected: list[float], order: tuple[int, int]) -> None:
    """Of what both clients had, what one alone had, and what none had."""
    mean = Mean({"w": torch.ones(4)}, aggregation)
    updates = [update_of("a", 2.0, [0, 1]), update_of("b", 4.0, [0, 2])]
    for place in order:
        mean.add(updates[place], 0.5)
    assert mean.result()["w"].tolist() == expected
    untouched = {name: where.tolist() for name, where in mean.untouched().items()}
    assert untouched == ({"w": [False, False, False, True]} if aggregation == "masked" else {})


def test_a_client_with_all_of_it_counts_for_every_number() -> None:
    mean = Mean({"w": torch.ones(4)})
    mean.add(update_of("a", 2.0, [0, 1, 2, 3]), 0.75)
    mean.add(update_of("b", 6.0, [1]), 0.25)
    assert mean.result()["w"].tolist() == [2.0, 3.0, 2.0, 2.0]


def test_a_change_that_is_not_finite_is_not_counted() -> None:
    mean = Mean({"w": torch.ones(4)})
    assert math.isnan(mean.add(update_of("a", float("nan"), [0, 1, 2, 3]), 0.5))
    assert mean.add(update_of("b", 1.0, [0, 1, 2, 3]), 0.5) == pytest.approx(2.0)
    assert mean.result()["w"].tolist() == [1.0] * 4


def test_buffers_are_averaged_and_counts_are_not() -> None:
    start = {"mean": torch.tensor([1.0]), "count": torch.tensor(3)}
    updates = {"a": (0.25, {"mean": torch.tensor([5.0]), "count": torch.tensor(4)}),
               "b": (0.75, {"mean": torch.tensor([1.0]), "count": torch.tensor(9)})}  # fmt: skip
    merged = mean_buffers(start, updates)
    assert (merged["mean"].item(), merged["count"].item()) == (2.0, 9)


@pytest.mark.parametrize("server", [{}, {"optimizer": "adam", "learning_rate": 0.1}, {"momentum": 0.9}])
def test_masked_aggregation_conserves_what_nobody_trained(examples: Examples, server: dict[str, Any]) -> None:
    """Bit for bit, also under a server whose momentum would have moved it."""
    run = recipe(dropout={"units": "round"}, server=server)
    rates = dict.fromkeys(BLOCKS, 0.5)
    model, surgery = network()
    own = by_speaker(examples)
    trainer = Clients(run, model, surgery, own, rates, torch.device("cpu"))
    speakers = {name: len(one) for name, one in own.items()}
    learner = Federated(run, model, surgery, examples, examples, World(), print, trainer, speakers, rates)
    moved = 0
    for round_ in (1, 2, 3):
        before = {name: tensor.clone() for name, tensor in learner.tensors().items()}
        learner.step(learner.cohort(round_))
        after = learner.tensors()
        for name, dims in draw_cuts(model, rates, run.seed, round_, "").items():
            for place in (f"model/{name}", f"server/{name}", *(k for k in after if k.startswith(f"optimizer/{name}/"))):
                if after[place].shape != before[f"model/{name}"].shape:
                    continue
                trained = torch.zeros_like(after[place])
                add_at(trained, dims, 1.0)
                same = after[place] == before[place]
                assert bool(same[trained == 0].all()), place
                moved += int((~same).sum())
    assert moved


def test_a_tensor_that_barely_moved_is_told_from_one_that_stood_still(examples: Examples) -> None:
    """The change of a shift that a softmax passes over is rounding alone: not to be seen in single precision."""
    model, surgery = network()
    run, own = recipe(), by_speaker(examples)
    trainer = Clients(run, model, surgery, own, {}, torch.device("cpu"))
    learner = Federated(run, model, surgery, examples, examples, World(), print, trainer, dict.fromkeys(own, 4), {})
    change = {name: torch.full_like(p, 0.01) for name, p in learner.master.items()}
    small = "layers.block_2.w1.bias"
    change[small] = learner.master[small].detach() * 1e-8
    learner.note_largest(change)
    assert small in learner.unmoved()
    for parameter in learner.master.values():
        parameter.grad = torch.ones_like(parameter)
    learner.optimizer.step(0.1)
    assert learner.unmoved() == [small]
    again = json.loads(json.dumps(learner.facts()))
    learner.largest = dict.fromkeys(learner.largest, 1.0)
    learner.restore(learner.tensors(), again)
    assert learner.unmoved() == [small]


# --- which layers ------------------------------------------------------------------------------------------


def probe_rows(tmp_path: Path) -> Path:
    rates = {"block_1": 90, "block_2": 30, "block_3": 50}
    rows = [row("baseline", [], 10)]
    for layer, errors in rates.items():
        for seed in (101, 102):
            rows.append(row(f"{layer}-draw-{seed}", [{"reset": [layer], "seed": seed}], errors + seed - 101))
        rows.append(row(f"{layer}-first", [{"reset": [layer], "to": "first"}], 100 - errors))
    rows.append(row("two", [{"reset": ["block_1", "block_2"], "seed": 1}], 1))
    rows.append(row("module", [{"reset": ["block_2"], "seed": 1, "module": "ff1"}], 99))
    rows.append(row("output-draw-101", [{"reset": ["output"], "seed": 101}], 100))
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, rows)
    return path


def row(name: str, operations: list[dict[str, Any]], errors: int) -> dict[str, Any]:
    return {
        "name": name,
        "split": "test",
        "operations": operations,
        "measures": {"word": {"errors": errors, "total": 100}},
    }


def test_a_ranking_from_a_probes_rows(tmp_path: Path) -> None:
    path = probe_rows(tmp_path)
    assert ranked(path, BLOCKS) == ["block_1", "block_3", "block_2"]
    assert ranked(path, BLOCKS, "first") == ["block_2", "block_3", "block_1"]
    assert criticality([row("x", [{"reset": ["a"], "seed": 1}], 3)]) == {"a": 0.03}
    with pytest.raises(UserError, match="no probe resets block_4 alone to a fresh draw"):
        ranked(path, [*BLOCKS, "block_4"])


def test_rates_by_layer(tmp_path: Path) -> None:
    def rates(**dropout: Any) -> list[float]:
        learner = recipe(dropout=dropout).recipe.learner
        return list(unit_rates(learner.dropout, BLOCKS, probe_rows(tmp_path)).values())  # type: ignore[union-attr]

    assert rates() == [0.1, 0.1, 0.1]
    assert rates(rate=0.2) == [0.2, 0.2, 0.2]
    assert rates(critical=2) == [0.5, 0.1, 0.5]
    assert rates(ambient=2) == [0.1, 0.5, 0.5]
    assert rates(ambient=1, by="first", raised=0.25) == [0.25, 0.1, 0.1]
    assert rates(layers=["block_1"], rate=0.0) == [0.5, 0.0, 0.0]
    for wrong, message in (({"layers": ["output"]}, "has no hidden units"), ({"critical": 4}, "4 layers wanted, 3")):
        with pytest.raises(UserError, match=message):
            rates(**wrong)
    with pytest.raises(UserError, match="need a ranking"):
        unit_rates(recipe(dropout={"critical": 1}).recipe.learner.dropout, BLOCKS, None)  # type: ignore[union-attr]


def test_the_seven_rates_of_the_published_table() -> None:
    """Zhou et al. (2022), Table 3: 8, 9, 9, 10, 10, 11, 12 % of 137M parameters, as the sheet of the study decodes it.

    Hidden units of both feed-forward modules of 17 blocks of 512, of which the fourth, which stacks frames, is larger;
    10 % everywhere, 50 % of the n layers, 20 % in the flat scheme. Its largest block is among the ambient ones.
    """
    regular, stacking, total = 2 * (8 * 512**2 + 4 * 512), 7.97e6, 136.7e6
    blocks = [stacking] + [regular] * 16

    def percent(raised: int, stacks: bool, rate: float = 0.1) -> float:
        chosen = blocks[:raised] if stacks else blocks[1 : 1 + raised]
        return 100 * (rate * sum(blocks) + (0.5 - rate) * sum(chosen)) / total

    schemes = [percent(2, False), percent(2, True), percent(3, False), percent(3, True), percent(4, False),
               percent(0, False, 0.2), percent(4, True)]  # fmt: skip
    assert [round(one, 1) for one in schemes] == [8.0, 9.1, 9.2, 10.3, 10.4, 11.0, 11.5]
    assert [int(one + 0.5) for one in schemes] == [8, 9, 9, 10, 10, 11, 12]


def test_a_bench_has_speakers(bench: Bench) -> None:
    own = by_speaker(read_examples([bench.train], TASKS, "deepspeech"))
    assert list(own) == [str(number) for number in range(10)]
    nameless = read_examples([bench.train], TASKS, "deepspeech")
    object.__setattr__(nameless.utterances[0], "speaker", "part/unknown")
    with pytest.raises(UserError, match="1 of 40 training utterances name no speaker"):
        by_speaker(nameless)
