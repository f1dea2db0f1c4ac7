"""Top-down training as treatments: Algorithm 1 of Zhang et al. (2021) unrolled, its controls, donors of classifiers.

The algorithm trains a model, then freezes its top layers, draws the rest anew, trains that, and goes on one layer
further down, as long as the dev error does not rise. All stages are run; where the algorithm would have ended is seen
from their dev errors (`thaw.exhibits.cascade`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from thaw.config.layers import OUTPUT, named_layers
from thaw.config.models import head_names, layer_names, places
from thaw.config.numbers import Int, Positive
from thaw.config.schema import FrozenSpec, TreatmentSpec
from thaw.config.sources import Name
from thaw.config.starts import BEST
from thaw.config.strict import Strict
from thaw.exhibits.spec import Place

if TYPE_CHECKING:
    from thaw.config.config import Config
    from thaw.studies.topdown import Spec

Layers = tuple[str, ...]
Seeds = Annotated[tuple[Int, ...], Field(min_length=1, max_length=1000)]

PAST: dict[str, Any] = {"early_stop_epochs": 0}  # a training that is to go on past its optimum
PER_CENT = 100.0


class CascadeSpec(Strict):
    """Algorithm 1 on one model. Its treatments are called after it: NAME-baseline, NAME-stage-1, NAME-lowest, …"""

    label: str  # as tables print it
    corpus: Name
    model: Name
    recipe: Name
    changes: dict[str, Any] = {}  # in the recipe, e.g. {dropout: 0.5}
    decoders: Annotated[tuple[Name, ...], Field(min_length=1)]
    seeds: Seeds = (1,)
    start_seed: Int | None = None  # the one baseline that the stages of all seeds start from; each its own otherwise
    # all: from the top, one layer more at each stage; or the layers that stand still at each stage.
    stages: Literal["all"] | tuple[Layers, ...] = "all"
    lowest: bool = False  # control: the lowest layer stands still instead
    longer: dict[str, Any] | None = None  # control: the baseline trained longer; what changes in the recipe
    swaps: tuple[Name, ...] = ()  # cascades whose baselines' classifier this one also takes, in the place of its own
    classifier: Layers = (OUTPUT,)  # the layers that these bring
    exhibit: Literal["table2", "table3", "table4"] = "table2"
    subsets: dict[str, str] = {}  # parts of test with rates of their own: label, and a pattern of ids, e.g. "sw_*"
    # What the paper leaves unsaid; docs/topdown.md.
    judge: Literal["cer", "wer", "loss"] = "cer"  # the dev error of the break rule, as training measures it
    frozen: FrozenSpec = FrozenSpec()
    optimizer_state: Literal["fresh", "transferred"] = "fresh"
    draw: Literal["unused", "first"] = "unused"


class DonorsSpec(Strict):
    """Section 3: classifiers of trainings on shares of the data or up to epochs, and what is trained below them."""

    cascade: Name  # whose model, corpus, recipe and decoders these are
    corpus: Name | None = None  # another corpus than that
    shares: Annotated[tuple[Name, ...], Field(min_length=1)]  # keys of `parts`, the largest last
    unseen: Name  # the part that the donors have not seen
    classifier: Layers = ("last-2",)
    epochs: tuple[Positive, ...] = ()  # of the training on the largest share
    past: dict[str, Any] = PAST  # what changes in the recipe of that training
    recipe: dict[str, Any] = {}  # what changes in the recipe of what is trained below a donor
    seeds: Seeds = (1,)  # of what is trained below a donor
    donor: Literal["one", "each"] = "one"  # one: of the first seed, for all; each seed has donors of its own otherwise

    @model_validator(mode="after")
    def _goes_on(self) -> DonorsSpec:
        if self.epochs and self.past.get("early_stop_epochs") != 0:
            raise ValueError("past: set early_stop_epochs: 0, or the epochs may never come")
        return self


@dataclass(frozen=True)
class Made:
    """A treatment that a study makes, where and with which seeds it runs, and its place in the exhibits."""

    treatment: TreatmentSpec
    place: Place
    cascade: CascadeSpec
    seeds: tuple[int, ...]


def treatments(spec: Spec, config: Config) -> dict[str, Made]:
    """All treatments of a study by name, in the order of tables; KeyError for a layer that a model has not."""
    made: dict[str, Made] = {}
    for name, cascade in spec.cascades.items():
        made |= {f"{name}-{key}": one for key, one in _cascade(name, cascade, spec, config)}
    if spec.donors:
        cascade = spec.cascades[spec.donors.cascade]
        more = {"corpus": spec.donors.corpus} if spec.donors.corpus else {}
        made |= dict(_donors(spec.donors, cascade.model_copy(update=more), config))
    return made


# --- Algorithm 1 ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stack:
    """The layers of a model, its heads, and which layers count as one (`thaw.config.models.places`)."""

    layers: Layers
    heads: Layers
    places: tuple[Layers, ...]

    @classmethod
    def of(cls, model: str, config: Config) -> Stack:
        """That of a model of the config."""
        spec = config.models[model]
        return cls(layer_names(spec), head_names(spec), places(spec))

    def named(self, references: Iterable[str]) -> Layers:
        """The layers that `references` mean; KeyError for one that means nothing."""
        return named_layers(references, self.layers, self.heads, self.places)

    def count(self, layers: Iterable[str]) -> int:
        """How many layers these are, as `last-N` counts them."""
        found = set(layers)
        return sum(not found.isdisjoint(place) for place in self.places)

    def stages(self, cascade: CascadeSpec) -> list[Layers]:
        """The layers that stand still at each stage, by name."""
        if cascade.stages != "all":
            return [self.named(wanted) for wanted in cascade.stages]
        return [self.named([f"last-{count}"]) for count in range(1, len(self.places))]

    def notation(self, frozen: Iterable[Layers]) -> str:
        """The paper's index of M after these stages: how many layers each added to those frozen, then all others."""
        counts = [0, *map(self.count, frozen), len(self.places)]
        return ",".join(str(later - earlier) for earlier, later in pairwise(counts))

    def surgery(self, frozen: Layers, cascade: CascadeSpec) -> dict[str, Any]:
        """The keys of a treatment that freezes some layers and draws all others anew."""
        return {
            "freeze": frozen,
            "reset": tuple(layer for layer in self.layers if layer not in frozen),
            "frozen": cascade.frozen,
            "optimizer_state": cascade.optimizer_state,
            "draw": cascade.draw,
        }


def _cascade(name: str, cascade: CascadeSpec, spec: Spec, config: Config) -> Iterator[tuple[str, Made]]:
    stack = Stack.of(cascade.model, config)
    recipe = {**config.recipes[cascade.recipe].model_dump(), **cascade.changes}
    base = f"{name}-baseline"

    def made(role: str, label: str, at: float, seeds: tuple[int, ...], **how: Any) -> Made:
        treatment = TreatmentSpec(label=label, model=cascade.model, recipe=how.pop("recipe", recipe), **how)
        place = Place(group=name, label=cascade.label, role=role, at=at, exhibit=cascade.exhibit, judge=cascade.judge,
                      subsets=cascade.subsets)  # fmt: skip
        return Made(treatment, place, cascade, seeds)

    first = cascade.seeds if cascade.start_seed is None else (cascade.start_seed,)
    yield "baseline", made("baseline", "Baseline", 0, first)
    before, done = base, list[Layers]()
    for number, frozen in enumerate(stack.stages(cascade), start=1):
        done.append(frozen)
        # Only the first stage starts from the one baseline of all seeds; the others go on with their own.
        seed = cascade.start_seed if number == 1 else None
        how = {**stack.surgery(frozen, cascade), "start": f"{before}@{BEST}", "start_seed": seed}
        label = f"Stage {number}: M{stack.notation(done)}"
        yield f"stage-{number}", made("stage", label, number, cascade.seeds, **how)
        before = f"{name}-stage-{number}"
    for other in cascade.swaps:
        swapped = stack.named(cascade.classifier)
        how = stack.surgery(swapped, cascade) | {"start": f"{base}@{BEST}", "start_seed": cascade.start_seed}
        how["load"] = dict.fromkeys(swapped, f"{other}-baseline@{BEST}")
        label = f"Classifier from “{spec.cascades[other].label}”"
        yield f"from-{other}", made("swap", label, 0, cascade.seeds, **how)
    if cascade.lowest:
        lowest = stack.named(["first-1"])
        how = stack.surgery(lowest, cascade) | {"start": f"{base}@{BEST}", "start_seed": cascade.start_seed}
        yield "lowest", made("lowest", "Lowest layer frozen", 0, cascade.seeds, **how)
    if cascade.longer is not None:
        changed = {**recipe, **cascade.longer}
        yield "longer", made("longer", "Baseline, trained longer", 0, first, recipe=changed)


# --- donors ---------------------------------------------------------------------------------------


def _donors(donors: DonorsSpec, cascade: CascadeSpec, config: Config) -> Iterator[tuple[str, Made]]:
    """Trainings on each share; then what is trained on the unseen part: all of it, and below each donor."""
    stack = Stack.of(cascade.model, config)
    recipe = {**config.recipes[cascade.recipe].model_dump(), **cascade.changes}
    frozen = stack.named(donors.classifier)
    first = donors.seeds[:1] if donors.donor == "one" else donors.seeds
    seed = donors.seeds[0] if donors.donor == "one" else None

    def made(role: str, label: str, at: float, seeds: tuple[int, ...], changes: Mapping[str, Any], **how: Any) -> Made:
        treatment = TreatmentSpec(label=label, model=cascade.model, recipe={**recipe, **changes}, **how)
        place = Place(group="donors", label="Donors", role=role, at=at, judge=cascade.judge)
        return Made(treatment, place, cascade, seeds)

    last = donors.shares[-1]
    kept = {"snapshots": (BEST, *(f"epoch-{epoch}" for epoch in donors.epochs))}
    for share in donors.shares:
        per_cent = PER_CENT * config.parts[share].share
        past = {**donors.past, **kept} if share == last and donors.epochs else {}
        yield f"donor-{share}", made("share", f"{per_cent:g} % of the data", per_cent, first, past, part=share)
    below: dict[str, Any] = {"part": donors.unseen}
    yield "donor-none", made("none", "No donor", 0, donors.seeds, donors.recipe, **below)
    below |= {**stack.surgery(frozen, cascade), "start_seed": seed}
    for share in donors.shares:
        per_cent = PER_CENT * config.parts[share].share
        start = f"donor-{share}@{BEST}"
        label = f"Classifier from {per_cent:g} %"
        yield f"from-{share}", made("donor", label, per_cent, donors.seeds, donors.recipe, start=start, **below)
    for epoch in donors.epochs:
        start = f"donor-{last}@epoch-{epoch}"
        label = f"Classifier of epoch {epoch}"
        yield f"from-epoch-{epoch}", made("epoch", label, epoch, donors.seeds, donors.recipe, start=start, **below)
