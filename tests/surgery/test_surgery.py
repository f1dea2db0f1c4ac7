"""Surgery: what a treatment says is what happens, and a training in which it does not happen stops."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.models.test_attention import small as small_attention
from tests.models.test_layered import normed_model, randn
from thaw.config.models import DeepSpeechSpec
from thaw.config.schema import FrozenSpec
from thaw.errors import UserError
from thaw.models import LayeredModel, build
from thaw.surgery.checks import SurgeryError
from thaw.surgery.operations import START, Freeze, KeepRows, Load, Operation, Reset
from thaw.surgery.surgery import Surgery, parameter_counts, prepare
from thaw.tasks.ctc import ctc_loss
from thaw.training.optim import AdamTF

LAYERS = DeepSpeechSpec(kind="deepspeech").layer_names
FREEZE_SETS = [LAYERS[:n] for n in range(6)] + [("layer_1", "layer_2", "layer_3", "layer_5")]


def model(classes: int = 9) -> LayeredModel:
    return build(DeepSpeechSpec(kind="deepspeech", hidden=12, context=2), classes)


def start(classes: int = 9) -> dict[str, Tensor]:
    source = model(classes)
    source.initialise(77)
    with torch.no_grad():
        for parameter in source.parameters():  # so that biases are no longer zero
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return source.state_dict()


def prepared(
    model: LayeredModel,
    start: dict[str, Tensor] | None = None,
    reset: Sequence[str] = (),
    freeze: Sequence[str] = (),
    frozen: FrozenSpec | None = None,
    seed: int = 1,
    rows: dict[int, int] | None = None,
) -> Surgery:
    """As a training with these YAML keys would be prepared."""
    every = tuple(model.layers)
    operations: list[Operation] = [Reset(tuple(reset) if start else every, seed=seed)]
    if start:
        operations.insert(0, Load(START, tuple(name for name in every if name not in reset)))
    if rows:
        operations.append(KeepRows(every[-1], tuple(rows.items())))
    operations.append(Freeze(tuple(freeze), frozen or FrozenSpec()))
    return prepare(model, operations, {START: start} if start else {})


def train(surgery: Surgery, steps: int = 2) -> AdamTF:
    optimizer = AdamTF(surgery.trainable())
    x = torch.randn(2, 12, 26, generator=torch.Generator().manual_seed(4))
    lengths, labels = torch.tensor([12, 9]), torch.tensor([0, 1, 2, 3], dtype=torch.int32)
    for _ in range(steps):
        optimizer.zero_grad()
        logits, _ = surgery.model(x, lengths)
        ctc_loss(logits, lengths, labels, torch.tensor([2, 2])).mean().backward()
        optimizer.step(1e-2)
    return optimizer


@pytest.mark.parametrize("freeze", FREEZE_SETS, ids="+".join)
def test_a_transfer_with_frozen_layers(freeze: tuple[str, ...]):
    given = start(classes=7)
    surgery = prepared(model(9), given, ["layer_6"], freeze, FrozenSpec(), seed=1)
    record = surgery.check_start()
    optimizer = train(surgery)
    record |= surgery.check_end(optimizer.unmoved())
    json.dumps(record)
    assert record["drawn"] == ["layer_6"]
    assert set(record["frozen"]) == set(freeze)
    state = surgery.model.state_dict()
    for name in LAYERS[:-1]:
        same = [torch.equal(state[key], given[key]) for key in state if key.startswith(f"layers.{name}.")]
        assert all(same) if name in freeze else not any(same)
    assert {name.split("/")[0].split(".")[1] for name in optimizer.state() if "/" in name} == set(LAYERS) - set(freeze)


def test_scratch_draws_every_layer_from_the_seed():
    surgery = prepared(model(), None, [], [], FrozenSpec(), seed=5)
    reference = model()
    reference.initialise(5)
    assert all(torch.equal(t, reference.state_dict()[k]) for k, t in surgery.model.state_dict().items())
    assert surgery.check_start()["drawn"] == list(LAYERS)
    assert surgery.kept_parameters() == []


def test_a_reset_layer_is_what_scratch_would_draw():
    surgery = prepared(model(), start(), ["layer_5", "layer_6"], [], FrozenSpec(), seed=5)
    reference = model()
    reference.initialise(5)
    for key, tensor in reference.state_dict().items():
        drawn = key.split(".")[1] in ("layer_5", "layer_6")
        assert torch.equal(surgery.model.state_dict()[key], tensor) == drawn
    assert {name.split(".")[1] for name in surgery.kept_parameters()} == {"layer_1", "layer_2", "layer_3", "lstm"}


def test_a_reset_layer_may_be_absent_from_the_start():
    given = {key: tensor for key, tensor in start().items() if "layer_6" not in key}
    prepared(model(), given, ["layer_6"], [], FrozenSpec(), seed=1).check_start()
    with pytest.raises(UserError, match="the start: layer layer_6 does not fit this model: it is missing there"):
        prepared(model(), given, [], [], FrozenSpec(), seed=1)


def test_names_and_shapes_that_do_not_fit():
    with pytest.raises(UserError, match=r"freeze: .*no layers \['layer_4'\]; its layers: layer_1, .*layer_6"):
        prepared(model(), None, [], ["layer_4"], FrozenSpec(), seed=1)
    with pytest.raises(UserError, match=r"reset: .*no layers \['out'\]"):
        prepared(model(), start(), ["out"], [], FrozenSpec(), seed=1)
    with pytest.raises(UserError, match=r"layer_6 .*\(9, 12\) here, \(7, 12\) there.*other alphabets"):
        prepared(model(9), start(7), [], [], FrozenSpec(), seed=1)
    with pytest.raises(UserError, match="nothing is left to train"):
        prepared(model(), start(), [], LAYERS, FrozenSpec(), seed=1)


def test_a_frozen_layer_that_is_trained_after_all_is_caught():
    surgery = prepared(model(), start(), [], ["lstm"], FrozenSpec(), seed=1)
    surgery.model.layer("lstm").bias.requires_grad_(True)  # what the published runs did, in effect
    with pytest.raises(SurgeryError, match=r"mixed up: \['layers.lstm.bias'\]"):
        surgery.check_start()
    surgery.model.layer("lstm").bias.requires_grad_(False)
    train(surgery)
    surgery.check_end()
    with torch.no_grad():
        surgery.model.layer("lstm").bias[0] += 1e-6
    with pytest.raises(SurgeryError, match=r"frozen layers changed during training: \['lstm'\]"):
        surgery.check_end()


def test_weights_that_are_not_the_starts_are_caught():
    surgery = prepared(model(), start(), ["layer_6"], ["layer_1"], FrozenSpec(), seed=1)
    with torch.no_grad():
        surgery.model.layer("layer_2").weight[0, 0] += 1e-6
    with pytest.raises(SurgeryError, match="layer layer_2 differs from the start's"):
        surgery.check_start()


def test_a_reset_that_did_nothing_is_caught():
    given = model()
    given.initialise(1)
    with pytest.raises(SurgeryError, match=r"reset left the start's values in \['layers.layer_6.weight'\]"):
        prepared(model(), given.state_dict(), ["layer_6"], [], FrozenSpec(), seed=1).check_start()


def test_a_trainable_tensor_that_stands_still_is_caught_unless_its_gradient_was_zero():
    surgery = prepared(model(), start(), [], [], FrozenSpec(), seed=1)
    with torch.no_grad():
        surgery.model.layer("layer_5").bias.fill_(-1e6)  # a dead layer: no gradient at or below it
    surgery = Surgery(surgery.model, surgery.operations)
    optimizer = train(surgery)
    dead = surgery.check_end(optimizer.unmoved())["without_gradient"]
    assert "layers.layer_5.weight" in dead
    assert "layers.layer_6.bias" not in dead
    with pytest.raises(SurgeryError, match=r"did not change during training: .*layer_5"):
        surgery.check_end()


@pytest.mark.parametrize(("norm", "moves"), [("eval", False), ("train", True)])
def test_norms_of_frozen_layers(norm: str, moves: bool):
    surgery = prepared(normed_model(), None, [], ["low"], FrozenSpec.model_validate({"norm": norm}), seed=1)
    before = surgery.model.layer("low").norm.running_mean.clone()
    surgery.model.eval()
    surgery.model.train()
    y, _ = surgery.model(randn(2, 6, 3), torch.tensor([6, 6]))
    y.square().sum().backward()
    AdamTF(surgery.trainable()).step(0.1)
    assert torch.equal(surgery.model.layer("low").norm.running_mean, before) != moves
    surgery.check_end()
    surgery.model.layer("low").norm.running_mean.add_(1.0)
    if norm == "eval":
        with pytest.raises(SurgeryError, match="frozen layers changed"):
            surgery.check_end()
    else:
        surgery.check_end()


def test_norms_of_frozen_layers_that_learn():
    surgery = prepared(normed_model(), None, [], ["low"], FrozenSpec(norm="learn"), seed=1)
    low = surgery.model.layer("low")
    assert set(surgery.check_start()["trainable"]) == {
        *(f"layers.low.norm.{name}" for name in ("weight", "bias")),
        *(f"layers.high.{name}" for name, _ in surgery.model.layer("high").named_parameters()),
    }
    before = {key: tensor.clone() for key, tensor in low.state_dict().items()}
    surgery.model.train()
    y, _ = surgery.model(randn(2, 6, 3), torch.tensor([6, 6]))
    y.square().sum().backward()
    optimizer = AdamTF(surgery.trainable())
    optimizer.step(0.1)
    surgery.check_end(optimizer.unmoved())
    moved = {key for key, tensor in low.state_dict().items() if not torch.equal(tensor, before[key])}
    assert {"norm.weight", "norm.running_mean", "norm.running_var"} <= moved
    assert not {key for key in moved if not key.startswith("norm.")}
    with torch.no_grad():
        low.linear.weight.add_(1.0)
    with pytest.raises(SurgeryError, match="frozen layers changed"):
        surgery.check_end(optimizer.unmoved())


def test_a_reset_output_layer_keeps_the_rows_of_shared_letters():
    given, rows = start(classes=7), {0: 0, 3: 2, 8: 6}
    surgery = prepared(model(9), given, ["layer_6"], [], FrozenSpec(), seed=1, rows=rows)
    assert surgery.check_start()["output_rows_kept"] == 3
    fresh = model(9)
    fresh.initialise(1)
    for key in ("weight", "bias"):
        now, drawn = (m.layer("layer_6").state_dict()[key] for m in (surgery.model, fresh))
        for row in range(9):
            expected = given[f"layers.layer_6.{key}"][rows[row]] if row in rows else drawn[row]
            assert torch.equal(now[row], expected)
    with torch.no_grad():
        surgery.model.layer("layer_6").weight[3] += 1e-3
    with pytest.raises(SurgeryError, match="rows to be kept differ"):
        surgery.check_start()
    with torch.no_grad():
        surgery.model.layer("layer_6").weight[3] -= 1e-3
        surgery.model.layer("layer_6").weight[3] = given["layers.layer_6.weight"][2]
        surgery.model.layer("layer_6").weight[1] = given["layers.layer_6.weight"][1]
    with pytest.raises(SurgeryError, match=r"start's values in rows \[1\]"):
        surgery.check_start()


def test_rows_of_another_width_are_refused():
    other = build(DeepSpeechSpec(kind="deepspeech", hidden=10, context=2), 9)
    other.initialise(1)
    with pytest.raises(UserError, match=r"no rows for layers\.layer_6\.weight"):
        prepared(model(), other.state_dict(), LAYERS, [], FrozenSpec(), seed=1, rows={0: 0})


def test_dropout_rates_by_layer():
    on = prepared(model(), None, [], ["layer_1", "lstm"], FrozenSpec(), seed=1)
    off = prepared(model(), None, [], ["layer_1", "lstm"], FrozenSpec(dropout="off"), seed=1)
    assert on.dropout_rates(0.4) == dict.fromkeys(LAYERS, 0.4)
    assert off.dropout_rates(0.4) == dict.fromkeys(LAYERS, 0.4) | {"layer_1": 0.0, "lstm": 0.0}


def test_a_model_can_be_prepared_again():
    made = model()
    prepared(made, None, [], ["layer_1"], FrozenSpec(), seed=1)
    surgery = prepared(made, start(), ["layer_6"], ["layer_2"], FrozenSpec(), seed=1)
    surgery.check_start()
    assert parameter_counts(made)["trainable"] == parameter_counts(made)["total"] - (12 * 12 + 12)


# --- the rules of top-down training ------------------------------------------------------------------


def top_down(top: int) -> Surgery:
    """The last layers frozen, all below drawn anew."""
    return prepared(model(7), start(classes=7), LAYERS[:-top], LAYERS[-top:], seed=1)


@pytest.mark.parametrize("top", range(1, len(LAYERS)))
def test_layers_below_frozen_ones_learn_through_them(top: int):
    surgery = top_down(top)
    assert surgery.below_frozen() == list(LAYERS[:-top])
    surgery.check_start()
    optimizer = train(surgery)
    assert surgery.check_optimizer(optimizer.names, optimizer.state()) == len(surgery.trainable())
    record = surgery.check_end(optimizer.unmoved())
    assert record["gradient_through_frozen"] == list(LAYERS[:-top])


def test_a_frozen_stack_that_lets_no_gradient_through_is_caught():
    """As where its forward pass runs under no_grad: nothing below it learns, and nothing else would say so."""
    surgery = top_down(2)
    silent = [name for name in surgery.trainable() if ".layer_1." in name]
    train(surgery)
    with pytest.raises(SurgeryError, match=r"no gradient came through the frozen layers to \['layer_1'\]"):
        surgery.check_end(silent)


def test_what_a_decoder_learns_through_its_frozen_output_is_looked_at_too():
    """Its gradients come through that output alone; those of the encoder come from CTC, too."""
    surgery = prepared(small_attention(), None, [], ["ctc_output", "attention_output"])
    assert surgery.below_frozen() == ["blstm_1", "blstm_2", "attention", "decoder"]
    with torch.no_grad():
        for parameter in surgery.trainable().values():
            parameter.add_(1.0)
    assert surgery.check_end()["gradient_through_frozen"] == ["blstm_1", "blstm_2", "attention", "decoder"]
    silent = [name for name in surgery.trainable() if ".decoder." in name]
    with pytest.raises(SurgeryError, match=r"no gradient came through the frozen layers to \['decoder'\]"):
        surgery.check_end(silent)


def test_weights_that_are_handed_on_hold_frozen_layers_as_they_were():
    surgery = top_down(2)
    train(surgery)
    kept = {name: tensor.clone() for name, tensor in surgery.model.state_dict().items()}
    surgery.check_kept(kept)
    kept["layers.layer_1.bias"][0] += 1  # trained: none of its business
    surgery.check_kept(kept)
    kept["layers.layer_6.bias"][0] += 1e-6
    with pytest.raises(SurgeryError, match=r"that were kept have other frozen layers: \['layer_6'\]"):
        surgery.check_kept(kept)


def test_layers_above_frozen_ones_are_no_matter_of_theirs():
    surgery = prepared(model(7), start(classes=7), LAYERS[1:], LAYERS[:1])
    assert surgery.below_frozen() == []
    assert "gradient_through_frozen" not in surgery.check_end(train(surgery).unmoved())


def test_an_optimiser_that_holds_a_frozen_parameter_is_caught():
    surgery = top_down(2)
    every = [name for name, _ in surgery.model.named_parameters()]
    with pytest.raises(SurgeryError, match=r"holds other parameters than those to train: .*layer_6"):
        surgery.check_optimizer(every, [])
    names = [*surgery.trainable()]
    with pytest.raises(SurgeryError, match=r"has state of parameters that do not train: \['layers.layer_6.bias'\]"):
        surgery.check_optimizer(names, ["step", "layers.layer_6.bias/m"])
    with pytest.raises(SurgeryError, match="holds other parameters"):
        surgery.check_optimizer(names[1:], [])


def test_weights_that_two_layers_share_count_once_and_freeze_together():
    tied = model(12)
    tied.layer("layer_2").weight = tied.layer("layer_1").weight
    counts, apart = parameter_counts(tied), parameter_counts(model(12))
    assert counts["by_layer"] == apart["by_layer"] | {"layer_2": 12}  # its bias
    assert counts["total"] == sum(p.numel() for p in tied.parameters())
    with pytest.raises(UserError, match="layer_1 and layer_2 share weights: freeze both, or neither"):
        prepare(tied, [Reset(LAYERS), Freeze(("layer_2",))])
