"""Numbers and pairs of numbers that a config may hold: true and false are none, ranges ascend, sizes end somewhere.

Upper bounds are far beyond anything real. They tell a slip of the keyboard before it fills a disk.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field


def _no_truth(value: Any) -> Any:
    """Python takes true for 1."""
    if isinstance(value, bool):
        raise ValueError("a number, not true or false")
    return value


def _ascending(value: tuple[Any, Any]) -> tuple[Any, Any]:
    if value[0] > value[1]:
        raise ValueError(f"from {value[0]} to {value[1]}: give the smaller one first")
    return value


Int = Annotated[int, BeforeValidator(_no_truth), Field(ge=-(2**63), lt=2**63)]
Float = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]

Positive = Annotated[Int, Field(gt=0, le=100_000_000)]
Count = Annotated[Int, Field(ge=0, le=100_000_000)]
Size = Annotated[Int, Field(gt=0, le=100_000)]  # of a layer, a batch, a beam: what memory is taken for
Fraction = Annotated[Float, Field(ge=0, lt=1)]
Amount = Annotated[Float, Field(ge=0, le=1e9)]
Some = Annotated[Float, Field(gt=0, le=1e9)]
Level = Annotated[Float, Field(ge=-300, le=300)]  # decibels
Weight = Annotated[Float, Field(ge=-1e6, le=1e6)]  # of a language model, a word

Levels = Annotated[tuple[Level, Level], AfterValidator(_ascending)]
Weights = Annotated[tuple[Weight, Weight], AfterValidator(_ascending)]
Counts = Annotated[tuple[Positive, Positive], AfterValidator(_ascending)]
