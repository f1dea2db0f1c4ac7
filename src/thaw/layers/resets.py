"""The penalty of resetting each layer of the source run, on its own language: in word errors, and in nats of the loss.

Word errors are what Zhang et al. (2022) and Zhou et al. (2022) look at. They cannot pass 100 % by much, and a small or
deep network may be there whatever layer is reset; the loss still tells such layers apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from thaw.config.evidence import EvidenceSpec
from thaw.config.probes import each_layer
from thaw.decoding.emissions import Recogniser
from thaw.decoding.greedy import greedy
from thaw.errors import UserError
from thaw.probing.probe import Batches, operated, unchanged_layers
from thaw.probing.weights import operations_of_probe
from thaw.scoring.edits import count_words
from thaw.surgery.operations import FIRST, START, Operation
from thaw.tasks.ctc import ctc_loss
from thaw.units import OutsideAlphabet

NONE = "none"


def penalties(
    spec: EvidenceSpec,
    layers: Sequence[str],
    recogniser: Recogniser,
    manifest: Path,
    first: Mapping[str, Tensor] | None,
) -> dict[str, Any]:
    """What each reset adds: {"rerand", "reinit"} in word error rate, {"rerand-loss", "reinit-loss"} in nats a letter.

    Each is layer -> penalty, of draws the mean; "draws" holds the single ones. Greedy decoding, the model as evaluated.
    No draw takes the run's own seed; without `first`, the run's first weights, nothing is reset to them. UserError for
    a `manifest` that the model cannot be judged on.
    """
    run = recogniser.meta.get("run")
    own = run.get("seed") if isinstance(run, Mapping) else None
    seeds = [seed for seed in range(spec.seed, spec.seed + spec.draws + 1) if seed != own][: spec.draws]
    specs = {NONE: (), **each_layer(layers, "draw", seeds), **(each_layer(layers, "first") if first else {})}
    network = recogniser.model
    lists = {name: operations_of_probe(written, network) for name, written in specs.items()}
    batches = Batches(recogniser, {spec.split: manifest})
    judged = _judge(spec, lists, batches, recogniser, first)
    base = judged[NONE]
    found: dict[str, Any] = {
        "source": {"rate": base[0], "loss": base[1], "utterances": len(batches.utterances[spec.split])}
    }
    for place, ending in ((0, ""), (1, "-loss")):
        draws = {layer: [judged[f"{layer}-draw-{seed}"][place] - base[place] for seed in seeds] for layer in layers}
        found[f"draws{ending}"] = draws
        found[f"rerand{ending}"] = {layer: fmean(values) for layer, values in draws.items()}
        if first:
            found[f"reinit{ending}"] = {layer: judged[f"{layer}-first"][place] - base[place] for layer in layers}
    return found


def _judge(
    spec: EvidenceSpec,
    lists: Mapping[str, Sequence[Operation]],
    batches: Batches,
    recogniser: Recogniser,
    first: Mapping[str, Tensor] | None,
) -> dict[str, tuple[float, float]]:
    """Name of each list of operations -> word error rate, and nats per letter, after them."""
    network = recogniser.model
    sources = {
        START: {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()},
        **({FIRST: first} if first else {}),
    }
    found = {}
    for name in sorted(lists, key=lambda name: unchanged_layers(network, lists[name])):
        batches.advance(unchanged_layers(network, lists[name]))
        with operated(network, lists[name], sources, recogniser.meta):
            found[name] = _rates(batches, spec, recogniser)
    return found


def _rates(batches: Batches, spec: EvidenceSpec, recogniser: Recogniser) -> tuple[float, float]:
    alphabet = batches.speaking[spec.split].alphabet
    errors = words = letters = 0
    nats: list[float] = []
    for utterance, scores in batches.emissions(spec.split):
        counted = count_words(utterance.text, greedy(scores, alphabet))
        errors, words = errors + counted.errors, words + counted.total
        try:
            labels = alphabet.encode(utterance.text)
        except OutsideAlphabet:
            continue  # a reference that the model cannot write has errors, but no loss
        lengths = torch.tensor([len(scores)]), torch.tensor([len(labels)])
        loss = float(ctc_loss(torch.from_numpy(scores).unsqueeze(0), lengths[0], torch.tensor(labels), lengths[1]))
        if math.isfinite(loss):
            nats.append(loss)
            letters += len(labels)
    if not words or not letters:
        raise UserError("--source: no utterance of it can be written with the letters of the run: another language?")
    return errors / words, math.fsum(nats) / letters
