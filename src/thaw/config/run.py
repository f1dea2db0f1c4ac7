"""The canonical recipe of one training: all that decides its outcome, and nothing else."""

from __future__ import annotations

from pydantic import ValidationInfo, field_validator, model_validator

from thaw.config.models import ModelSpec, Strict
from thaw.config.numbers import Int
from thaw.config.schema import FrozenSpec, RecipeSpec
from thaw.config.starts import BEST
from thaw.config.tasks import CtcSpec, TaskSpec

TRAIN_VERSION = 2  # raise it when the meaning of training changes: every run then gets a new identity


class LoadRecipe(Strict):
    """Layers that come from another run than the start: a classifier swapped in."""

    start: str  # the identity of that run
    snapshot: str = BEST
    layers: tuple[str, ...]

    @property
    def origin(self) -> str:
        """What the checks and messages call these weights."""
        return f"{self.start}@{self.snapshot}"

    @field_validator("layers")
    @classmethod
    def _sorted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(value))


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
    snapshot: str = BEST  # which of its weights
    loads: tuple[LoadRecipe, ...] = ()  # layers from further runs
    reset: tuple[str, ...] = ()
    draw: int = 0  # which of the seed's draws a reset takes: not one that the start's own run began from
    freeze: tuple[str, ...] = ()
    frozen: FrozenSpec = FrozenSpec()
    optimizer_state: str = "fresh"
    output_rows: str = "fresh"
    letters: dict[str, str] = {}
    heads: dict[str, str] = {}  # language -> alphabet, where several are learnt, each with an output layer of its own
    task: TaskSpec = CtcSpec()

    @field_validator("frozen")
    @classmethod
    def _of_something(cls, value: FrozenSpec, info: ValidationInfo) -> FrozenSpec:
        """What frozen layers do is no part of a run that has none."""
        return value if info.data.get("freeze") else FrozenSpec()

    @field_validator("reset", "freeze")
    @classmethod
    def _sorted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(value))

    @model_validator(mode="after")
    def _each_layer_has_one_origin(self) -> RunRecipe:
        named = [*self.reset, *(layer for load in self.loads for layer in load.layers)]
        if twice := sorted({layer for layer in named if named.count(layer) > 1}):
            raise ValueError(f"layers with more than one origin (reset, loads): {twice}")
        return self
