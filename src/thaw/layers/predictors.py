"""The predictors of what freezing a layer does, side by side, and the choices that they make. No torch here.

Signs were fixed before any result was seen. That a layer which can be reset at little cost may stand still is the use
that Zhou et al. (2022) make of their ambient layers, which their clients train less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Scores = Mapping[str, float]  # layer -> number


@dataclass(frozen=True)
class Predictor:
    """One of them: what tables call it, how its number turns into harm, and which measurement it costs."""

    label: str
    sign: int  # of the harm that freezing is predicted to do: 1 where a high number means harm
    cost: str  # a key of the evidence's `cost`; empty: nothing
    source: str


PREDICTORS: dict[str, Predictor] = {
    "depth": Predictor("Depth", 1, "", "the custom: the first layers are frozen"),
    "rerand": Predictor("Re-rand", 1, "resets", "Zhang et al. 2022; Zhou et al. 2022"),
    "reinit": Predictor("Re-init", 1, "resets", "Zhang et al. 2022; Zhou et al. 2022"),
    "rerand-loss": Predictor("Re-rand (loss)", 1, "resets", "the same, by the loss"),
    "reinit-loss": Predictor("Re-init (loss)", 1, "resets", "the same, by the loss"),
    "churn": Predictor("Churn", 1, "change", "Zhou et al. 2022"),
    "rgn": Predictor("Auto-RGN", 1, "gradients", "Lee et al. 2023"),
    "snr": Predictor("SNR", 1, "gradients", "after Lee et al. 2023"),
    "fisher": Predictor("Fisher", 1, "gradients", "empirical Fisher information"),
    "cka": Predictor("CKA", -1, "likeness", "Kornblith et al. 2019"),
}
BASELINE = "depth"


def harm(predictor: str, scores: Scores) -> dict[str, float]:
    """Layer -> the harm that freezing it is predicted to do, in a unit of the predictor's own."""
    return {layer: PREDICTORS[predictor].sign * value for layer, value in scores.items()}


def least_harm(predictor: str, scores: Scores, count: int) -> tuple[str, ...]:
    """The `count` layers predicted to do least harm frozen, in the model's order; of equals, the lower ones."""
    predicted = harm(predictor, scores)
    order = list(scores)
    chosen = set(sorted(order, key=lambda layer: (predicted[layer], order.index(layer)))[:count])
    return tuple(layer for layer in order if layer in chosen)


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, equal values sharing the mean of theirs."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values
    ]


def best_of(predictor: str, scores: Scores, sets: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Of sets of one size, that with the least predicted harm: the mean rank of its layers; of equals, the first."""
    predicted = harm(predictor, scores)
    rank = dict(zip(predicted, ranks(list(predicted.values())), strict=True))
    return tuple(min(sets, key=lambda layers: sum(rank[layer] for layer in layers)))
