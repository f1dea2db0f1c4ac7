"""Transfers drawn at random: a prediction, true effects that are related to it, and effects as seeds show them.

Shapes: L layers, K seeds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from thaw.scoring.ranks import spearman

Floats = NDArray[np.float64]

SEED_NOISE = 0.7  # standard deviation of one seed's effect of a layer, where true effects have 1
ABLE = 0.3  # of the relation, over transfers


def transfer(random: np.random.Generator, relation: float, layers: int, seeds: int) -> tuple[Floats, Floats]:
    """A prediction (L,), and effects (L, K); relations of transfers differ."""
    mine = float(np.clip(relation + random.normal(0, ABLE), -1, 1))
    prediction = random.normal(size=layers)
    true = mine * prediction + math.sqrt(1 - mine**2) * random.normal(size=layers)
    return prediction, true[:, None] + random.normal(0, SEED_NOISE, (layers, seeds))


def rho(prediction: Floats, effects: Floats) -> float:
    """Spearman's correlation of a prediction with the mean effect; 0 where there is none."""
    return spearman(prediction.tolist(), effects.mean(axis=1).tolist()) or 0.0


def rhos(random: np.random.Generator, transfers: int, relation: float, layers: int = 6, seeds: int = 2) -> list[float]:
    """Those of a study."""
    return [rho(*transfer(random, relation, layers, seeds)) for _ in range(transfers)]
