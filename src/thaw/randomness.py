"""Randomness as a function of its seed and its place: never of worker count, batch order or wall clock."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def seed_of(*place: str | int) -> int:
    """A 63-bit seed for a place such as (seed, "dropout", epoch, utterance id, layer)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in place)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def rng(*place: str | int) -> np.random.Generator:
    """A numpy generator for a place; the same place gives the same numbers on every machine."""
    import numpy as np  # only here: plans ask for seeds, and numpy takes longer to import than they do to make

    return np.random.default_rng(seed_of(*place))
