"""The files that a training takes layers from, read and checked against its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from thaw.config.run import RunRecipe
from thaw.errors import UserError
from thaw.models import LayeredModel, load_model
from thaw.surgery.checks import last_acts
from thaw.surgery.operations import START, Load, Operation


@dataclass(frozen=True)
class Origin:
    """Weights by name, and the metadata of their file."""

    path: Path
    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    @property
    def alphabet(self) -> str:
        """The characters that its head gives."""
        return str(self.meta["alphabet"])


def read_origins(recipe: RunRecipe, start: Path | None, loads: Sequence[Path] = ()) -> dict[str, Origin]:
    """What a recipe takes layers from: its start and its loads, in the order of the recipe, by name of the source."""
    wanted = [(START, start, recipe.snapshot)] if start is not None else []
    wanted += [(load.origin, path, load.snapshot) for load, path in zip(recipe.loads, loads, strict=True)]
    found = {}
    for name, path, snapshot in wanted:
        assert path is not None
        model, meta = load_model(path, snapshot)
        found[name] = Origin(path, model.state_dict(), meta)
    return found


def check_heads(
    recipe: RunRecipe, model: LayeredModel, operations: Sequence[Operation], origins: Mapping[str, Origin]
) -> None:
    """UserError where a head would come from a model whose classes mean other letters."""
    acts = last_acts(operations)
    for head in model.heads:
        act = acts.get(head)
        if isinstance(act, Load) and (origin := origins[act.origin]).alphabet != recipe.alphabet:
            raise UserError(
                f"{origin.path}: its alphabet is {origin.alphabet!r}, the recipe's {recipe.alphabet!r}; "
                f"an output layer means other letters there: reset {head}"
            )
