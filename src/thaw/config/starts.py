"""Where weights come from, in words: `scratch`, `source` or TREATMENT, the last two with @SNAPSHOT where wanted."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import Field

SCRATCH = "scratch"
SOURCE = "source"
FIRST, BEST, LAST = "first", "best", "last"  # snapshots; the others are epoch-N, and the mean of the last N epochs
SNAPSHOT = r"(?:first|best|last|epoch-[1-9][0-9]{0,5}|mean-[1-9][0-9]{0,3})"

Snapshot = Annotated[str, Field(pattern=f"^{SNAPSHOT}$")]
Start = Annotated[str, Field(pattern=rf"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(@{SNAPSHOT})?$")]


class Origin(NamedTuple):
    """A snapshot of a study's source run (`source`), or of the run of another treatment on the same target."""

    treatment: str
    snapshot: str


def origin(start: str) -> Origin | None:
    """What a start means; None for `scratch`. With a snapshot, `scratch@last` is the treatment of that name."""
    treatment, _, snapshot = start.partition("@")
    return None if start == SCRATCH else Origin(treatment, snapshot or BEST)


def epoch_of(snapshot: str) -> int | None:
    """The N of `epoch-N`; None for the other snapshots."""
    match = re.fullmatch(r"epoch-([0-9]+)", snapshot)
    return int(match[1]) if match else None


def mean_of(snapshot: str) -> int | None:
    """The N of `mean-N`; None for the other snapshots."""
    match = re.fullmatch(r"mean-([0-9]+)", snapshot)
    return int(match[1]) if match else None
