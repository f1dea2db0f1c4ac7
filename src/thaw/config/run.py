"""The canonical recipe of one training: all that decides its outcome, and nothing else."""

from __future__ import annotations

from pydantic import field_validator

from thaw.config.models import ModelSpec, Strict
from thaw.config.schema import FrozenSpec, RecipeSpec
from thaw.config.starts import BEST

TRAIN_VERSION = 2  # raise it when the meaning of training changes: every run then gets a new identity


class LoadRecipe(Strict):
    """Layers that come from another run than the start: whose (an identity), which of its snapshots."""

    start: str
    snapshot: str = BEST
    layers: tuple[str, ...]


class RunRecipe(Strict):
    """model × corpora × recipe × treatment × seed. `thaw train --recipe` takes its canonical JSON.

    `corpora` and `start` hold identities of what goes in (names with hashes), so that an edit upstream is an edit here.
    """

    version: int
    model: ModelSpec
    alphabet: str
    corpora: tuple[str, ...]
    recipe: RecipeSpec
    seed: int
    start: str = "scratch"  # or the identity of another run
    snapshot: str = BEST  # of that run
    loads: tuple[LoadRecipe, ...] = ()
    reset: tuple[str, ...] = ()
    draw: int = (
        0  # which draw of first weights the reset layers take: with its donor's seed and draw, it gets the donor's
    )
    freeze: tuple[str, ...] = ()
    frozen: FrozenSpec = FrozenSpec()
    optimizer_state: str = "fresh"
    output_rows: str = "fresh"
    letters: dict[str, str] = {}
    heads: dict[str, str] = {}  # language -> alphabet, where several are learnt, each with an output layer of its own

    @field_validator("reset", "freeze")
    @classmethod
    def _sorted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(value))
