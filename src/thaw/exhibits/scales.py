"""Which rates come from a search whose scale dev put at an end of those tried: a wider grid might give lower ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from thaw.errors import UserError
from thaw.exhibits.frame import Cell
from thaw.exhibits.spec import DecodeRow
from thaw.files import read_json

AT_END = "‡"
SCALES = {"scale": "acoustic scale", "prior_scale": "prior scale"}  # as a decode's record calls them


@dataclass(frozen=True)
class Chosen:
    """A scale that was chosen on dev, of several."""

    kind: str  # of the decoder: "hybrid", "gmm"
    name: str  # in words
    value: float
    lowest: float  # that was tried
    highest: float

    @property
    def at_end(self) -> bool:
        """Whether it is the lowest or the highest."""
        return self.value in (self.lowest, self.highest)


def chosen(decode: DecodeRow) -> list[Chosen]:
    """What was chosen for a decode; nothing where it has no scales, or one only. UserError for another record."""
    if not decode.record:
        return []
    record = read_json(Path(decode.record))
    try:
        spec = record["decoder"]
        tried = {key: sorted(set(spec.get(f"{key}s", ()))) for key in SCALES}
        return [
            Chosen(spec["kind"], SCALES[key], record[key], values[0], values[-1])
            for key, values in tried.items()
            if len(values) > 1
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{decode.record}: not the record that a search writes ({error!r})") from error


def mark(cell: Cell) -> str:
    """What stands behind a rate of which a scale is at an end."""
    return AT_END if any(one.at_end for judged in cell.judged for one in chosen(judged.decode)) else ""


def scales_note(cells: Iterable[Cell]) -> list[str]:
    """What the mark means, of how many searches, and what was tried; nothing where no scale is at an end."""
    found = [chosen(judged.decode) for cell in cells for judged in cell.judged]
    ends = [[one for one in each if one.at_end] for each in found]
    if not any(ends):
        return []
    tried = dict.fromkeys(f"{one.kind}: {one.name} {one.lowest:g} to {one.highest:g}" for each in ends for one in each)
    return [
        f"{AT_END}: dev chose the lowest or the highest of the scales that were tried ({'; '.join(tried)}) for a "
        f"search behind this rate, so a wider grid might give a lower one ({sum(map(bool, ends))} of {len(found)} "
        "searches)."
    ]
