"""What a task counts on dev."""

from __future__ import annotations

from typing import NamedTuple


class Count(NamedTuple):
    """Errors over what there was to get right, in one utterance; a rate is all errors over all totals."""

    errors: float
    total: float
