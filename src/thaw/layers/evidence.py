"""All predictors of what freezing a layer does, from one trained run and one target manifest: `thaw evidence`.

What cannot be known of a run (first weights that it neither kept nor drew itself, resets without a manifest in its own
language) is left out, with the reason; nothing is guessed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from thaw.config.evidence import EvidenceSpec
from thaw.config.models import ModelSpec
from thaw.corpora.manifest import Utterance
from thaw.decoding.emissions import Recogniser, load_recogniser
from thaw.decoding.rows import read_utterances
from thaw.errors import UserError
from thaw.layers.change import churn, relative_churn
from thaw.layers.gradients import gradients
from thaw.layers.likeness import cka_by_layer
from thaw.layers.predictors import PREDICTORS
from thaw.layers.resets import penalties
from thaw.models import LayeredModel, build
from thaw.models.layered import layer_of
from thaw.probing.weights import first_weights
from thaw.randomness import rng
from thaw.tasks import Ctc
from thaw.training import environment
from thaw.training.data import Examples
from thaw.units import EVERY, Alphabet

RESETS = tuple(name for name, predictor in PREDICTORS.items() if predictor.cost == "resets")
NO_SOURCE = "no manifest in the run's own language was given (--source)"

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Question:
    """A trained run, and utterances of a target to transfer it to."""

    spec: EvidenceSpec
    model: Path  # the run's best epoch
    target: Path  # manifest
    source: Path | None = None  # manifest in the run's own language, for resets
    snapshots: Path | None = None  # the run's other snapshots, where it keeps some
    threads: int = 1
    device: str = "auto"


@dataclass
class Evidence:
    """Numbers by predictor and layer, why others are missing, and what each kind of measurement took."""

    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)  # beside the predictors' numbers
    cost: dict[str, float] = field(default_factory=dict)  # seconds

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Count the seconds of a block."""
        began = time.perf_counter()
        yield
        self.cost[what] = round(self.cost.get(what, 0.0) + time.perf_counter() - began, 3)


def gather(question: Question) -> dict[str, Any]:
    """The evidence as JSON types.

    UserError where the run is no CTC model, where a file does not fit it, or where there is nothing to look at.
    """
    found = Evidence()
    with found.timed("loading"):
        recogniser = load_recogniser(question.model, question.device, question.threads)
        network = recogniser.model
        check_model(network, recogniser.meta, question.model)
        chosen = chosen_utterances(read_utterances(question.target), question.spec)
        first = known_first(found, network, recogniser.meta, question)
    layers = [layer for layer in network.trunk if any(True for _ in network.layer(layer).parameters())]
    found.scores["depth"] = {layer: float(place) for place, layer in enumerate(layers, start=1)}
    with found.timed("resets"):
        _resets(found, question, layers, recogniser, first)
    if first is not None:
        with found.timed("change"):
            later = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
            found.scores["churn"] = churn(first, later, layers)
            found.more["relative_churn"] = relative_churn(first, later, layers)
    _of_target(found, question.spec, recogniser, chosen, first, layers)
    return {
        "evidence": question.spec.model_dump(mode="json"),
        "layers": layers,
        "heads": list(network.heads),
        "scores": {name: found.scores[name] for name in PREDICTORS if name in found.scores},
        "missing": found.missing,
        **found.more,
        "cost": found.cost,
        "environment": environment.record(recogniser.device, processes=1),
    }


def check_model(network: LayeredModel, meta: Mapping[str, Any], path: Path) -> None:
    """UserError for a model whose task is not known here, and for one that has nothing to freeze."""
    kind = (meta.get("task") or {}).get("kind", "ctc")
    if kind != "ctc":
        raise UserError(f"{path}: a model of the task {kind}; evidence is gathered of CTC models only")
    if not network.trunk:
        raise UserError(f"{path}: a model of heads alone: there is nothing to freeze")


def chosen_utterances(utterances: Sequence[Utterance], spec: EvidenceSpec) -> list[Utterance]:
    """At most `spec.utterances` of them, drawn by the seed, in the order of ids."""
    listed = sorted(utterances, key=lambda one: one.id)
    order = rng(spec.seed, "evidence").permutation(len(listed))[: spec.utterances]
    return [listed[place] for place in sorted(order.tolist())]


def known_first(
    found: Evidence, network: LayeredModel, meta: Mapping[str, Any], question: Question
) -> dict[str, Tensor] | None:
    """The trunk's weights before the first step; where they are not known, what needs them is missing.

    UserError where the snapshots are another model's.
    """
    try:
        tensors = first_weights(network, network.trunk, meta, question.model, question.snapshots)
    except UserError as error:
        found.missing |= dict.fromkeys(("reinit", "reinit-loss", "churn", "cka"), str(error))
        return None
    tensors = _of_trunk(tensors, network)
    copy.deepcopy(network).load_layers(tensors, network.trunk, f"{question.snapshots}, snapshot first")
    return tensors


def _of_trunk(tensors: Weights, network: LayeredModel) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if layer_of(name) in network.trunk}


def _resets(
    found: Evidence, question: Question, layers: Sequence[str], recogniser: Recogniser, first: Weights | None
) -> None:
    if question.source is None:
        found.missing |= dict.fromkeys(RESETS, NO_SOURCE)
        return
    penalty = penalties(question.spec, layers, recogniser, question.source, first)
    found.scores |= {name: penalty.pop(name) for name in RESETS if name in penalty}
    found.more |= penalty


def _of_target(
    found: Evidence,
    spec: EvidenceSpec,
    recogniser: Recogniser,
    chosen: Sequence[Utterance],
    first: Weights | None,
    layers: Sequence[str],
) -> None:
    """What takes a pass over target data: gradients, and likeness to the first weights."""
    network, device = recogniser.model, recogniser.device
    units = Alphabet("".join(sorted({" ", *"".join(one.text for one in chosen)})))
    task = Ctc(units)
    examples = Examples(chosen, {EVERY: task}, recogniser.frontend)
    with found.timed("features"):
        inputs = [torch.from_numpy(examples.features(index).copy()).to(device) for index in range(len(examples))]
    if first is not None:
        with found.timed("likeness"):
            before = copy.deepcopy(network)
            before.load_layers(first, network.trunk, "the first weights")
            alike = cka_by_layer(network, before, network.trunk, inputs)
            found.scores["cka"] = {layer: alike[layer] for layer in layers}
    with found.timed("gradients"):
        tuned = with_new_head(recogniser, task.classes, spec.seed)
        got = gradients(tuned, task, examples, head_epochs=spec.head_epochs, seed=spec.seed, device=device)
    for name, values in (("rgn", got.rgn), ("snr", got.snr), ("fisher", got.fisher)):
        found.scores[name] = {layer: values[layer] for layer in layers}
    found.more["target"] = {
        "utterances": len(chosen),
        "with_gradients": got.utterances,
        "audio_seconds": round(sum(one.seconds for one in chosen), 3),
        "characters": units.characters,
        "head_loss": {"before": got.head_loss[0], "after": got.head_loss[1]},
    }


def with_new_head(recogniser: Recogniser, classes: int, seed: int) -> LayeredModel:
    """The run's trunk under one new head of so many classes, drawn by the seed."""
    spec = TypeAdapter[ModelSpec](ModelSpec).validate_python(recogniser.meta["model"])
    made = build(spec, classes)
    made.initialise(seed)
    made.load_layers(_of_trunk(recogniser.model.state_dict(), made), made.trunk, "the run")
    return made.to(recogniser.device)
