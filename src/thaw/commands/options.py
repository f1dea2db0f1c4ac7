"""Values of options that several verbs take; a wrong one is said in one line by the parser."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

DEFAULT_CONFIG = Path("config/config.yaml")
MOST = 1_000_000


def computing_in(threads: int) -> None:
    """Let numpy, and torch, compute in so many threads, whatever the machine has: with others, sums have other bits.

    To be called before numpy is loaded.
    """
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)


def one_thread() -> None:
    """Let each process of this verb compute in one; see `computing_in`."""
    computing_in(1)


def count(text: str) -> int:
    """A whole number from 1."""
    return _whole(text, 1)


def index(text: str) -> int:
    """A whole number from 0."""
    return _whole(text, 0)


def span(text: str) -> float:
    """A length of time: a finite number from 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"a number from 0, not {text!r}")
    return value


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= MOST:
        raise argparse.ArgumentTypeError(f"a whole number from {least} to {MOST:,}, not {text!r}")
    return value
