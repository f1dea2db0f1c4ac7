"""The grid that several studies are: every treatment on every target corpus with every seed, from one source.

What such studies say in a config (`GridSpec`), and the runs that it unrolls to; its mistakes are found by
`thaw.planning.checks`. A treatment may start from another one's run on the same target, that one from a third.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from thaw.config.layers import named_layers
from thaw.config.models import ModelSpec, head_names, layer_names, places
from thaw.config.numbers import Int
from thaw.config.probes import ProbeSpec
from thaw.config.run import TRAIN_VERSION, LoadRecipe, RunRecipe, train_version
from thaw.config.schema import RecipeSpec, SourceSpec, StudySpec, TreatmentSpec
from thaw.config.sources import Name, Split
from thaw.config.starts import BEST, SCRATCH, SOURCE, Origin, Snapshot, origin
from thaw.config.tasks import FramesSpec
from thaw.config.units import CharacterUnits, WordUnits
from thaw.planning import contents
from thaw.planning.alignments import Alignment, alignment_of
from thaw.planning.artifacts import Checkpoint, Probe, Run
from thaw.planning.corpora import Corpus, CountedUnits, Data, Manifest, Part
from thaw.planning.folds import folds_of, whole_name
from thaw.planning.plan import Study, decodes, with_origins

if TYPE_CHECKING:
    from thaw.config.config import Config


class TreatmentsSpec(StudySpec):
    """Every treatment on every target corpus with every seed. Treatments start from scratch and from each other."""

    source: SourceSpec | None = None  # what they may start from beside each other
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    model: Name
    recipe: Name
    target_recipes: dict[Name, dict[str, Any]] = {}  # what a target changes in the recipe; treatments come after
    treatments: Annotated[tuple[Name, ...], Field(min_length=1)]
    baseline: Name  # the treatment that the others are compared to
    reference: Name | None = None  # a second one, e.g. transfer with nothing frozen
    seeds: Annotated[tuple[Int, ...], Field(min_length=1, max_length=1000)] = (1,)
    alignment: Name | None = None  # a key of `alignments`: whose states are learnt, where the task is frames
    corpus_alignments: dict[Name, Name] = {}  # the same of single corpora, which differ in it
    decoders: Annotated[tuple[Name, ...], Field(min_length=1)]
    splits: Annotated[tuple[Split, ...], Field(min_length=1)] = ("test",)  # that are decoded
    snapshots: Annotated[tuple[Snapshot, ...], Field(min_length=1)] = (BEST,)  # that are decoded, of every run
    probes: dict[Name, ProbeSpec] = {}  # evaluations of every run with some of its layers changed


class GridSpec(TreatmentsSpec):
    """A grid of runs: a source run, then every treatment on every target corpus with every seed."""

    source: SourceSpec


# --- runs -----------------------------------------------------------------------------------------


def plan(name: str, spec: GridSpec, config: Config) -> Study:
    """The runs and decodes of a grid, in the order its tables show them. The config has passed `check`."""
    grid = Grid(spec, config)
    judged = tuple(
        (grid.run(target, treatment, seed), grid.manifest(target, treatment))
        for whole in spec.targets
        for target in folds_of(whole, config)
        for treatment in spec.treatments
        for seed in spec.seeds
    )
    runs = tuple({run.id: run for run, _ in judged}.values())
    source = grid.source
    own = (source,) if isinstance(source, Run) else ()
    # The source itself is decoded too: a transfer result means little beside a source that has learnt nothing.
    decoded = [decode for run in own for decode in decodes(run, spec.decoders, config)]
    decoded += [
        decode
        for run, manifest in judged
        for split in spec.splits
        for snapshot in spec.snapshots
        for decode in decodes(run, spec.decoders, config, split, snapshot, manifest)
    ]
    probes = tuple(Probe(run, probe, one) for run in runs for probe, one in spec.probes.items())
    assert source is not None  # a GridSpec has one
    label = source.manifest.corpus.spec.label if isinstance(source, Run) else source.name
    return Study(
        name, spec, runs, tuple(decoded), probes, sources=own, source_label=label, baseline=spec.baseline,
        reference=spec.reference or "", judged=judged,
    )  # fmt: skip


@dataclass
class Grid:
    """A grid being unrolled; every run of it is made once."""

    spec: TreatmentsSpec
    config: Config
    made: dict[tuple[str, str, int], Run] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source = self._source()

    def run(self, target: str, treatment: str, seed: int) -> Run:
        """The run of a treatment on a target with a seed; those that it starts from are made first."""
        together = target in self.config.treatments[treatment].corpora  # one run, whichever of them is asked for
        key = (treatment if together else target, treatment, seed)
        if key not in self.made:
            self.made[key] = self._run(target, treatment, seed)
        return self.made[key]

    def manifest(self, target: str, treatment: str) -> Manifest:
        """What a run of a treatment is judged on for a target."""
        model = model_of(self.config.treatments[treatment], self.spec, self.config)
        return manifest_of(target, self.config.models[model], self.config)

    def _at(self, place: Origin, target: str, seed: int) -> Run | Checkpoint:
        if place.treatment != SOURCE:
            return self.run(target, place.treatment, seed)
        assert self.source is not None  # see planning/checks.py
        return self.source

    def _run(self, target: str, treatment: str, seed: int) -> Run:
        how = self.config.treatments[treatment]
        model_name = model_of(how, self.spec, self.config)
        model = self.config.models[model_name]
        data = self._data(target, how, model)
        way = RecipeSpec.model_validate(recipe_of(how, target, self.spec, self.config))
        alignments = alignments_of(self.spec, way, self.config, data)
        heads = {one.language: _letters(one, alignments) for one in data} if len(data) > 1 else {}
        stack = layer_names(model, heads), head_names(model, heads), places(model, heads)
        place = origin(how.start)
        before = seed if how.start_seed is None else how.start_seed
        start = self._at(place, target, before) if place else None
        alphabet = self.config.languages[how.alphabet].alphabet if how.alphabet else _letters(data[0], alignments)
        loads = [(named_layers([wanted], *stack), origin(text)) for wanted, text in how.load.items()]
        donors = tuple((loaded, place, self._at(place, target, before)) for loaded, place in loads if place)
        reset = named_layers(how.reset, *stack)
        freeze = named_layers(how.freeze, *stack)
        units = counted_units(way, data[0].manifest)
        recipe = RunRecipe(
            version=train_version(model, stack[0], way, freeze, how.frozen),
            model=model,
            alphabet=alphabet,
            corpora=tuple(one.hash for one in data),
            recipe=unplaced(way),
            seed=seed,
            start=start.hash if start else "scratch",
            snapshot=place.snapshot if place else BEST,
            loads=tuple(
                LoadRecipe(start=donor.hash, snapshot=place.snapshot, layers=loaded) for loaded, place, donor in donors
            ),
            reset=reset,
            draw=0 if how.draw == "first" else unused_draw(seed, reset, [start, *(donor for _, _, donor in donors)]),
            redraw=how.draw == "first",
            freeze=freeze,
            frozen=how.frozen,
            optimizer_state=how.optimizer_state,
            output_rows=how.output_rows,
            letters={letter: other for letter, other in how.letters.items() if letter in alphabet},
            heads=heads,
            units=units.hash if units else "",
            alignments=tuple(one.hash for one in alignments),
        )
        of = () if target in how.corpora else (target,)
        name = "-".join((*of, model_name, treatment, f"s{seed}"))
        donated = tuple(donor for _, _, donor in donors)
        label = how.label or treatment
        return Run(
            *(name, recipe, data, treatment, label, seed, model_name, start, donated),
            units=units,
            alignments=alignments,
        )

    def _data(self, target: str, how: TreatmentSpec, model: ModelSpec) -> tuple[Data, ...]:
        """What a treatment trains on: the target, or a part of it, and the corpora beside it.

        Where the target is among these, they are what is trained on, in their order: the same run serves all of them.
        """
        if target in how.corpora:
            return tuple(manifest_of(corpus, model, self.config) for corpus in how.corpora)
        own = manifest_of(target, model, self.config)
        first: Data = Part(how.part, own, self.config.parts[how.part]) if how.part else own
        return (first, *(manifest_of(corpus, model, self.config) for corpus in how.corpora))

    def _source(self) -> Run | Checkpoint | None:
        source, config = self.spec.source, self.config
        if source is None:
            return None
        model = config.models[source.model]
        if source.checkpoint is not None:
            checkpoint = config.checkpoints[source.checkpoint]
            alphabet = config.languages[checkpoint.language].alphabet
            return Checkpoint(source.checkpoint, checkpoint, model, alphabet, contents.of_checkpoint(checkpoint))
        assert source.corpus is not None  # the schema wants one of the two
        assert source.recipe is not None
        return scratch_run(source.corpus, source.model, source.recipe, source.seed, config, SOURCE, self.spec)


def alignments_of(
    spec: TreatmentsSpec, recipe: RecipeSpec, config: Config, data: Iterable[Data]
) -> tuple[Alignment, ...]:
    """What a recipe of a study wants to learn of each corpus; nothing where it learns text."""
    if not isinstance(recipe.task, FramesSpec):
        return ()
    assert spec.alignment is not None  # see planning/checks.py
    own, usual = spec.corpus_alignments, spec.alignment
    return tuple(alignment_of(config, own.get(one.manifest.corpus.name, usual), one) for one in data)


def _letters(data: Data, alignments: Sequence[Alignment]) -> str:
    """The alphabet of a head; of one that learns states, nothing: its alignment says what they are."""
    return "" if alignments else data.manifest.text.alphabet


def scratch_run(
    corpus: str,
    model: str,
    recipe: str,
    seed: int,
    config: Config,
    treatment: str = SCRATCH,
    spec: TreatmentsSpec | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Run:
    """The plainest run: a model trained on a corpus from scratch; `spec` says whose states it learns, if it does.

    `changes`: in the recipe.
    """
    manifest = manifest_of(corpus, config.models[model], config)
    way = RecipeSpec.model_validate({**config.recipes[recipe].model_dump(), **(changes or {})})
    units = counted_units(way, manifest)
    alignments = alignments_of(spec, way, config, [manifest]) if spec else ()
    what = RunRecipe(
        version=TRAIN_VERSION,
        model=config.models[model],
        alphabet=_letters(manifest, alignments),
        corpora=(manifest.hash,),
        recipe=unplaced(way),
        seed=seed,
        units=units.hash if units else "",
        alignments=tuple(one.hash for one in alignments),
    )
    name = f"{corpus}-{model}-{treatment}-s{seed}"
    return Run(name, what, (manifest,), treatment, treatment, seed, model, units=units, alignments=alignments)


def counted_units(recipe: RecipeSpec, manifest: Manifest) -> CountedUnits | None:
    """The words or byte pairs that a recipe wants of its target; None where its classes are characters."""
    spec = recipe.units
    if isinstance(spec, CharacterUnits):
        return None
    return CountedUnits(spec, manifest, contents.of_file(spec.file) if isinstance(spec, WordUnits) else "")


def unplaced(recipe: RecipeSpec) -> RecipeSpec:
    """A recipe without the path of the user's vocabulary: what it holds is part of the units' identity."""
    if not isinstance(recipe.units, WordUnits) or not recipe.units.file:
        return recipe
    return recipe.model_copy(update={"units": recipe.units.model_copy(update={"file": ""})})


def manifest_of(corpus: str, model: ModelSpec, config: Config) -> Manifest:
    """The manifest of a corpus for a kind of model."""
    spec = config.corpora[corpus]
    content = contents.of_source(spec.source, spec.language)
    return Manifest(Corpus(corpus, spec, content), config.languages[spec.language], model)


def model_of(how: TreatmentSpec, spec: TreatmentsSpec, config: Config) -> str:
    """The name of a treatment's model: its own, that of the treatment it starts from, the study's."""
    if how.model:
        return how.model
    place = origin(how.start)
    if place is None or place.treatment == SOURCE:
        return spec.model
    return model_of(config.treatments[place.treatment], spec, config)


def recipe_of(how: TreatmentSpec, target: str, spec: TreatmentsSpec, config: Config) -> dict[str, Any]:
    """The study's recipe, changed by the target, then by the treatment; one run for several targets has none."""
    whole = whole_name(target, config.corpora[target])
    own = {} if target in how.corpora else spec.target_recipes.get(whole, {})
    return {**config.recipes[spec.recipe].model_dump(), **own, **how.recipe}


def unused_draw(seed: int, reset: Iterable[str], origins: Iterable[Run | Checkpoint | None]) -> int:
    """Which draw of first weights reset layers take: the lowest that none of the runs before this one took for them.

    First weights are a function of seed, layer and draw. Without this, a layer that is reset in a run with its donor's
    seed would get the donor's own first weights back, and where it has another size, weights drawn from the same
    numbers: the rows of a new output layer had a cosine of 0.80 with the donor's trained rows of the same classes.
    """
    wanted = set(reset)
    taken: set[int] = set()
    for before in (one for place in origins if place for one in with_origins(place)):
        if isinstance(before, Run) and before.recipe.seed == seed and wanted & drawn_layers(before.recipe):
            taken.add(before.recipe.draw)
    return next(draw for draw in range(len(taken) + 1) if draw not in taken)


def drawn_layers(recipe: RunRecipe) -> set[str]:
    """The layers whose first weights were drawn in a run."""
    return set(recipe.reset if recipe.start != SCRATCH else layer_names(recipe.model, recipe.heads))
