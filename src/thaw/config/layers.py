"""Naming layers by place, so that one treatment fits every model: `output`, `first-N`, `last-N`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

OUTPUT = "output"
_PLACE = re.compile(r"(first|last)-([1-9][0-9]*)")
WORDS = (OUTPUT, "first-N", "last-N")


def named_layers(
    references: Iterable[str],
    layers: Sequence[str],
    heads: Sequence[str] = (),
    places: Sequence[Sequence[str]] = (),
) -> tuple[str, ...]:
    """The layers that `references` mean in a model with these `layers`, in the model's order, each once.

    A reference is a layer's name, `output` (all `heads`; the last layer where none are given), `first-N` (counted from
    the input side) or `last-N` (counted from the output; all heads count as one). `places` says which layers stand at
    one place, where languages have more than heads of their own: these count as one, too. KeyError for a reference that
    means nothing there; it is the error's argument.
    """
    chosen: set[str] = set()
    heads = heads or layers[-1:]
    places = places or [*((layer,) for layer in layers if layer not in heads), tuple(heads)]
    for reference in references:
        place = _PLACE.fullmatch(reference)
        if reference in layers:
            chosen.add(reference)
        elif reference == OUTPUT:
            chosen.update(heads)
        elif place and int(place[2]) <= len(places):
            count = int(place[2])
            part = places[:count] if place[1] == "first" else places[-count:]
            chosen.update(layer for layers_there in part for layer in layers_there)
        else:
            raise KeyError(reference)
    return tuple(layer for layer in layers if layer in chosen)
