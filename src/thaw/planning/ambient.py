"""What a config says of an ambient study, and the runs and probes that it unrolls to.

Models are trained on one corpus from scratch; then each of their layers is reset in turn, without training. All resets
of a run, also those at earlier snapshots, are one job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from thaw.config.conformer import ConformerSpec
from thaw.config.models import layer_names, misfit
from thaw.config.numbers import Int
from thaw.config.probes import LoadSpec, ProbeSpec, ResetSpec
from thaw.config.schema import RecipeSpec, StudySpec
from thaw.config.sources import Name, OwnSource, Split
from thaw.config.starts import BEST, FIRST, SOURCE, Snapshot
from thaw.config.strict import Strict
from thaw.errors import suggestion
from thaw.planning.artifacts import Probe, Run
from thaw.planning.grid import scratch_run
from thaw.planning.plan import Study, decodes
from thaw.planning.rounds import PREFIX, Base, Federation, FederationSpec, check_federation, plan_federation

if TYPE_CHECKING:
    from thaw.config.config import Config

PROBE = "layers"  # the name of the job of probes
BLOCKS = "block_"  # what the names of layers with modules begin with
Seeds = Annotated[tuple[Int, ...], Field(max_length=1000)]


class ProbedSpec(Strict):
    """One model, trained with some seeds, and what is reset in it beside each of its layers."""

    model: Name
    label: str = ""  # as tables print it; the entry's name where empty
    recipe: dict[str, Any] = {}  # what it changes in the study's recipe
    seeds: Seeds = ()  # instead of the study's
    steps: tuple[Snapshot, ...] = ()  # layers are drawn anew at these snapshots too
    modules: tuple[str, ...] = ()  # of each block, each of these is reset alone too: conv, ff1.w1
    buffers: bool = False  # layers are drawn anew without their norms' statistics too


class AmbientSpec(StudySpec):
    """Models on one corpus, each layer of each reset in turn."""

    corpus: Name
    recipe: Name
    models: Annotated[dict[Name, ProbedSpec], Field(min_length=1)]
    seeds: Annotated[Seeds, Field(min_length=1)] = (1,)
    draws: Annotated[Seeds, Field(min_length=1)] = (101,)  # seeds of the fresh draws; none may be a training's
    decoders: tuple[Name, ...] = ()  # decoded with, beside the greedy ones of the probes
    split: Split = "test"  # that is decoded and probed
    federated: FederationSpec | None = None  # one of the models goes on as a federation of other speakers


# --- runs -----------------------------------------------------------------------------------------


def plan(name: str, spec: AmbientSpec, config: Config) -> Study:
    """The runs, decodes and probes of a study, in the order its tables show them. The config has passed `check`."""
    runs = trained(spec, config)
    decoded = [decode for run in runs.values() for decode in decodes(run, spec.decoders, config, spec.split)]
    probes = {key: probe(spec, key[0], run) for key, run in runs.items()}
    more, baseline = Federation((), ()), ""
    if spec.federated:
        bases = {seed: Base(run, probes[key, seed]) for (key, seed), run in runs.items() if key == spec.federated.model}
        more = plan_federation(spec.federated, config, bases)
        baseline = f"{PREFIX}{spec.federated.baseline}"
    every = (*runs.values(), *more.runs)
    return Study(name, spec, every, (*decoded, *more.decodes), tuple(probes.values()), baseline=baseline)


def trained(spec: AmbientSpec, config: Config) -> dict[tuple[str, int], Run]:
    """(model, seed) -> its run."""
    pairs = [(key, seed) for key, one in spec.models.items() for seed in one.seeds or spec.seeds]
    return {(key, seed): run_of(spec, key, seed, config) for key, seed in pairs}


def run_of(spec: AmbientSpec, key: str, seed: int, config: Config) -> Run:
    """A model trained from scratch. It is called as where other studies start from it, so that it is trained once."""
    one = spec.models[key]
    run = scratch_run(spec.corpus, one.model, spec.recipe, seed, config, SOURCE, changes=one.recipe)
    return replace(run, treatment=key, label=one.label or key)


def changed(spec: AmbientSpec, one: ProbedSpec, config: Config) -> dict[str, Any]:
    """The study's recipe as a model changes it."""
    return {**config.recipes[spec.recipe].model_dump(), **one.recipe}


# --- probes ---------------------------------------------------------------------------------------


def probe(spec: AmbientSpec, key: str, run: Run) -> Probe:
    """All resets of a run, as one job. Churn is taken wherever weights are kept."""
    layers = layer_names(run.recipe.model, run.recipe.heads)
    operations = dict(resets(layers, spec.models[key], spec.draws))
    at = tuple(dict.fromkeys((*run.recipe.recipe.snapshots, BEST)))
    churn = tuple(snapshot for snapshot in at if snapshot != FIRST) if FIRST in at else ()
    return Probe(run, PROBE, ProbeSpec(splits=(spec.split,), operations=operations, churn=churn))


def resets(
    layers: tuple[str, ...], one: ProbedSpec, draws: Iterable[int]
) -> Iterator[tuple[str, tuple[ResetSpec | LoadSpec, ...]]]:
    """The operations of a model by name. A run as it is, is "none"; at another snapshot, SNAPSHOT-none."""
    draws = tuple(draws)
    yield "none", ()
    for layer in layers:
        yield f"{layer}-first", (ResetSpec(reset=(layer,), to="first"),)
        for draw in draws:
            yield f"{layer}-draw-{draw}", (ResetSpec(reset=(layer,), seed=draw),)
            if one.buffers:
                yield f"{layer}-draw-{draw}-weights", (ResetSpec(reset=(layer,), seed=draw, buffers=False),)
    for layer in (layer for layer in layers if layer.startswith(BLOCKS)):
        for module in one.modules:
            yield f"{layer}-{module}-first", (ResetSpec(reset=(layer,), to="first", modules=(module,)),)
            yield f"{layer}-{module}-draw-{draws[0]}", (ResetSpec(reset=(layer,), seed=draws[0], modules=(module,)),)
    for step in one.steps:
        load = LoadSpec(load=layers, snapshot=step)
        yield f"{step}-none", (load,)
        for layer in layers:
            yield f"{step}-{layer}-draw-{draws[0]}", (load, ResetSpec(reset=(layer,), seed=draws[0]))


# --- mistakes -------------------------------------------------------------------------------------


def check(name: str, spec: AmbientSpec, config: Config) -> Iterator[str]:
    """One line for each mistake that the schema cannot see."""
    where = f"studies.{name}"
    tables: list[tuple[str, Iterable[str], Mapping[str, Any]]] = [
        ("corpus", [spec.corpus], config.corpora),
        ("recipe", [spec.recipe], config.recipes),
        ("decoders", spec.decoders, config.decoders),
        *((f"models.{key}.model", [one.model], config.models) for key, one in spec.models.items()),
        ("style", spec.style, spec.models),
    ]
    missing = [
        f"{where}.{key}: {wanted!r} is not there; {suggestion(wanted, table)}"
        for key, names, table in tables
        for wanted in names
        if wanted not in table
    ]
    yield from missing
    if missing:
        return
    source = config.corpora[spec.corpus].source
    if isinstance(source, OwnSource) and source.folds:
        yield f"{where}.corpus: {spec.corpus!r} has folds, and a model is trained once; name one without"
    for key, one in spec.models.items():
        yield from _model(f"{where}.models.{key}", spec, one, config)
    if spec.federated:
        seeds = {key: one.seeds or spec.seeds for key, one in spec.models.items()}
        language = config.corpora[spec.corpus].language
        yield from check_federation(f"{where}.federated", spec.federated, seeds, language, config)


def _model(where: str, spec: AmbientSpec, one: ProbedSpec, config: Config) -> Iterator[str]:
    """The mistakes of one model: its recipe, its seeds, snapshots that are not kept, modules that there are not."""
    try:
        recipe = RecipeSpec.model_validate(changed(spec, one, config))
    except ValidationError as error:
        for problem in error.errors():
            yield f"{where}.recipe.{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        return
    seeds = one.seeds or spec.seeds
    if both := sorted({*seeds} & {*spec.draws}):
        yield f"{where}: seed {both[0]} is among the study's draws: a fresh draw would be the first weights again"
    for values, key in ((seeds, "seeds"), (spec.draws, "draws"), (one.steps, "steps"), (one.modules, "modules")):
        if doubles := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
            yield f"{where}.{key}: {doubles[0]} is given twice"
    for step in one.steps:
        if step not in recipe.snapshots or step == BEST:
            kept = ", ".join(snapshot for snapshot in recipe.snapshots if snapshot != BEST) or "none"
            yield f"{where}.steps: {step} is no snapshot beside the best that the recipe keeps; it keeps {kept}"
    model = config.models[one.model]
    if wrong := misfit(model, recipe.task):
        yield f"{where}: {wrong}"
    if isinstance(model, ConformerSpec):
        for name in spec.decoders if model.head == "rnnt" else ():
            if config.decoders[name].kind != "greedy":
                yield f"{where}: a transducer is decoded greedily, not by {name}"
        for module in one.modules:
            if module.split(".")[0] not in model.module_names:
                yield f"{where}.modules: {module!r} is not in a block; {suggestion(module, model.module_names)}"
