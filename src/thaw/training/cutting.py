"""Utterances cut into batches, and batches into parts, by seconds of audio as it is padded.

Memory goes by the padded size: the number of utterances times the longest of them. So that is what a limit is on.
"""

from __future__ import annotations

from collections.abc import Sequence


def sizes(samples: Sequence[int], limit: float) -> list[int]:
    """How many utterances in a row go together, in this order: as many as stay within `limit` samples when padded.

    An utterance that is longer by itself stands alone: it cannot be cut, and is not left out.
    """
    found: list[int] = []
    count = longest = 0
    for length in samples:
        if count and (count + 1) * max(longest, length) > limit:
            found.append(count)
            count = longest = 0
        count, longest = count + 1, max(longest, length)
    return [*found, count] if count else found


def parts(indices: Sequence[int], samples: Sequence[int], limit: float) -> list[list[int]]:
    """`indices` into `samples` in parts within `limit`, the shortest utterances first: the fewest padded samples."""
    ordered = sorted(indices, key=lambda index: (samples[index], index))
    found, first = [], 0
    for size in sizes([samples[index] for index in ordered], limit):
        found.append(ordered[first : first + size])
        first += size
    return found
