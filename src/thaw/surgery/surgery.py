"""Surgery before a training: operations on a stack of named layers, and proof that they held to the training's end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from thaw.config.schema import FrozenSpec
from thaw.errors import UserError
from thaw.models.layered import LayeredModel, is_norm, layer_of
from thaw.surgery.checks import check_layers, last_acts, require, tensors_digest
from thaw.surgery.operations import (
    START,
    Freeze,
    KeepRows,
    Load,
    Operation,
    Reset,
    Sources,
    apply,
    frozen_layers,
    norm_tensors,
    parameter_tensors,
)


def prepare(
    model: LayeredModel,
    operations: Sequence[Operation],
    sources: Sources | None = None,
    donor: Mapping[str, Any] | None = None,
) -> Surgery:
    """Give `model` its first weights and freeze layers; see `thaw.surgery.operations` for `operations` and `sources`.

    `donor` is the metadata of the start's file, where there is one. UserError names a layer that does not exist or
    does not fit, or says that nothing is left to train.
    """
    if set(frozen_layers(model, operations)) == set(model.layers):
        raise UserError("freeze: all layers are frozen, so nothing is left to train")
    check_ties(model, frozen_layers(model, operations))
    apply(model, operations, sources or {})
    return Surgery(model, operations, sources, donor)


def norms(model: LayeredModel, layer: str) -> list[nn.Module]:
    """The normalisation modules inside a layer."""
    return [module for module in model.layer(layer).modules() if is_norm(module)]


class Surgery:
    """A prepared model, and the checks that the treatment held. Made by `prepare`."""

    def __init__(
        self,
        model: LayeredModel,
        operations: Sequence[Operation],
        sources: Sources | None = None,
        donor: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.operations = operations
        self.sources = sources or {}
        self.donor = donor
        acts = last_acts(operations)
        self.fresh = [name for name in model.layers if isinstance(acts.get(name), Reset)]  # in the model's order
        self.origins = {name: act.origin for name in model.layers if isinstance(act := acts.get(name), Load)}
        self.frozen_layers = frozen_layers(model, operations)
        self.frozen = next((o.frozen for o in operations if isinstance(o, Freeze)), FrozenSpec())
        self._frozen_digests = {name: self._frozen_digest(name) for name in self.frozen_layers}
        self._first_digests = {name: tensors_digest([p]) for name, p in self.trainable().items()}

    @property
    def kept(self) -> list[str]:
        """Layers that began from the start's weights."""
        return [name for name, origin in self.origins.items() if origin == START]

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters to train, by name: what the optimizer gets, and nothing else."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def kept_parameters(self) -> list[str]:
        """Names of trainable parameters that began from the start's weights; an optimizer state may be transferred."""
        return [name for name in self.trainable() if layer_of(name) in self.kept]

    def dropout_rates(self, dropout: float) -> dict[str, float]:
        """Layer -> dropout rate in training, given the recipe's rate."""
        off = self.frozen_layers if self.frozen.dropout == "off" else []
        return {name: 0.0 if name in off else dropout for name in self.model.layers}

    def check_start(self) -> dict[str, Any]:
        """Before the first step: each layer holds what the operations say (`check_layers`), and only the rest trains.

        Gives a JSON-able record; SurgeryError names the tensors that are wrong.
        """
        self._check_trainable()
        check_layers(self.model, self.operations, self.sources, self.donor)
        others = {origin for origin in self.origins.values() if origin != START}
        loaded = {o: [name for name, origin in self.origins.items() if origin == o] for o in sorted(others)}
        rows = sum(len(o.rows) for o in self.operations if isinstance(o, KeepRows))
        return {
            "kept": self.kept,
            "drawn": self.fresh,
            **({"loaded": loaded} if loaded else {}),
            **({"output_rows_kept": rows} if rows else {}),
            "frozen": dict(self._frozen_digests),
            "trainable": sorted(self.trainable()),
        }

    def check_optimizer(self, names: Collection[str], state: Collection[str]) -> int:
        """The optimiser holds every trainable parameter and no other, and has state of no other; gives how many.

        `names` are its parameters, `state` the keys of its state ("<parameter>/<slot>"). A frozen parameter that it
        held would decay, or move by what its moments remember. SurgeryError names what is wrong.
        """
        wrong = sorted(set(names) ^ set(self.trainable()))
        require(not wrong, f"the optimiser holds other parameters than those to train: {wrong}")
        strange = sorted({key.partition("/")[0] for key in state if "/" in key} - set(names))
        require(not strange, f"the optimiser has state of parameters that do not train: {strange}")
        return len(names)

    def below_frozen(self) -> list[str]:
        """Layers that train and reach the loss through a frozen layer alone, in the model's order."""
        frozen = [place for place, name in enumerate(self.model.trunk) if name in self.frozen_layers]
        last = max(frozen, default=0)
        if all(head in self.frozen_layers for head in self.model.heads):
            last = len(self.model.trunk)
        below = {*self.model.trunk[:last]}
        for lang, branch in self.model.branches.items():  # a decoder's layers, or those of a language
            if all(head in self.frozen_layers for head in self.model.heads_of[lang]):
                below.update(branch)
        return [name for name in self.model.layers if name in below and name not in self.frozen_layers]

    def check_end(self, without_gradient: Collection[str] = ()) -> dict[str, Any]:
        """After training: frozen layers are bit-identical to what they were, every trainable tensor moved.

        `without_gradient` names parameters whose every gradient was exactly zero (`Optimizer.unmoved`): those may be
        unchanged, and are reported. Where frozen norms kept their statistics, buffers count too. Gives a JSON-able
        record; SurgeryError names the tensors that are wrong.
        """
        self._check_trainable()
        digests = {name: self._frozen_digest(name) for name in self.frozen_layers}
        moved = [name for name in digests if digests[name] != self._frozen_digests[name]]
        require(not moved, f"frozen layers changed during training: {moved}")
        blocked = [name for name in self.below_frozen() if self._unreached(name, without_gradient)]
        require(not blocked, f"no gradient came through the frozen layers to {blocked}")
        unchanged = [name for name, p in self.trainable().items() if tensors_digest([p]) == self._first_digests[name]]
        inert = {f"layers.{layer}.{name}" for layer in self.model.layers for name in self.model.layer(layer).inert}
        stuck = sorted(set(unchanged) - set(without_gradient) - inert)
        require(not stuck, f"trainable tensors did not change during training: {stuck}")
        through = {"gradient_through_frozen": below} if (below := self.below_frozen()) else {}
        return {"frozen": digests, "without_gradient": sorted(unchanged), **through}

    def check_kept(self, weights: Mapping[str, Tensor]) -> None:
        """The weights that are handed on, named as in `state_dict`, hold frozen layers as they were, bit for bit.

        SurgeryError names the layers that they do not: an average over steps, say, must not reach them.
        """
        digests = self._frozen_digests.items()
        moved = [name for name, digest in digests if self._frozen_digest(name, weights) != digest]
        require(not moved, f"the weights that were kept have other frozen layers: {moved}")

    def _unreached(self, layer: str, without_gradient: Collection[str]) -> bool:
        """Whether every gradient of a layer that trains was exactly zero."""
        mine = [name for name in self.trainable() if layer_of(name) == layer]
        return bool(mine) and set(mine) <= set(without_gradient)

    def _check_trainable(self) -> None:
        """The parameters that take gradients are exactly those of layers that are not frozen, and norms that learn."""
        expected = {n for n, _ in self.model.named_parameters() if layer_of(n) not in self.frozen_layers}
        for name in self.frozen_layers if self.frozen.norm == "learn" else []:
            expected.update(norm_tensors(self.model, name) & parameter_tensors(self.model, name).keys())
        wrong = sorted(expected ^ set(self.trainable()))
        require(not wrong, f"frozen and trainable are mixed up: {wrong}")

    def _frozen_digest(self, name: str, weights: Mapping[str, Tensor] | None = None) -> str:
        """SHA-256 of a frozen layer: all of it, but for what may move of its norms (statistics, or all).

        That of the model as it is now, or of its `weights` elsewhere.
        """
        state = self.model.layer_state(name)
        if weights is not None:
            state = {key: weights[key] for key in state}
        if self.frozen.norm != "eval":
            moving = norm_tensors(self.model, name)
            if self.frozen.norm == "train":
                moving -= parameter_tensors(self.model, name).keys()
            state = {key: tensor for key, tensor in state.items() if key not in moving}
        return tensors_digest(state[key] for key in sorted(state))


def check_ties(model: LayeredModel, frozen: Collection[str]) -> None:
    """UserError where a frozen layer shares a parameter with one that is to train: both stand still, or neither."""
    owner: dict[int, str] = {}
    for layer in model.layers:
        for parameter in model.layer(layer).parameters():
            other = owner.setdefault(id(parameter), layer)
            if (other in frozen) != (layer in frozen):
                raise UserError(f"freeze: {other} and {layer} share weights: freeze both, or neither")


def parameter_counts(model: LayeredModel) -> dict[str, Any]:
    """{"total", "trainable", "by_layer": {layer: count}} of the model's parameters.

    One that layers share counts once, in the first of them.
    """
    seen: set[int] = set()
    by_layer = {}
    for name in model.layers:
        mine = {id(p): p.numel() for p in model.layer(name).parameters() if id(p) not in seen}
        by_layer[name] = sum(mine.values())
        seen.update(mine)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"total": sum(by_layer.values()), "trainable": trainable, "by_layer": by_layer}
