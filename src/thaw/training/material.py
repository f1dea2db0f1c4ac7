"""What a training learns from beside manifests: the units of its heads, and alignments where its task wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.alignment.states import Alignment, read_alignment
from thaw.config.run import RunRecipe
from thaw.config.tasks import FramesSpec
from thaw.corpora.manifest import Utterance, read_manifest
from thaw.errors import UserError
from thaw.tasks import Frames, Task, tasks_for
from thaw.units import EVERY, States, Units, units_of


class Targets:
    """The states of the aligned utterances of some manifests, as `thaw.tasks.frames` asks for them."""

    def __init__(self, frames: Callable[[int], int]) -> None:
        """`frames`: how many the model makes of so many samples."""
        self.frames = frames
        self.alignments: dict[tuple[str, str], Alignment] = {}  # by language and id

    def add(self, alignment: Alignment, utterances: Iterable[Utterance]) -> set[str]:
        """Take in those of a manifest that it aligns; gives the languages of all of them."""
        langs = set()
        for utterance in utterances:
            langs.add(utterance.lang)
            if utterance.id in alignment:
                self.alignments[utterance.lang, utterance.id] = alignment
        return langs

    def __contains__(self, utterance: Utterance) -> bool:
        """Whether it is aligned: what could not be is among the alignment's rejects."""
        return (utterance.lang, utterance.id) in self.alignments

    def __call__(self, utterance: Utterance) -> NDArray[np.int32]:
        """The states (T,) of an aligned utterance; UserError where they are not as many as the model has frames."""
        alignment = self.alignments[utterance.lang, utterance.id]
        states, frames = alignment[utterance.id], self.frames(utterance.samples)
        if len(states) != frames:
            raise UserError(f"{alignment.path}: {len(states)} states for {frames} frames; run the `align` rule again")
        return states


@dataclass(frozen=True)
class Material:
    """The units of the heads and the task of each, by language."""

    units: dict[str, Units]
    tasks: dict[str, Task]
    targets: Targets | None = None  # of the task `frames`

    def has(self, utterance: Utterance) -> bool:
        """Whether an utterance can be learnt from."""
        return self.targets is None or utterance in self.targets


def material_of(
    recipe: RunRecipe,
    train: Sequence[Path],
    dev: Sequence[Path],
    alignments: Sequence[Path],
    units_file: Path | None = None,
) -> Material:
    """The material of a training on these manifests; `alignments`: one for each, those of `train` first.

    `units_file`: by `thaw units`, where the recipe wants words or byte pairs.

    UserError where an alignment is missing, older than its manifest or of another one, where a head would have two
    inventories of states, and where the task wants no alignment.
    """
    spec = recipe.recipe.task
    if not isinstance(spec, FramesSpec):
        if alignments or recipe.alignments:
            raise UserError(f"--alignment: the task {spec.kind} learns from no alignment")
        units = units_of(recipe, units_file)
        return Material(units, tasks_for(spec, units))
    if len(alignments) != len(train) + len(dev) or len(recipe.alignments) != len(train):
        raise UserError(
            "--alignment: the task frames learns from one for each manifest, those of --train first, as the recipe "
            f"names them: {len(train)} + {len(dev)} manifests, {len(alignments)} alignments, "
            f"{len(recipe.alignments)} names in the recipe"
        )
    targets = Targets(recipe.model.frames)
    inventories: dict[str, States] = {}
    gmms: dict[str, object] = {}  # digests of the models that aligned
    for place, (manifest, path) in enumerate(zip((*train, *dev), alignments, strict=True)):
        alignment = read_alignment(path, manifest)
        langs = targets.add(alignment, read_manifest(manifest))
        name = recipe.alignments[place] if place < len(train) else ""
        for head in sorted(langs) if recipe.heads else [EVERY]:
            _check_inventory(inventories, head, States(alignment.num_states, name), path)
            gmm = alignment.meta.get("gmm_sha256")
            if gmms.setdefault(head, gmm) != gmm:
                raise UserError(f"{path}: aligned by another GMM than {alignments[0]}; run the `align` rule again")
    tasks: dict[str, Task] = {head: Frames(units, targets) for head, units in sorted(inventories.items())}
    return Material(dict(sorted(inventories.items())), tasks, targets)


def _check_inventory(inventories: dict[str, States], head: str, units: States, path: Path) -> None:
    """Note which states a head has, or that it has them already; those of dev bring no name."""
    before = inventories.setdefault(head, units)
    if before.count != units.count or units.inventory not in ("", before.inventory):
        raise UserError(
            f"{path}: {units.count} states, but the head{f' of {head}' if head else ''} has {before.describe()}: "
            "dev is aligned with the model of train, and corpora with a head each have a language each"
        )
