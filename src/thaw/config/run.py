"""The canonical recipe of one training: all that decides its outcome, and nothing else."""

from __future__ import annotations

from pydantic import ValidationInfo, field_validator

from thaw.config.models import ModelSpec, Strict
from thaw.config.numbers import Int
from thaw.config.schema import FrozenSpec, RecipeSpec

TRAIN_VERSION = 2  # raise it when the meaning of training changes: every run then gets a new identity


class RunRecipe(Strict):
    """model × corpora × recipe × treatment × seed. `thaw train --recipe` takes its canonical JSON.

    `corpora` and `start` hold identities of what goes in (names with hashes), so that an edit upstream is an edit here.
    """

    version: Int
    model: ModelSpec
    alphabet: str
    corpora: tuple[str, ...]
    recipe: RecipeSpec
    seed: Int
    start: str = "scratch"  # or the identity of another run
    reset: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    frozen: FrozenSpec = FrozenSpec()
    optimizer_state: str = "fresh"
    output_rows: str = "fresh"
    letters: dict[str, str] = {}

    @field_validator("frozen")
    @classmethod
    def _of_something(cls, value: FrozenSpec, info: ValidationInfo) -> FrozenSpec:
        """What frozen layers do is no part of a run that has none."""
        return value if info.data.get("freeze") else FrozenSpec()

    @field_validator("reset", "freeze")
    @classmethod
    def _sorted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(value))
