"""The files that a training takes layers from, read and checked against its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from thaw.config.models import layer_names
from thaw.config.run import RunRecipe
from thaw.errors import UserError
from thaw.models import LayeredModel, load_model
from thaw.models.layered import layer_of
from thaw.surgery.checks import last_acts
from thaw.surgery.operations import START, Load, Operation
from thaw.units import ByLanguage, Units, units_from


@dataclass(frozen=True)
class Origin:
    """Weights by name, and the metadata of their file."""

    path: Path
    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    @property
    def units(self) -> dict[str, Units]:
        """What the classes of its heads are, by language."""
        return units_from(self.meta)


def read_origins(recipe: RunRecipe, start: Path | None, loads: Sequence[Path] = ()) -> dict[str, Origin]:
    """What a recipe takes layers from: its start and its loads, in the order of the recipe, by name of the source."""
    wanted = [(START, start, recipe.snapshot)] if start is not None else []
    wanted += [(load.origin, path, load.snapshot) for load, path in zip(recipe.loads, loads, strict=True)]
    found = {}
    for origin, path, snapshot in wanted:
        assert path is not None
        model, meta = load_model(path, snapshot)
        own = {name for branch in model.branches.values() for name in branch}
        if recipe.heads:  # where languages have layers of their own, those of the same place that all share are others'
            own |= set(recipe.model.layer_names)
        others = own - set(layer_names(recipe.model, recipe.heads))  # of languages that are not learnt here
        tensors = {name: tensor for name, tensor in model.state_dict().items() if layer_of(name) not in others}
        found[origin] = Origin(path, tensors, meta)
    return found


def check_heads(
    heads: ByLanguage[Units],
    model: LayeredModel,
    operations: Sequence[Operation],
    origins: Mapping[str, Origin],
) -> None:
    """UserError where a head, with the units of `heads`, would come from a model whose classes mean others."""
    acts = last_acts(operations)
    units_by_head = [(lang, units, head) for lang, units in heads.items() for head in model.heads_of[lang]]
    for lang, units, head in units_by_head:
        act = acts.get(head)
        if isinstance(act, Load) and (origin := origins[act.origin]).units.get(lang, units).plain() != units.plain():
            raise UserError(
                f"{origin.path}: its units are {origin.units[lang].describe()}, the recipe's {units.describe()}; "
                f"an output layer means other letters there: reset {head}"
            )
