"""Naming layers by place, so that one treatment fits every model: `output`, `first-N`, `last-N`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

OUTPUT = "output"
_PLACE = re.compile(r"(first|last)-([1-9][0-9]*)")
WORDS = (OUTPUT, "first-N", "last-N")


def named_layers(references: Iterable[str], layers: Sequence[str]) -> tuple[str, ...]:
    """The layers that `references` mean in a model with these `layers`, in the model's order, each once.

    A reference is a layer's name, `output` (the last layer), `first-N` (counted from the input side) or `last-N`
    (counted from the output). KeyError for one that means nothing there; its argument is the reference.
    """
    chosen: set[str] = set()
    for reference in references:
        place = _PLACE.fullmatch(reference)
        if reference in layers:
            chosen.add(reference)
        elif reference == OUTPUT:
            chosen.add(layers[-1])
        elif place and int(place[2]) <= len(layers):
            count = int(place[2])
            chosen.update(layers[:count] if place[1] == "first" else layers[-count:])
        else:
            raise KeyError(reference)
    return tuple(layer for layer in layers if layer in chosen)
