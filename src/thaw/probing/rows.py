"""The files of a job of probes: a row for each probe and split, and the counts of each utterance beside it.

{"name": "block_3-first", "split": "test", "snapshot": "best", "operations": [{"reset": ["block_3"], "to": "first"}],
 "utterances": 40, "measures": {"word": {"errors": 12, "total": 80, …}, "char": {…}}}
{"name": "block_3-first", "split": "test", "id": …, "speaker": …, "word": {…}, "char": {…}}
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from thaw.errors import UserError
from thaw.files import read_jsonl
from thaw.scoring.counts import UtteranceCounts

PLACE = ("name", "split")


def measures(counts: Sequence[UtteranceCounts]) -> dict[str, dict[str, float]]:
    """Key of a measure -> its counts over all utterances, with `errors` and `total` whatever else they hold."""
    found = {}
    for key in counts[0].counts if counts else ():
        total = reduce(add, (count.counts[key] for count in counts))
        found[key] = {**total.as_dict(), "errors": total.errors, "total": total.total}
    return found


def read_counts(path: Path) -> dict[tuple[str, str], list[UtteranceCounts]]:
    """(name, split) of a probe -> the counts of its utterances; UserError where the file is not of `thaw probe`."""
    found: dict[tuple[str, str], list[UtteranceCounts]] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            count = UtteranceCounts.from_row({key: value for key, value in row.items() if key not in PLACE})
            found.setdefault((row["name"], row["split"]), []).append(count)
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}:{number}: not a row of a probe's counts") from error
    return found


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of the probes, in the file's order; UserError where the file is not of `thaw probe`."""
    rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        if not {"name", "split", "operations", "measures"} <= row.keys():
            raise UserError(f"{path}:{number}: not a row of a probe")
    return rows
