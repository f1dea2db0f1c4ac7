"""Checkpoints of NVIDIA NeMo's QuartzNet as thaw's layers, without NeMo.

Names in the file are those of NeMo's modules (`thaw.models.quartznet.nemo_keys`). The pairs of before 1.0 lack the
module's name in front, and those of before 0.9 also call the list of a block's modules `conv`, whose convolutions have
no inner `conv`. Sources: NVIDIA/NeMo v0.10.1 nemo/collections/asr/parts/jasper.py,
scripts/nemo_legacy_import/asr_checkpoint_port.py; NVIDIA-NeMo/Speech issues 186, 217, 247.

Shapes: V classes, the blank last, in NeMo as here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from thaw.checkpoints.imported import Imported
from thaw.checkpoints.nemoconfig import VARIANTS, blocks, check_frontend, section, spec_of, variant_of, vocabulary
from thaw.checkpoints.nemofile import Released
from thaw.config.models import Block, QuartzNetSpec, head_name
from thaw.errors import UserError
from thaw.frontends import nemo as frontend
from thaw.models import LayeredModel, build
from thaw.models.quartznet import nemo_keys
from thaw.units import Alphabet
from thaw.units.characters import describe

# Modules of NeMo's model that are no part of a network: features, augmentation, loss, error rate.
LEFT = re.compile(r"(preprocessor|spec_augmentation|spec_augment|loss|_?wer)\.|.*\.num_batches_tracked$")
BIAS = "decoder.decoder_layers.0.bias"
TOLERANCE = 1e-6  # of filters and window: a few roundings of float32
FLOATS = (torch.float32, torch.float16, torch.bfloat16)  # the latter two fit into the first without rounding


@dataclass(frozen=True)
class Keys:
    """The names of a file beside those of a model."""

    taken: dict[str, str]  # thaw's name: the file's
    missing: list[str] = field(default_factory=list)  # in the file
    unfit: list[str] = field(default_factory=list)  # "name is …, expected …"
    unknown: list[str] = field(default_factory=list)  # in the file, and meaning something thaw would lose
    left: list[str] = field(default_factory=list)  # in the file, rightly

    @property
    def fit(self) -> bool:
        """Whether the file holds this model."""
        return not (self.missing or self.unfit or self.unknown)

    def report(self) -> str:
        """In words: what fits, and what does not."""
        parts = [f"{len(self.taken)} tensors fit"]
        for word, names in (
            ("missing", self.missing),
            ("of another kind", self.unfit),
            ("unknown to it", self.unknown),
        ):
            if names:
                parts.append(f"{len(names)} {word} ({_some(names)})")
        return "; ".join(parts)


def import_nemo(released: Released, alphabet: Alphabet, spec: QuartzNetSpec | None = None) -> Imported:
    """Weights as a model of `spec`, by default the QuartzNet that the file describes; rows in the alphabet's order.

    UserError where blocks, front end or letters are others, and a report of all tensors where these do not fit.
    """
    where = str(released.path)
    notes = list(released.notes)
    letters = vocabulary(released.config, where)
    check_letters(letters, alphabet, where)
    check_rows(released, letters, alphabet)
    spec = choose_spec(released, alphabet, spec, notes)
    settings, remarks = check_frontend(released.config, spec, where)
    notes += remarks + compare_features(released.tensors, spec)
    keys = match(released, spec, alphabet.classes)
    if not keys.fit:
        raise UserError(f"{where}: does not fit QuartzNet {spec.variant}: {keys.report()}")
    tensors = {ours: _values(released.tensors[theirs], theirs, where) for ours, theirs in keys.taken.items()}
    rows = order(letters, alphabet, notes)
    tensors = reorder(tensors, head_name(spec), rows)
    model = build(spec, alphabet.classes)
    model.load_layers(tensors, list(model.layers), where)
    return Imported(spec, model, {}, _record(released, alphabet, spec, model, keys, letters, settings, notes))


def _record(
    released: Released,
    alphabet: Alphabet,
    spec: QuartzNetSpec,
    model: LayeredModel,
    keys: Keys,
    letters: list[str] | None,
    settings: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    to = {theirs: ours for ours, theirs in keys.taken.items()}
    return {
        "model": spec.model_dump(mode="json"),
        "alphabet": alphabet.characters,
        "vocabulary": letters,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "variables": {
            name: {
                "shape": list(tensor.shape),
                "type": str(tensor.dtype).removeprefix("torch."),
                "to": [to[name]] if name in to else [],
            }
            for name, tensor in released.tensors.items()
        },
        "left": keys.left,
        "frontend": settings,
        "optimizer": {"step": 0, "moments": 0},
        "notes": [*notes, "NeMo releases no state of its optimizer: only optimizer_state: fresh can follow"],
    }


# --- letters --------------------------------------------------------------------------------------


def check_letters(letters: list[str] | None, alphabet: Alphabet, where: str) -> None:
    """UserError names the letters that only one side has."""
    if letters is None:
        return
    theirs, ours = set(letters) - set(alphabet.characters), set(alphabet.characters) - set(letters)
    if theirs or ours:
        sides = (("only it has", theirs), ("only the alphabet has", ours))
        different = "; ".join(f"{side} {describe(''.join(sorted(some))[:40])}" for side, some in sides if some)
        raise UserError(
            f"{where}: writes other letters than the alphabet of its language: {different}; for its own, set "
            f"alphabet: {_quoted(letters)}"
        )


def check_rows(released: Released, letters: list[str] | None, alphabet: Alphabet) -> None:
    """UserError where the output layer has not one row for each letter and one for the blank."""
    bias = next(
        (released.tensors[name] for name in aliases(BIAS, released.full_names) if name in released.tensors), None
    )
    if bias is None or bias.dim() != 1 or len(bias) == alphabet.classes:
        return  # the report of all tensors says more
    whose = "its vocabulary" if letters is not None else "the alphabet"
    raise UserError(
        f"{released.path}: {whose} has {alphabet.classes - 1} letters, but its output layer {len(bias)} rows, so it "
        f"writes {len(bias) - 1} letters (the last row is the blank)"
    )


def order(letters: list[str] | None, alphabet: Alphabet, notes: list[str]) -> list[int]:
    """For each class of the alphabet, blank last, the row of the file; a note where that is no plain copy."""
    if letters is None:
        notes.append(
            f"the file does not name its letters: its {alphabet.classes} rows are taken for "
            f"{_quoted(alphabet.characters)} and the blank, in this order"
        )
        return list(range(alphabet.classes))
    place = {letter: row for row, letter in enumerate(letters)}
    rows = [*(place[letter] for letter in alphabet.characters), len(letters)]
    if rows != sorted(rows):
        notes.append(f"rows of the output layer were put in the alphabet's order; the file has {_quoted(letters)}")
    return rows


def _quoted(letters: Iterable[str]) -> str:
    """Letters as YAML takes them; the beginning of very many."""
    letters = list(letters)
    return json.dumps("".join(letters[:200]), ensure_ascii=False) + (" …" if len(letters) > 200 else "")


def reorder(tensors: Mapping[str, Tensor], layer: str, rows: list[int]) -> dict[str, Tensor]:
    """The tensors of the output layer with their rows in another order, the others as they are."""
    return {name: t[rows] if name.startswith(f"layers.{layer}.") else t for name, t in tensors.items()}


# --- blocks ---------------------------------------------------------------------------------------


def choose_spec(
    released: Released, alphabet: Alphabet, wanted: QuartzNetSpec | None, notes: list[str]
) -> QuartzNetSpec:
    """The QuartzNet that the file's blocks, or else its shapes, describe; UserError where `wanted` is another."""
    where = str(released.path)
    found = blocks(released.config, where)
    if section(released.config, "encoder").get("conv_mask") is False:
        notes.append("conv_mask is false: NeMo let its convolutions see the padding of a batch, thaw never does")
    if found is not None:
        variant = variant_of(found)
        if variant is None:
            near = wanted or max(map(spec_of, VARIANTS), key=lambda one: _common(found, one))
            raise UserError(
                f"{where}: its {len(found)} blocks are none of the QuartzNets that thaw knows ({', '.join(VARIANTS)}); "
                f"{_first_difference(found, near)}"
            )
    else:
        variant = next((name for name in VARIANTS if match(released, spec_of(name), alphabet.classes).fit), None)
    if wanted is not None and variant not in (None, wanted.variant):
        raise UserError(
            f"{where}: holds QuartzNet {variant}, but the model is {wanted.variant}; set variant: {variant}"
        )
    if wanted is not None:
        return wanted
    if variant is None:
        raise UserError(f"{where}: its tensors are those of no QuartzNet that thaw knows ({', '.join(VARIANTS)})")
    return spec_of(variant, "v1.0" if released.full_names else "v0.10")


def _common(found: tuple[Block, ...], spec: QuartzNetSpec) -> int:
    """How many blocks are those of `spec`, place by place."""
    return sum(one == other for one, other in zip(found, spec.blocks.values(), strict=False))


def _first_difference(found: tuple[Block, ...], spec: QuartzNetSpec) -> str:
    for number, (name, block) in enumerate(spec.blocks.items()):
        if number >= len(found) or found[number] != block:
            there = _words(found[number]) if number < len(found) else "missing"
            return f"{name} is {there}, but in {spec.variant} {_words(block)}"
    return f"{spec.variant} ends after {len(spec.blocks)}"


def _words(block: Block) -> str:
    return ", ".join(f"{key} {value}" for key, value in block._asdict().items())


# --- tensors --------------------------------------------------------------------------------------


def match(released: Released, spec: QuartzNetSpec, classes: int) -> Keys:
    """Compare the names, shapes and types in a file with those of a model."""
    with torch.device("meta"):  # shapes without memory
        expected = build(spec, classes).state_dict()
    keys = Keys({})
    seen: set[str] = set()
    for ours, name in nemo_keys(spec).items():
        theirs = [alias for alias in aliases(name, released.full_names) if alias in released.tensors]
        seen.update(theirs)
        if len(theirs) != 1:
            keys.missing.append(f"{name}, given twice" if theirs else name)
        elif problem := _unlike(released.tensors[theirs[0]], expected[ours]):
            keys.unfit.append(f"{theirs[0]} is {problem}")
        else:
            keys.taken[ours] = theirs[0]
    for name in released.tensors:
        if name not in seen:
            (keys.left if LEFT.match(name) else keys.unknown).append(name)
    return keys


def aliases(name: str, full: bool) -> list[str]:
    """The names that a tensor of NeMo's model has in files: its own (`full`), or those in the older pairs."""
    if full:
        return [name]
    short = name.partition(".")[2]  # the two halves were saved apart
    old = re.sub(r"\.mconv\.(\d+)\.(conv\.)?", r".conv.\1.", short)
    old = re.sub(r"(\.res\.\d+\.\d+)\.conv\.", r"\1.", old)
    return list(dict.fromkeys((short, old)))


def _unlike(given: Tensor, expected: Tensor) -> str:
    """How a tensor of the file differs in kind from the one expected; empty where it does not."""
    if given.shape != expected.shape:
        return f"{tuple(given.shape)}, expected {tuple(expected.shape)}"
    types = FLOATS if expected.is_floating_point() else (expected.dtype,)
    return "" if given.dtype in types else f"{given.dtype}, expected {expected.dtype}"


def _values(tensor: Tensor, name: str, where: str) -> Tensor:
    """Values that a model can be made of; UserError where they are not finite, or a variance is negative."""
    if not tensor.is_floating_point():
        return tensor
    if not torch.isfinite(tensor).all():
        raise UserError(f"{where}: {name} holds values that are not finite; that training had diverged")
    if name.endswith("running_var") and (tensor < 0).any():
        raise UserError(f"{where}: {name} holds a negative variance")
    return tensor.float()


def compare_features(tensors: Mapping[str, Tensor], spec: QuartzNetSpec) -> list[str]:
    """Notes on the file's own mel filters (1, 64, 257) and window (320,), where it has them, beside thaw's."""
    window = frontend.hann(frontend.VERSIONS[spec.frontend])
    notes = []
    for part, values in (("fb", frontend.mel_matrix().T[None]), ("window", window)):
        theirs, ours = tensors.get(f"preprocessor.featurizer.{part}"), torch.from_numpy(values).float()
        if theirs is None:
            continue
        if theirs.shape != ours.shape or theirs.dtype not in FLOATS:
            notes.append(f"front end: {part} in the file is {tuple(theirs.shape)}, thaw's {tuple(ours.shape)}")
            continue
        gap = float((theirs.float() - ours).abs().max())
        same = "as thaw's" if gap <= TOLERANCE else "other than thaw's"  # not a number: other
        notes.append(f"front end: {part} in the file is {same} for {spec.frontend_version}, within {gap:.1g}")
    return notes


def _some(names: list[str]) -> str:
    """The names, or the first of very many."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
