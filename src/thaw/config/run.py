"""The canonical recipe of one training: all that decides its outcome, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile

from pydantic import ValidationInfo, field_validator, model_validator

from thaw.config.models import ModelSpec, QuartzNetSpec, misfit
from thaw.config.numbers import Count, Int
from thaw.config.schema import AugmentationSpec, FrozenSpec, RecipeSpec
from thaw.config.starts import BEST
from thaw.config.strict import Strict

TRAIN_VERSION = 2  # raise it when the meaning of training changes: every run then gets a new identity
PADDED_VERSION = 3  # of the runs whose numbers changed alone, see `train_version`


def train_version(
    model: ModelSpec, layers: Sequence[str], recipe: RecipeSpec, freeze: Collection[str], frozen: FrozenSpec
) -> int:
    """The version of a run on a model with these `layers`, heads last.

    Until version 3, outputs of frozen first layers that were kept in memory were padded less than the whole model pads
    them, which the norms behind see. That changed the numbers of a QuartzNet with norms that move behind such layers.
    """
    kept = list(takewhile(lambda layer: layer in freeze, layers))
    behind = [layer for layer in layers[len(kept) :] if layer in model.layer_names[:-1] and layer not in freeze]
    constant = frozen.norm == "eval" and not (recipe.dropout and frozen.dropout == "on")
    constant = constant and recipe.augmentation == AugmentationSpec()
    return PADDED_VERSION if isinstance(model, QuartzNetSpec) and kept and behind and constant else TRAIN_VERSION


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
    ranking: str = ""  # the identity of the probe whose rows rank the layers, for a learner that asks for that
    reset: tuple[str, ...] = ()
    draw: Count = 0  # which of the seed's draws a reset takes: not one that the start's own run began from
    redraw: bool = False  # but for this: reset layers get the values of a first training, the donor's own or not
    freeze: tuple[str, ...] = ()
    frozen: FrozenSpec = FrozenSpec()
    optimizer_state: str = "fresh"
    output_rows: str = "fresh"
    letters: dict[str, str] = {}
    heads: dict[str, str] = {}  # language -> alphabet, where several are learnt, each with an output layer of its own
    alignments: tuple[str, ...] = ()  # identities, one for each corpus: what the task `frames` learns
    units: str = ""  # the identity of the file that holds them, where they are words or byte pairs

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
    def _fits_together(self) -> RunRecipe:
        named = [*self.reset, *(layer for load in self.loads for layer in load.layers)]
        if twice := sorted({layer for layer in named if named.count(layer) > 1}):
            raise ValueError(f"layers with more than one origin (reset, loads): {twice}")
        if problem := misfit(self.model, self.recipe.task, self.heads):
            raise ValueError(problem)
        return self
