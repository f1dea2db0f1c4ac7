"""Units from the text of a training split: what `thaw units` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thaw.config.units import BpeUnits, CountedUnits, WordUnits
from thaw.errors import UserError
from thaw.units.pieces import learn_pieces
from thaw.units.units import Units
from thaw.units.words import UNKNOWN, Words, count_words, read_words


def make_units(spec: CountedUnits, texts: Sequence[str]) -> tuple[Units, dict[str, Any]]:
    """The units of training texts, and a record of them. UserError where the texts are empty or cannot give them."""
    if not any(text.strip() for text in texts):
        raise UserError("the training text is empty: no units can be counted in it")
    units: Words | Any
    match spec:
        case WordUnits():
            units = read_words(Path(spec.file).expanduser()) if spec.file else count_words(texts, spec.min_count)
        case BpeUnits():
            units = learn_pieces([text for text in texts if text], spec.size)
    words = [word for text in texts for word in text.split()]
    record: dict[str, Any] = {
        "units": spec.model_dump(mode="json"),
        "size": units.size,
        "sentences": len(texts),
        "words": len(words),
        "labels": sum(len(units.encode(text)) for text in texts),
    }
    if isinstance(units, Words):
        known = set(units.words) - {UNKNOWN}
        record["unknown"] = sum(word not in known for word in words)  # `<unk>` in the text too
    return units, record
