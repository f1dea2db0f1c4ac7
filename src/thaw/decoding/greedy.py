"""Greedy CTC decoding: best class per frame, repeats and blanks removed. Shapes: T frames, V classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thaw.units import Units


def collapse(classes: NDArray[Any], blank: int) -> list[int]:
    """One class per frame (T,) -> labels: repeats become one, then blanks go."""
    changes = np.ones(len(classes), dtype=bool)
    changes[1:] = classes[1:] != classes[:-1]
    kept: list[int] = classes[changes & (classes != blank)].tolist()
    return kept


def tidy(text: str) -> str:
    """`text` with single spaces between its words and none around them, as references are written."""
    return " ".join(text.split())


def greedy(log_probs: ArrayLike, units: Units) -> str:
    """The text of the best path through log-probabilities or logits (T, V); ties go to the lower class."""
    classes = np.asarray(log_probs).argmax(axis=-1)
    return tidy(units.decode(collapse(classes, units.size)))
