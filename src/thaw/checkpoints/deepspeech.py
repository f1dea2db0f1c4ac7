"""Checkpoints of Mozilla DeepSpeech 0.7 as thaw's layers and optimiser state.

Source: mozilla/DeepSpeech v0.7.4 training/deepspeech_training/train.py (`create_model`, `rnn_impl_cudnn_rnn`,
`rnn_impl_lstmblockfusedcell`) and util/checkpoints.py. All versions from 0.7.0 on write these names, whether trained
with cuDNN or without. Layer normalisation (a flag of 0.9) adds variables and is refused. Version 0.6 has the same names
but other features (filters up to 4 kHz): nothing in a file tells the two apart.

TensorFlow keeps a weight matrix as (inputs, outputs), torch as (outputs, inputs). TensorFlow's LSTM kernel has rows
x, h and columns i, c, f, o; torch orders the gates i, f, g (TensorFlow's c), o, as cuDNN does.

Shapes: H hidden units, V classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thaw.canonical import canonical_json
from thaw.checkpoints.bundle import Bundle
from thaw.checkpoints.imported import Imported
from thaw.config.models import DeepSpeechSpec
from thaw.errors import UserError
from thaw.frontends import dimension
from thaw.models import build
from thaw.units import Alphabet

Floats = NDArray[np.float32]

LSTM = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
OPAQUE = "cudnn_lstm/opaque_kernel"  # all of the LSTM in cuDNN's order; of it only Adam's slots are saved
DENSE = ("layer_1", "layer_2", "layer_3", "layer_5", "layer_6")
WEIGHTS = (*(f"{layer}/{part}" for layer in DENSE for part in ("weights", "bias")), f"{LSTM}/kernel", f"{LSTM}/bias")
SLOTS = {"m": "Adam", "v": "Adam_1"}  # thaw's word, TensorFlow's
SCALARS = ("global_step", "beta1_power", "beta2_power", "learning_rate")
BETA2 = 0.999


def import_deepspeech(bundle: Bundle, alphabet: Alphabet, spec: DeepSpeechSpec | None = None) -> Imported:
    """Read weights and optimiser state; `spec`, where given, is checked against the shapes.

    UserError lists all variables that are missing, unknown, or of another shape than spec and alphabet say.
    """
    check_names(bundle)
    spec = spec or spec_of(bundle)
    check_shapes(bundle, alphabet, spec)
    tensors: dict[str, Tensor] = {}
    variables: dict[str, list[str]] = {}
    for name in WEIGHTS:
        parts = to_thaw(name, read(bundle, name))
        tensors |= {key: torch.from_numpy(value) for key, value in parts.items()}
        variables[name] = list(parts)
    model = build(spec, alphabet.classes)
    model.load_layers(tensors, list(model.layers), str(bundle.prefix))
    moments, notes = read_moments(bundle, variables)
    step, facts = read_step(bundle, bool(moments), notes)
    without = [] if not moments else [key for key in tensors if f"{key}/m" not in moments]
    if without:
        notes.append("no moments of some tensors: transferred, these begin at zero but share the step count")
    record = {
        "model": spec.model_dump(mode="json"),
        "alphabet": alphabet.characters,
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "variables": {
            name: {"shape": list(entry.shape), "type": bundle.dtype(name), "to": variables.get(name, [])}
            for name, entry in bundle.entries.items()
        },
        "left": [name for name in bundle.entries if name not in variables and name not in SCALARS],
        "optimizer": {**facts, "step": step, "moments": len(moments) // 2, "without_moments": without},
        "notes": notes,
    }
    return Imported(spec, model, {"step": torch.tensor(step), **moments}, record)


def check_names(bundle: Bundle) -> None:
    """UserError names all variables that are missing, and all that mean something thaw would ignore."""
    slots = {f"{name}/{slot}" for name in (*WEIGHTS, OPAQUE) for slot in SLOTS.values()}
    missing = [name for name in WEIGHTS if name not in bundle.entries]
    unknown = sorted(bundle.entries.keys() - {*WEIGHTS, *SCALARS} - slots)
    problems = [f"{word} {_some(names)}" for word, names in (("lacks", missing), ("also has", unknown)) if names]
    if problems:
        raise UserError(f"{bundle.index}: not a checkpoint of DeepSpeech 0.7: it {' and '.join(problems)}")


def _some(names: list[str]) -> str:
    """The names, or the first of very many."""
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def spec_of(bundle: Bundle) -> DeepSpeechSpec:
    """The model that the shape of the first layer tells; UserError where none has such a shape."""
    shape = bundle.shape("layer_1/weights")
    features = dimension("deepspeech")
    if len(shape) != 2 or shape[0] % features or shape[0] // features % 2 == 0 or shape[1] == 0:
        raise UserError(
            f"{bundle.index}: layer_1/weights is {shape}; DeepSpeech's has {features} rows for each of an odd number "
            "of frames, and a column for each hidden unit"
        )
    return DeepSpeechSpec(kind="deepspeech", hidden=shape[1], context=shape[0] // features // 2)


def check_shapes(bundle: Bundle, alphabet: Alphabet, spec: DeepSpeechSpec) -> None:
    """UserError lists all variables whose shape or type is not that of `spec` with this alphabet."""
    outputs = bundle.shape("layer_6/bias")
    if outputs != (alphabet.classes,) and len(outputs) == 1:
        raise UserError(
            f"{bundle.index}: the alphabet has {len(alphabet.characters)} characters but layer_6 has {outputs[0]} "
            f"outputs, so its alphabet has {outputs[0] - 1} (the last output is the blank); give that one"
        )
    hidden = spec.hidden
    inputs = {"layer_1": dimension(spec.frontend) * (2 * spec.context + 1)}
    expected: dict[str, tuple[int, ...]] = {f"{LSTM}/kernel": (2 * hidden, 4 * hidden), f"{LSTM}/bias": (4 * hidden,)}
    for layer in DENSE:
        columns = alphabet.classes if layer == "layer_6" else hidden
        expected |= {f"{layer}/weights": (inputs.get(layer, hidden), columns), f"{layer}/bias": (columns,)}
    expected |= {f"{name}/{slot}": shape for name, shape in expected.items() for slot in SLOTS.values()}
    expected |= {f"{OPAQUE}/{slot}": (8 * hidden * hidden + 8 * hidden,) for slot in SLOTS.values()}
    expected |= dict.fromkeys(SCALARS, ())
    wrong = {
        name: f"{name} is {bundle.shape(name)} of {bundle.dtype(name)}, expected {shape}"
        for name, shape in expected.items()
        if name in bundle.entries
        and (bundle.shape(name) != shape or (name not in SCALARS and bundle.dtype(name) != "float32"))
    }
    listed = [text for name, text in wrong.items() if name.rpartition("/")[0] not in wrong]  # a slot is as its variable
    if wrong:
        model = canonical_json(spec.model_dump(mode="json"))
        raise UserError(f"{bundle.index}: does not fit the model {model}: {'; '.join(listed)}")


def read(bundle: Bundle, name: str) -> Floats:
    """A float32 tensor's values; UserError where some are no finite numbers."""
    values = np.asarray(bundle.read(name), np.float32)
    if not np.isfinite(values).all():
        raise UserError(f"{bundle.prefix}: {name} holds values that are not finite; that training had diverged")
    return values


def to_thaw(name: str, values: Floats) -> dict[str, Floats]:
    """One variable (or its moments, which have its shape) as tensors of thaw, by their names there."""
    if name == f"{LSTM}/kernel":
        gates = np.ascontiguousarray(_reorder(values).T)  # (4H, 2H)
        inputs = len(values) // 2
        return {
            "layers.lstm.weight_ih": np.ascontiguousarray(gates[:, :inputs]),
            "layers.lstm.weight_hh": np.ascontiguousarray(gates[:, inputs:]),
        }
    if name == f"{LSTM}/bias":
        return {"layers.lstm.bias": _reorder(values)}
    layer, part = name.split("/")
    if part == "weights":
        return {f"layers.{layer}.weight": np.ascontiguousarray(values.T)}
    return {f"layers.{layer}.bias": values.copy()}


def _reorder(values: Floats) -> Floats:
    """Gates along the last axis: i, c, f, o -> i, f, c, o."""
    i, c, f, o = np.split(values, 4, axis=-1)
    return np.concatenate([i, f, c, o], axis=-1)


def split_opaque(values: Floats, hidden: int) -> tuple[dict[str, Floats], Floats]:
    """cuDNN's one vector (8H² + 8H,) as tensors of thaw, its input bias for the bias; the recurrent bias apart.

    cuDNN puts the four matrices for x first, then those for h, each (outputs, inputs), then two biases per gate, gates
    in the order i, f, c, o. Source: keras 2.15 keras/src/layers/rnn/lstm.py (`gpu_lstm`), gru_lstm_utils.py
    (`canonical_to_params`), which builds that vector for the same TensorFlow operation.
    """
    square = 4 * hidden * hidden
    x, h, bias, recurrent = np.split(values, [square, 2 * square, 2 * square + 4 * hidden])
    parts = {"weight_ih": x.reshape(-1, hidden), "weight_hh": h.reshape(-1, hidden), "bias": bias}
    return {f"layers.lstm.{part}": value.copy() for part, value in parts.items()}, recurrent


def read_moments(bundle: Bundle, variables: dict[str, list[str]]) -> tuple[dict[str, Tensor], list[str]]:
    """Adam's moments as "<tensor>/m" and "<tensor>/v", of all variables that have both, and notes for the record.

    What was read is added to `variables`.
    """
    moments: dict[str, Tensor] = {}
    notes: list[str] = []
    for name in (*WEIGHTS, OPAQUE):
        slots = {letter: f"{name}/{slot}" for letter, slot in SLOTS.items()}
        if not all(slot in bundle.entries for slot in slots.values()):
            continue
        found: dict[str, dict[str, Floats]] = {}
        for letter, slot in slots.items():
            values = read(bundle, slot)
            if name == OPAQUE:
                found[letter], recurrent = split_opaque(values, bundle.shape(f"{LSTM}/bias")[0] // 4)
                if not _alike(found[letter]["layers.lstm.bias"], recurrent):
                    notes.append(f"{slot} is not as expected: cuDNN's two biases have the same gradients; left out")
                    found = {}
                    break
            else:
                found[letter] = to_thaw(name, values)
        for letter, parts in found.items():
            variables[slots[letter]] = [f"{key}/{letter}" for key in parts]
            moments |= {f"{key}/{letter}": torch.from_numpy(value) for key, value in parts.items()}
        if name == OPAQUE and found:
            notes.append("the LSTM was trained by cuDNN: its moments are taken from cuDNN's one vector, in its order")
    return moments, notes


def _alike(one: Floats, other: Floats) -> bool:
    """Equal up to the rounding of sums that a GPU takes in changing order."""
    return bool(np.abs(one - other).max(initial=0) <= 1e-3 * np.abs(one).max(initial=0))


def read_step(bundle: Bundle, moments: bool, notes: list[str]) -> tuple[int, Mapping[str, float]]:
    """How many steps Adam took, which decides its bias correction, and the scalars of the checkpoint.

    That is `global_step`, unless `beta2_power`, which is beta2^(steps + 1) and counts Adam's steps themselves, says
    otherwise. Without moments it is 0.
    """
    facts = {name: bundle.read(name).item() for name in SCALARS if name in bundle.entries}
    if not all(math.isfinite(value) for value in facts.values()) or facts.get("global_step", 0) < 0:
        raise UserError(f"{bundle.prefix}: its counters make no sense: {facts}")
    if not moments:
        notes.append("no moments of Adam in it: the optimizer begins afresh")
        return 0, facts
    if "global_step" not in facts:
        raise UserError(f"{bundle.index}: has moments of Adam but no global_step, so their bias correction is unknown")
    step = int(facts["global_step"])
    power = facts.get("beta2_power", 0.0)
    if 1e-30 < power <= BETA2 * 1.0001:  # below, float32 has lost the count; above, it is no power of beta2
        counted = round(math.log(power) / math.log(BETA2)) - 1
        if abs(counted - step) > 1 + 1e-3 * step:  # each of the products was rounded
            notes.append(f"global_step is {step}, but Adam took {counted} steps by beta2_power: the latter is used")
            step = max(counted, 0)
    return step, facts
