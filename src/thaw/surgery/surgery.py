"""Surgery on a stack of named layers: start weights in, layers reset, layers frozen, and proof that it was so.

The checks run in every training. They exist because the published runs of Eberhard & Zesch (2021) called an LSTM frozen
that their optimiser went on training: onnoeberhard/deepspeech, logs/en_de/training-lstm.log lists Adam slots for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from thaw.config.schema import FrozenSpec
from thaw.errors import UserError
from thaw.models.layered import LayeredModel


class SurgeryError(RuntimeError):
    """A tensor is not what the treatment says it is. A defect of the program, not of the input."""


def prepare(
    model: LayeredModel,
    start: Mapping[str, Tensor] | None,
    reset: Collection[str],
    freeze: Collection[str],
    frozen: FrozenSpec,
    seed: int,
    rows: Mapping[int, int] | None = None,
) -> Surgery:
    """Give `model` its first weights and freeze layers; the tensors of `start` are named as in `model.state_dict()`.

    Every layer but those in `reset` takes its weights from `start`; a reset layer is drawn from (seed, its name) and
    may be absent from `start` or have another shape there. Without `start` all layers are drawn. `rows` maps classes
    of a reset output layer to the start's classes whose rows they keep. UserError names a layer that does not exist or
    does not fit, or says that nothing is left to train.
    """
    for word, names in (("reset", reset), ("freeze", freeze)):
        unknown = sorted(set(names) - set(model.layers))
        if unknown:
            raise UserError(f"{word}: the model has no layers {unknown}; its layers: {', '.join(model.layers)}")
    if set(freeze) == set(model.layers):
        raise UserError("freeze: all layers are frozen, so nothing is left to train")
    fresh = [name for name in model.layers if start is None or name in reset]
    for name in fresh:
        model.reset_layer(name, seed)
    if start is not None:
        model.load_layers(start, [name for name in model.layers if name not in fresh], "the start")
        keep_rows(model, start, rows or {})
    for name in model.layers:
        model.layer(name).requires_grad_(name not in freeze)
        if frozen.norm == "learn":
            for norm in norms(model, name):
                norm.requires_grad_(True)
    model.still = frozenset(freeze) if frozen.norm == "eval" else frozenset()
    model.train(model.training)
    return Surgery(model, start, fresh, [name for name in model.layers if name in freeze], frozen, rows)


def norms(model: LayeredModel, layer: str) -> list[nn.Module]:
    """The normalisation modules inside a layer."""
    return [module for module in model.layer(layer).modules() if isinstance(module, _NormBase)]


@torch.no_grad()
def keep_rows(model: LayeredModel, start: Mapping[str, Tensor], rows: Mapping[int, int]) -> None:
    """Give classes of the output layer the start's rows; every tensor of such a layer has one row per class."""
    new, old = list(rows), list(rows.values())
    for key, tensor in model.layer_state(list(model.layers)[-1]).items() if rows else ():
        if key not in start or start[key].shape[1:] != tensor.shape[1:]:
            raise UserError(f"the start has no rows for {key} of this model, so none can be kept; reset them all")
        tensor[new] = start[key][old].to(tensor.device)


class Surgery:
    """A prepared model, and the checks that the treatment held. Made by `prepare`."""

    def __init__(
        self,
        model: LayeredModel,
        start: Mapping[str, Tensor] | None,
        fresh: list[str],
        frozen_layers: list[str],
        frozen: FrozenSpec,
        rows: Mapping[int, int] | None = None,
    ) -> None:
        self.model = model
        self.start = start
        self.rows = rows or {}  # class of the output layer -> the start's class whose row it began from
        self.fresh = fresh  # layers drawn anew, in the model's order
        self.kept = [name for name in model.layers if name not in fresh]  # layers that began from the start's weights
        self.frozen_layers = frozen_layers
        self.frozen = frozen
        self._frozen_digests = {name: self._frozen_digest(name) for name in frozen_layers}
        self._first_digests = {name: tensors_digest([p]) for name, p in self.trainable().items()}

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters to train, by name: what the optimizer gets, and nothing else."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def kept_parameters(self) -> list[str]:
        """Names of trainable parameters that began from the start's weights; an optimizer state may be transferred."""
        return [name for name in self.trainable() if name.split(".")[1] in self.kept]

    def dropout_rates(self, dropout: float) -> dict[str, float]:
        """Layer -> dropout rate in training, given the recipe's rate."""
        off = self.frozen_layers if self.frozen.dropout == "off" else []
        return {name: 0.0 if name in off else dropout for name in self.model.layers}

    def check_start(self) -> dict[str, Any]:
        """Before the first step: kept layers equal the start bit for bit, reset ones do not, only the rest trains.

        Gives a JSON-able record; SurgeryError names the tensors that are wrong.
        """
        self._check_trainable()
        if self.start is not None:
            for name in self.kept:
                state = self.model.layer_state(name)
                _require(_same(state, self.start), f"layer {name} differs from the start's")
            for name in self.fresh:
                state = self.model.layer_state(name)
                if self.rows and name == list(self.model.layers)[-1]:
                    self._check_rows(state, self.start)
                    continue
                same = [k for k, t in state.items() if k in self.start and _is_copy(t, self.start[k])]
                _require(not same, f"reset left the start's values in {same}")
        return {
            "kept": self.kept if self.start is not None else [],
            "drawn": self.fresh,
            **({"output_rows_kept": len(self.rows)} if self.rows else {}),
            "frozen": dict(self._frozen_digests),
            "trainable": sorted(self.trainable()),
        }

    def check_end(self, without_gradient: Collection[str] = ()) -> dict[str, Any]:
        """After training: frozen layers are bit-identical to what they were, every trainable tensor moved.

        `without_gradient` names parameters whose every gradient was exactly zero (`AdamTF.unmoved`): those may be
        unchanged, and are reported. Where frozen norms kept their statistics, buffers count too. Gives a JSON-able
        record; SurgeryError names the tensors that are wrong.
        """
        self._check_trainable()
        digests = {name: self._frozen_digest(name) for name in self.frozen_layers}
        moved = [name for name in digests if digests[name] != self._frozen_digests[name]]
        _require(not moved, f"frozen layers changed during training: {moved}")
        unchanged = [name for name, p in self.trainable().items() if tensors_digest([p]) == self._first_digests[name]]
        stuck = sorted(set(unchanged) - set(without_gradient))
        _require(not stuck, f"trainable tensors did not change during training: {stuck}")
        return {"frozen": digests, "without_gradient": sorted(unchanged)}

    def _check_trainable(self) -> None:
        """The parameters that take gradients are exactly those of layers that are not frozen, and norms that learn."""
        expected = {n for n, _ in self.model.named_parameters() if n.split(".")[1] not in self.frozen_layers}
        for name in self.frozen_layers if self.frozen.norm == "learn" else []:
            expected.update(self._norm_tensors(name) & dict(self.model.named_parameters()).keys())
        wrong = sorted(expected ^ set(self.trainable()))
        _require(not wrong, f"frozen and trainable are mixed up: {wrong}")

    def _check_rows(self, state: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> None:
        """The rows that were to be kept equal the start's; the others are new."""
        new, old = list(self.rows), list(self.rows.values())
        for key, tensor in state.items():
            _require(torch.equal(tensor[new].cpu(), start[key][old].cpu()), f"{key}: rows to be kept differ")
            if tensor.ndim > 1:  # biases may be drawn as zeros
                theirs = {tensors_digest([row]) for row in start[key]}
                copies = [row for row in range(len(tensor)) if row not in self.rows]
                copies = [row for row in copies if tensors_digest([tensor[row]]) in theirs]
                _require(not copies, f"{key}: reset left the start's values in rows {copies}")

    def _norm_tensors(self, layer: str) -> set[str]:
        """Full names of the weights and buffers of a layer's normalisation modules."""
        prefix = f"layers.{layer}"
        modules = self.model.layer(layer).named_modules()
        return {
            f"{prefix}.{name}.{key}" if name else f"{prefix}.{key}"
            for name, module in modules
            if isinstance(module, _NormBase)
            for key in module.state_dict()
        }

    def _frozen_digest(self, name: str) -> str:
        """SHA-256 of a frozen layer: all of it, but for what may move of its norms (statistics, or all)."""
        state = self.model.layer_state(name)
        if self.frozen.norm != "eval":
            moving = self._norm_tensors(name)
            if self.frozen.norm == "train":
                moving -= dict(self.model.named_parameters()).keys()
            state = {key: tensor for key, tensor in state.items() if key not in moving}
        return tensors_digest(state[key] for key in sorted(state))


def tensors_digest(tensors: Iterable[Tensor]) -> str:
    """SHA-256 over the bytes of tensors, in order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def parameter_counts(model: LayeredModel) -> dict[str, Any]:
    """{"total", "trainable", "by_layer": {layer: count}} of the model's parameters."""
    by_layer = {name: sum(p.numel() for p in model.layer(name).parameters()) for name in model.layers}
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"total": sum(by_layer.values()), "trainable": trainable, "by_layer": by_layer}


def _same(state: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> bool:
    return all(tensors_digest([t]) == tensors_digest([start[key]]) for key, t in state.items())


def _is_copy(tensor: Tensor, other: Tensor) -> bool:
    """Equal, and not a constant: constants such as zero biases are equal after any reset."""
    if tensor.shape != other.shape or tensor.numel() == 0:
        return False
    tensor, other = tensor.detach().cpu(), other.detach().cpu()
    return torch.equal(tensor, other) and bool((tensor != tensor.flatten()[0]).any())


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SurgeryError(f"layer surgery went wrong: {message}")
