"""Operations on a stack of named layers: load, reset, keep rows, freeze. One ordered list of them is all the surgery
that a treatment does before a training, and that a probe does before an evaluation.

`apply` does a list, `thaw.surgery.checks` proves that it was done. Sources are weights by name, each a `state_dict`:
"start" (what a training starts from; the snapshot that is probed), "first" (the same run's weights before its first
step), and what a recipe's `loads` or a probe's `load` name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from thaw.config.run import RunRecipe
from thaw.config.schema import FrozenSpec
from thaw.errors import UserError
from thaw.models.layered import LayeredModel, is_norm, layer_of
from thaw.units import Alphabet, ByLanguage, Units, of_language, units_of

START, FIRST = "start", "first"

Sources = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Load:
    """Layers take their weights and buffers from a source."""

    origin: str  # a key of the sources
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Reset:
    """Layers lose what they have learnt: to a fresh draw of their initial weights, to their own first values, to zero.

    Of each, only the `modules` do where some are named: `conv`, `ff1.w1`; they get what a reset of all would give them.
    `buffers` (statistics of norms) become those that the layer began with, or stay as they are. A draw is a function of
    (seed, layer, draw); Zhang et al. (JMLR 2022) call the first kind re-randomising, the second re-initialising.
    """

    layers: tuple[str, ...]
    to: Literal["draw", "first", "zero"] = "draw"
    seed: int = 0
    draw: int = 0
    buffers: bool = True
    again: bool = False  # whether the draw may be the one that the donor's own run began from
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeepRows:
    """Classes of a head that has been reset keep the rows they have in a source: pairs of (class, its class there)."""

    layer: str
    rows: tuple[tuple[int, int], ...]
    origin: str = START


@dataclass(frozen=True)
class Freeze:
    """Layers whose weights do not train; `frozen` says what their norms and their dropout do."""

    layers: tuple[str, ...]
    frozen: FrozenSpec = field(default_factory=FrozenSpec)


Operation = Load | Reset | KeepRows | Freeze


def operations_of(
    recipe: RunRecipe, model: LayeredModel, start: ByLanguage[Units] | None = None
) -> tuple[Operation, ...]:
    """What a recipe does to `model` before its training; `start`: the units of the start's heads, by language."""
    return tuple(_operations(recipe, model, start or {}))


def _operations(recipe: RunRecipe, model: LayeredModel, start: ByLanguage[Units]) -> Iterator[Operation]:
    elsewhere = {layer for load in recipe.loads for layer in load.layers}
    fresh = tuple(model.layers) if recipe.start == "scratch" else recipe.reset
    if kept := tuple(layer for layer in model.layers if layer not in {*fresh, *elsewhere}):
        yield Load(START, kept)
    for load in recipe.loads:
        yield Load(load.origin, load.layers)
    if drawn := tuple(layer for layer in fresh if layer not in elsewhere):
        yield Reset(drawn, "draw", recipe.seed, recipe.draw, again=recipe.redraw)
    if recipe.output_rows == "shared" and recipe.units:
        raise UserError(
            f"output_rows: shared: rows are shared by letters, not by units of kind {recipe.recipe.units.kind}"
        )
    for lang, units in units_of(recipe).items() if recipe.output_rows == "shared" else ():
        for head in [head for head in model.heads_of[lang] if head in recipe.reset]:
            rows = shared_rows(_characters(units), _characters(of_language(start, lang)), recipe.letters)
            yield KeepRows(head, tuple(rows.items()))
    if recipe.freeze:
        yield Freeze(recipe.freeze, recipe.frozen)


def shared_rows(alphabet: str, source: str, letters: Mapping[str, str]) -> dict[int, int]:
    """Class -> the source's class, for every letter that both alphabets have or `letters` maps, and for the blank.

    UserError where `letters` names a letter that the source has not.
    """
    wanted = {letter: letters.get(letter, letter) for letter in alphabet}
    lacking = sorted(other for letter, other in wanted.items() if letter in letters and other not in source)
    if lacking:
        raise UserError(f"letters: the start's alphabet {source!r} has no {', '.join(map(repr, lacking))}")
    found = {alphabet.index(new): source.index(old) for new, old in wanted.items() if old in source}
    return {**found, len(alphabet): len(source)}


def _characters(units: Units) -> str:
    if not isinstance(units, Alphabet):
        raise UserError(f"output_rows: shared: rows are shared by letters, not by {units.describe()}")
    return units.characters


def apply(model: LayeredModel, operations: Sequence[Operation], sources: Sources) -> None:
    """Do the operations, in order. Layers that none names keep their weights; those that none freezes are trainable.

    UserError names a layer that the model has not, or that does not fit what is loaded into it.
    """
    check_names(model, operations)
    model.requires_grad_(True)
    model.still = frozenset()
    for operation in operations:
        match operation:
            case Load(origin, layers):
                _load(model, sources[origin], layers, origin)
            case Reset():
                for layer in operation.layers:
                    _reset(model, layer, operation, sources)
            case KeepRows():
                _keep_rows(model, operation, sources[operation.origin])
            case Freeze():
                _freeze(model, operation)
    model.train(model.training)  # so that the norms of `still` stand still


def check_names(model: LayeredModel, operations: Iterable[Operation]) -> None:
    """UserError where an operation names a layer that the model has not."""
    for operation in operations:
        named = {operation.layer} if isinstance(operation, KeepRows) else set(operation.layers)
        if unknown := sorted(named - set(model.layers)):
            word = {Load: "load", Reset: "reset", KeepRows: "keep rows", Freeze: "freeze"}[type(operation)]
            raise UserError(f"{word}: the model has no layers {unknown}; its layers: {', '.join(model.layers)}")
        for group in () if isinstance(operation, KeepRows) else model.tied:
            if (alone := sorted(named & set(group))) and len(alone) < len(group):
                raise UserError(
                    f"{', '.join(group)} share their weights: name all of them, not {', '.join(alone)} alone"
                )


def frozen_layers(model: LayeredModel, operations: Iterable[Operation]) -> list[str]:
    """The layers that a list of operations freezes, in the model's order."""
    frozen = {layer for operation in operations if isinstance(operation, Freeze) for layer in operation.layers}
    return [layer for layer in model.layers if layer in frozen]


def norm_tensors(model: LayeredModel, layer: str) -> set[str]:
    """Full names of the weights and buffers of a layer's normalisation modules."""
    prefix = f"layers.{layer}"
    return {
        f"{prefix}.{name}.{key}" if name else f"{prefix}.{key}"
        for name, module in model.layer(layer).named_modules()
        if is_norm(module)
        for key in module.state_dict()
    }


def parameter_tensors(model: LayeredModel, layer: str) -> dict[str, Tensor]:
    """The weights of one layer, without its buffers, by their full names."""
    return {f"layers.{layer}.{name}": parameter for name, parameter in model.layer(layer).named_parameters()}


def within(tensors: Mapping[str, Tensor], layer: str, modules: Sequence[str]) -> dict[str, Tensor]:
    """Those of a layer's tensors that lie in some of its modules; all of them where none is named."""
    prefixes = tuple(f"layers.{layer}.{module}." for module in modules)
    return {name: tensor for name, tensor in tensors.items() if not modules or f"{name}.".startswith(prefixes)}


def _load(model: LayeredModel, source: Mapping[str, Tensor], layers: Sequence[str], origin: str) -> None:
    if origin == START:
        model.load_layers(source, layers, "the start")
    else:  # a second source may be another architecture: what it has beside these layers is no mistake
        model.load_layers({name: t for name, t in source.items() if layer_of(name) in layers}, layers, origin)


@torch.no_grad()
def _reset(model: LayeredModel, layer: str, reset: Reset, sources: Sources) -> None:
    weights = parameter_tensors(model, layer)
    state = model.layer_state(layer)
    for module in reset.modules:
        if not within(state, layer, [module]):
            raise UserError(f"reset: layer {layer} has no module {module}")
    lost = within(state, layer, reset.modules)
    kept = {name: tensor for name, tensor in state.items() if name not in lost}
    kept |= {} if reset.buffers else {name: tensor for name, tensor in state.items() if name not in weights}
    before = {name: tensor.clone() for name, tensor in kept.items()}
    if reset.to == "first":
        _load(model, sources[FIRST], (layer,), "the snapshot first")
    else:
        model.reset_layer(layer, reset.seed, reset.draw)  # buffers too
    if reset.to == "zero":
        for weight in weights.values():
            weight.zero_()
    for name, tensor in kept.items():
        tensor.copy_(before[name])


@torch.no_grad()
def _keep_rows(model: LayeredModel, keep: KeepRows, source: Mapping[str, Tensor]) -> None:
    """Every tensor of a head has one row per class."""
    new, old = [row for row, _ in keep.rows], [row for _, row in keep.rows]
    for key, tensor in model.layer_state(keep.layer).items() if keep.rows else ():
        if key not in source or source[key].shape[1:] != tensor.shape[1:]:
            raise UserError(f"the start has no rows for {key} of this model, so none can be kept; reset them all")
        tensor[new] = source[key][old].to(tensor.device)


def _freeze(model: LayeredModel, freeze: Freeze) -> None:
    for layer in freeze.layers:
        model.layer(layer).requires_grad_(False)
        for module in model.layer(layer).modules() if freeze.frozen.norm == "learn" else ():
            if is_norm(module):
                module.requires_grad_(True)
    if freeze.frozen.norm == "eval":
        model.still |= frozenset(freeze.layers)
