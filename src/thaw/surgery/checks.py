"""Proof that operations did what they say, tensor by tensor; run after every surgery.

The checks exist because the published runs of Eberhard & Zesch (2021) called an LSTM frozen that their optimiser went
on training: onnoeberhard/deepspeech, logs/en_de/training-lstm.log lists Adam slots for it.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from thaw.errors import UserError
from thaw.models.layered import LayeredModel, layer_of
from thaw.surgery.operations import FIRST, START, KeepRows, Load, Operation, Reset, Sources, parameter_tensors, within

State = Mapping[str, Tensor]


class SurgeryError(RuntimeError):
    """A tensor is not what the treatment says it is. A defect of the program, not of the input."""


def last_acts(operations: Iterable[Operation]) -> dict[str, Load | Reset]:
    """Layer -> the operation that its values are of: the last one that wrote all of them."""
    acts = [operation for operation in operations if isinstance(operation, Load | Reset)]
    return {layer: operation for operation in acts for layer in operation.layers}


def check_layers(
    model: LayeredModel, operations: Sequence[Operation], sources: Sources, donor: Mapping[str, Any] | None = None
) -> None:
    """Right after `apply`: loaded layers equal their source bit for bit, reset ones are what they were reset to.

    `donor` is the metadata of the start's file: with it, a reset that draws from the same numbers as the start's own
    run did for the layer is a UserError. SurgeryError names the tensors that are wrong.
    """
    rows = {operation.layer: operation for operation in operations if isinstance(operation, KeepRows)}
    for layer, act in last_acts(operations).items():
        state = model.layer_state(layer)
        weights = {name: weight.detach() for name, weight in parameter_tensors(model, layer).items()}
        if isinstance(act, Reset) and act.modules:
            check_rest(layer, act, state, operations, sources)
        if isinstance(act, Reset):
            state, weights = (within(tensors, layer, act.modules) for tensors in (state, weights))
        if isinstance(act, Load):
            where = "the start's" if act.origin == START else f"that of {act.origin}"
            require(same_bits(state, sources[act.origin]), f"layer {layer} differs from {where}")
        elif act.to == "draw":
            another = partial(drawn_state, model, layer, act.seed, act.draw + 1)
            check_drawn(state if act.buffers else weights, sources.get(START, {}), rows.get(layer), sources, another)
            if layer in {layer_of(name) for name in sources.get(START, {})}:  # a draw depends on the layer's name
                check_draw(layer, act, donor or {})
        else:
            if act.to == "first":
                first = {name: sources[FIRST][name] for name in (state if act.buffers else weights)}
                require(same_bits(first, state), f"layer {layer} is not what it was at first")
            else:
                wrong = [name for name, weight in weights.items() if bool(weight.any())]
                require(not wrong, f"not reset to zero: {wrong}")


def check_rest(layer: str, act: Reset, state: State, operations: Sequence[Operation], sources: Sources) -> None:
    """What a reset of some modules of a layer leaves, still has the bits of what was loaded before, or of the start."""
    before = last_acts(operations[: operations.index(act)]).get(layer)
    origin = before.origin if isinstance(before, Load) else START if before is None else ""
    lost = within(state, layer, act.modules)
    rest = {name: tensor for name, tensor in state.items() if name not in lost}
    require(not origin or same_bits(rest, sources[origin]), f"layer {layer}: more than {act.modules} was reset")


def check_drawn(
    state: State, start: State, keep: KeepRows | None, sources: Sources, another: Callable[[], State]
) -> None:
    """A layer that was drawn anew does not hold the start's values, but in the rows that it was to keep.

    `another` draws it once more: what every draw gives alike (a forget gate's bias) is no copy.
    """
    if keep is None or not keep.rows:
        same = [key for key, tensor in state.items() if key in start and is_copy(tensor, start[key])]
        alike = another() if same else {}
        same = [key for key in same if not same_tensor(state[key].cpu(), alike[key])]
        require(not same, f"reset left the start's values in {same}")
        return
    kept = dict(keep.rows)
    for key, tensor in state.items():
        source = sources[keep.origin][key]
        require(same_tensor(tensor[list(kept)], source[list(kept.values())]), f"{key}: rows to be kept differ")
        if tensor.ndim > 1:  # biases may be drawn as zeros
            theirs = {tensors_digest([row]) for row in source}
            others = [row for row in range(len(tensor)) if row not in kept]
            copies = [row for row in others if tensors_digest([tensor[row]]) in theirs]
            require(not copies, f"{key}: reset left the start's values in rows {copies}")


# --- the draws of the run that a start is of ---------------------------------------------------------


def draw_of(meta: Mapping[str, Any], layer: str) -> tuple[int, int] | None:
    """(seed, draw) of the first weights that the run of a model file drew for a layer; None where it drew none.

    `meta` is the file's metadata; an imported checkpoint's says nothing of draws.
    """
    run = meta.get("run")
    if not isinstance(run, Mapping) or "seed" not in run:
        return None
    loaded = {name for load in run.get("loads", ()) for name in load["layers"]}
    drawn = run.get("start", "scratch") == "scratch" or layer in run.get("reset", ())
    return (run["seed"], run.get("draw", 0)) if drawn and layer not in loaded else None


def drawn_state(model: LayeredModel, layer: str, seed: int, draw: int) -> dict[str, Tensor]:
    """The weights and buffers (on the CPU) that a layer of `model` has after such a draw; the model stays as it is."""
    fresh = LayeredModel({layer: copy.deepcopy(model.layer(layer)).cpu()})
    fresh.reset_layer(layer, seed, draw)
    return fresh.layer_state(layer)


def check_draw(layer: str, act: Reset, meta: Mapping[str, Any]) -> None:
    """UserError where a layer is drawn from the numbers that the donor's own run drew it from, in whatever size.

    It would not be fresh: the donor's other layers have learnt beside these very weights.
    """
    if not act.again and draw_of(meta, layer) == (act.seed, act.draw):
        raise UserError(
            f"reset: layer {layer} is drawn from seed {act.seed}, draw {act.draw}, as it was in the run that it comes "
            "from; that is not fresh: take another draw or another seed"
        )


# --- comparing tensors ----------------------------------------------------------------------------


def tensors_digest(tensors: Iterable[Tensor]) -> str:
    """SHA-256 over the bytes of tensors, in order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(as_bytes(tensor).numpy().data)
    return digest.hexdigest()


def as_bytes(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, on the CPU."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def same_tensor(tensor: Tensor, other: Tensor) -> bool:
    """Equal bit for bit, in shape and type."""
    return (
        tensor.dtype == other.dtype and tensor.shape == other.shape and torch.equal(as_bytes(tensor), as_bytes(other))
    )


def same_bits(state: State, source: State) -> bool:
    """Every tensor of `state` equals the one of its name in `source`, bit for bit."""
    return all(name in source and same_tensor(tensor, source[name]) for name, tensor in state.items())


def is_copy(tensor: Tensor, other: Tensor) -> bool:
    """Equal, and not a constant: constants such as zero biases are equal after any reset."""
    if tensor.shape != other.shape or tensor.numel() == 0:
        return False
    tensor, other = tensor.detach().cpu(), other.detach().cpu()
    return torch.equal(tensor, other) and bool((tensor != tensor.flatten()[0]).any())


def require(condition: bool, message: str) -> None:
    """Raise SurgeryError unless `condition` holds."""
    if not condition:
        raise SurgeryError(f"layer surgery went wrong: {message}")
