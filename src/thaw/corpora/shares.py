"""Shares of a training split: the first ones of an order that depends on seed and names alone.

So shares of one seed are nested, an utterance that another filter rejects moves no other one out, and what a share
leaves is what no smaller share has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from thaw.config.schema import PartSpec
from thaw.errors import UserError
from thaw.randomness import seed_of

Row = dict[str, Any]  # of a manifest


def share(rows: Sequence[Row], spec: PartSpec) -> list[Row]:
    """The rows of a manifest that are in a part, in their order.

    By speaker, whole speakers are taken as long as they fit. UserError where nothing is in it, or nothing left out.
    """
    key = "id" if spec.by == "utterance" else "speaker"
    counts = Counter(str(row[key]) for row in rows)
    room = round(spec.share * len(rows))
    taken = set()
    for name in sorted(counts, key=lambda name: (seed_of(spec.seed, "part", key, name), name)):
        if counts[name] > room:
            break
        room -= counts[name]
        taken.add(name)
    if not taken or len(taken) == len(counts):
        what = f"{len(rows)} utterances of {len({row['speaker'] for row in rows})} speakers"
        raise UserError(f"a share of {spec.share:g} by {spec.by} of {what} is {'all' if taken else 'none'} of them")
    return [row for row in rows if (str(row[key]) in taken) != spec.rest]
