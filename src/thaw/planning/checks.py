"""Mistakes in a grid of runs that only the whole config shows: names, chains of starts, layers, letters, recipes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from thaw.config.decoders import JointSpec
from thaw.config.layers import WORDS, named_layers
from thaw.config.models import head_names, heads_beside, layer_names, misfit, places
from thaw.config.schema import RecipeSpec, TreatmentSpec
from thaw.config.sources import OwnSource
from thaw.config.starts import BEST, SOURCE, origin
from thaw.errors import suggestion
from thaw.planning import hybrids
from thaw.planning.grid import TreatmentsSpec, model_of, recipe_of
from thaw.planning.text_checks import check_text

if TYPE_CHECKING:
    from thaw.config.config import Config

Stack = tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, ...], ...]]

MOST_RUNS = 20_000  # of one study


def check(name: str, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    """One line for each mistake in a grid that the schema cannot see."""
    where = f"studies.{name}"
    missing = list(_names(where, spec, config))
    yield from missing
    named = [] if missing else [*spec.targets, *_given(spec.source.corpus if spec.source else None)]
    if missing or any(config.corpora[corpus].language not in config.languages for corpus in named):
        return
    yield from _learnt(where, spec.model, spec.recipe, config)
    if spec.probes and config.recipes[spec.recipe].task.kind == "language-model":
        yield f"{where}.probes: they judge what is heard, and a language-model hears nothing; leave them out"
    for name_of in spec.decoders:
        decoder = config.decoders[name_of]
        if isinstance(decoder, JointSpec) and decoder.ctc_weight < 1 and heads_beside(config.models[spec.model]) < 2:
            yield f"{where}.decoders: {name_of!r} needs a model with a decoder, which models.{spec.model} is not"
    yield from _source(where, spec, config)
    yield from hybrids.check(where, spec, config)
    recipe = config.recipes[spec.recipe].model_dump()
    for target, changes in spec.target_recipes.items():
        yield from _recipe_lines(f"{where}.target_recipes.{target}", {**recipe, **changes})
    seen: set[str] = set()
    for treatment in spec.treatments:
        yield from _chain(treatment, (), seen, where, spec, config)


def _learnt(where: str, model: str, recipe: str, config: Config) -> Iterator[str]:
    """A model learns the task that its heads are for."""
    if problem := misfit(config.models[model], config.recipes[recipe].task):
        yield f"{where}: models.{model} does not fit recipes.{recipe}: {problem}"


def _source(where: str, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    """The mistakes of what all start from, where there is such a thing."""
    source = spec.source
    if source is None:
        return
    if source.model != spec.model and config.models[source.model] != config.models[spec.model]:
        yield f"{where}.source.model: {source.model!r} is not {spec.model!r}: its weights do not fit"
    corpus = config.corpora.get(source.corpus or "")
    if corpus and isinstance(corpus.source, OwnSource) and corpus.source.folds:
        yield f"{where}.source.corpus: {source.corpus!r} has folds, and a source is trained once; name one without"
    if source.recipe:
        yield from _learnt(f"{where}.source", source.model, source.recipe, config)


def _names(where: str, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    """Names that mean nothing, or stand twice."""
    source = spec.source
    tables: list[tuple[str, Iterable[str], Mapping[str, Any]]] = [
        ("source.corpus", _given(source.corpus if source else None), config.corpora),
        ("source.model", _given(source.model if source else None), config.models),
        ("source.recipe", _given(source.recipe if source else None), config.recipes),
        ("source.checkpoint", _given(source.checkpoint if source else None), config.checkpoints),
        ("targets", spec.targets, config.corpora),
        ("model", [spec.model], config.models),
        ("recipe", [spec.recipe], config.recipes),
        ("treatments", spec.treatments, config.treatments),
        ("baseline", [spec.baseline], dict.fromkeys(spec.treatments)),
        ("reference", _given(spec.reference), dict.fromkeys(spec.treatments)),
        ("decoders", spec.decoders, config.decoders),
        ("style", spec.style, dict.fromkeys(spec.treatments)),
        ("target_recipes", spec.target_recipes, dict.fromkeys(spec.targets)),
    ]
    for key, names, table in tables:
        names = list(names)
        for wanted in names:
            if wanted not in table:
                yield f"{where}.{key}: {wanted!r} is not there; {suggestion(wanted, table)}"
        yield from _doubles(f"{where}.{key}", names)
    for seed in sorted({seed for seed in spec.seeds if spec.seeds.count(seed) > 1}):
        yield f"{where}.seeds: {seed} is given twice; the same training again says nothing of what chance does"
    runs = len(spec.targets) * len(spec.treatments) * len(spec.seeds)
    if runs > MOST_RUNS:
        yield f"{where}: targets × treatments × seeds are {runs:,} trainings; at most {MOST_RUNS:,}"


def _doubles(where: str, values: Iterable[object]) -> Iterator[str]:
    values = list(values)
    for double in dict.fromkeys(value for value in values if values.count(value) > 1):
        yield f"{where}: {double!r} is given twice"


def _given(name: str | None) -> list[str]:
    return [name] if name is not None else []


def _chain(
    treatment: str, trail: tuple[str, ...], seen: set[str], where: str, spec: TreatmentsSpec, config: Config
) -> Iterator[str]:
    """The mistakes of a treatment and of all that it starts from; a circle of starts is one."""
    if treatment in trail:
        circle = " → ".join((*trail[trail.index(treatment) :], treatment))
        yield f"treatments.{treatment}.start: a circle of starts: {circle}"
        return
    if treatment in seen:
        return
    how = config.treatments[treatment]
    sound = True
    for key, text in (("start", how.start), *((f"load.{layers}", text) for layers, text in how.load.items())):
        place = origin(text)
        if place is None:
            continue
        if place.treatment == SOURCE:
            if spec.source is None:
                sound = False
                yield f"treatments.{treatment}.{key}: {where} has no source run to start from; name a treatment"
            continue
        if place.treatment not in config.treatments:
            sound = False
            allowed = suggestion(place.treatment, (*config.treatments, SOURCE))
            yield f"treatments.{treatment}.{key}: {place.treatment!r} is no treatment; {allowed}"
            continue
        for line in _chain(place.treatment, (*trail, treatment), seen, where, spec, config):
            sound = False
            yield line
    seen.add(treatment)
    if sound:
        yield from _treatment(treatment, how, where, spec, config)


def _treatment(name: str, how: TreatmentSpec, where: str, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    """The mistakes of one treatment whose starts are there."""
    here = f"treatments.{name}"
    tables: list[tuple[str, Iterable[str], Mapping[str, Any]]] = [
        ("model", _given(how.model), config.models),
        ("alphabet", _given(how.alphabet), config.languages),
        ("part", _given(how.part), config.parts),
        ("corpora", how.corpora, config.corpora),
    ]
    lines = [
        f"{here}.{key}: {wanted!r} is not there; {suggestion(wanted, table)}"
        for key, names, table in tables
        for wanted in names
        if wanted not in table
    ]
    yield from lines
    if lines:
        return
    lines = list(_layers(here, how, where, spec, config))
    yield from lines
    if not lines and hybrids.learns_frames(spec, config):
        yield from hybrids.check_treatment(here, how, model_of(how, spec, config), spec, config)
    elif not lines:
        yield from _alphabets(here, name, how, spec, config)
    yield from hybrids.check_together(here, how, spec, config)
    recipe = config.recipes[spec.recipe].model_dump()
    lines = list(_recipe_lines(f"{here}.recipe", {**recipe, **how.recipe}))
    yield from lines
    if not lines:
        whole = RecipeSpec.model_validate({**recipe, **how.recipe})
        yield from check_text(here, how, whole, (*spec.targets, *how.corpora), spec.decoders, config)
    if not lines and (how.model or how.corpora or "task" in how.recipe):  # else it is what the study's model learns
        changed = RecipeSpec.model_validate({**recipe, **how.recipe})
        if problem := misfit(config.models[model_of(how, spec, config)], changed.task, how.corpora):
            yield f"{here}: {problem}"
    for target, changes in spec.target_recipes.items() if how.recipe else ():
        both = f"{here}.recipe, after {where}.target_recipes.{target}"
        yield from _recipe_lines(both, {**recipe, **changes, **how.recipe})
    yield from _snapshots(here, how, spec, config)
    if how.optimizer_state == "transferred":
        yield from _optimizer(f"{here}.optimizer_state", how, spec, config)


def _stack(how: TreatmentSpec, spec: TreatmentsSpec, config: Config) -> Stack:
    """The layers of a treatment's model; its heads, one for each language where it has several; what shares a place."""
    model = config.models[model_of(how, spec, config)]
    corpora = (spec.targets[0], *how.corpora) if how.corpora else ()
    languages = {config.corpora[corpus].language for corpus in corpora}
    return layer_names(model, languages), head_names(model, languages), places(model, languages)


def _layers(here: str, how: TreatmentSpec, where: str, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    model_name = model_of(how, spec, config)
    stack = layers, heads, _ = _stack(how, spec, config)
    chosen: dict[str, tuple[str, ...]] = {}
    for key, references in (("reset", how.reset), ("freeze", how.freeze), ("load", tuple(how.load))):
        try:
            chosen[key] = named_layers(references, *stack)
        except KeyError as error:
            known = suggestion(str(error.args[0]), (*layers, *WORDS))
            yield f"{here}.{key}: {model_name} (of {where}) has no layer {error.args[0]!r}; {known}"
            chosen[key] = ()
    for key in ("freeze", "load"):
        if both := [layer for layer in chosen["reset"] if layer in chosen[key]]:
            word = {"freeze": "frozen", "load": "loaded"}[key]
            yield f"{here}: layers of {model_name} both reset and {word}: {', '.join(both)}"
    if len(chosen["freeze"]) == len(layers):
        yield f"{here}.freeze: all layers are frozen, nothing is left to train"
    if origin(how.start) is None and (lacking := [one for one in chosen["freeze"] if one not in chosen["load"]]):
        yield f"{here}.freeze: nothing was ever learnt in {', '.join(lacking)}: from scratch, load them first"
    for key, named in chosen.items():
        for group in getattr(config.models[model_name], "tied", ()):
            if (alone := sorted(set(named) & set(group))) and len(alone) < len(group):
                yield f"{here}.{key}: {', '.join(group)} share their weights: name all of them, not {alone[0]} alone"
    if how.output_rows == "shared" and not set(heads) <= set(chosen["reset"]):
        yield f"{here}.output_rows: shared: reset {', '.join(heads)} (or output), whose rows these are"
    place = origin(how.start)
    if place and place.treatment != SOURCE:
        theirs = model_of(config.treatments[place.treatment], spec, config)
        if config.models[theirs] != config.models[model_name]:
            yield f"{here}.start: {place.treatment} has the model {theirs!r}, not {model_name!r}"
    for wanted, text in how.load.items():
        yield from _loaded(here, wanted, text, stack, spec, config)


def _loaded(here: str, wanted: str, text: str, stack: Stack, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    """A layer may come from a run of another model, if that has a layer of its name; sizes are looked at on loading."""
    place = origin(text)
    if place is None or place.treatment == SOURCE:
        return
    try:
        names = named_layers([wanted], *stack)
    except KeyError:  # said already
        return
    before = config.treatments[place.treatment]
    theirs, *_ = _stack(before, spec, config)
    if lacking := [name for name in names if name not in theirs]:
        model = model_of(before, spec, config)
        yield f"{here}.load: {place.treatment} has the model {model!r}, without {', '.join(lacking)}"


def _snapshots(here: str, how: TreatmentSpec, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    """A snapshot that something starts from must be one that its run keeps."""
    for key, text in (("start", how.start), *((f"load.{layers}", text) for layers, text in how.load.items())):
        place = origin(text)
        if place is None or place.snapshot == BEST:
            continue
        if place.treatment == SOURCE and (spec.source is None or spec.source.recipe is None):
            yield f"{here}.{key}: a checkpoint holds no {place.snapshot}, only {BEST}"
            continue
        if place.treatment == SOURCE:
            assert spec.source is not None
            recipes = [config.recipes[spec.source.recipe or ""].model_dump()]
        else:
            before = config.treatments[place.treatment]
            recipes = [recipe_of(before, target, spec, config) for target in spec.targets]
        yield from dict.fromkeys(
            f"{here}.{key}: {place.treatment} does not keep {place.snapshot}; add it to `snapshots` in its recipe"
            for recipe in recipes
            if place.snapshot not in recipe["snapshots"]
        )


def _alphabets(here: str, name: str, how: TreatmentSpec, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    """An output layer has a class for every character of its target, and means the same letters as where it is from."""
    stack = _, heads, _ = _stack(how, spec, config)
    loaded = {one: text for key, text in how.load.items() for one in named_layers([key], *stack)}
    kept = [head for head in heads if head not in named_layers(how.reset, *stack)]
    place = origin(loaded.get(kept[0], how.start)) if kept else None
    theirs = () if place is None or place.treatment == SOURCE else config.treatments[place.treatment].corpora
    others = []
    for target in spec.targets:
        own = _alphabet(name, target, spec, config)
        lacks = sorted(set(config.languages[config.corpora[target].language].alphabet) - set(own))
        if lacks:
            yield f"{here}.alphabet: {how.alphabet!r} lacks characters of {target}: {''.join(lacks)!r}"
        if place and (theirs != how.corpora or _alphabet(place.treatment, target, spec, config) != own):
            others.append(target)
    if place and others:
        yield (
            f"{here}: {kept[0]} comes from {place.treatment}, with other letters than those of {', '.join(others)}: "
            f"reset it ({kept[0]} or output), or give the alphabet that it has (alphabet)"
        )


def _alphabet(treatment: str, target: str, spec: TreatmentsSpec, config: Config) -> str:
    """The alphabet of the output layer of a treatment on a target, or of the source."""
    source = spec.source
    if treatment == SOURCE and source is not None:
        language = config.checkpoints[source.checkpoint].language if source.checkpoint else (
            config.corpora[source.corpus or ""].language
        )  # fmt: skip
        return config.languages[language].alphabet
    named = config.treatments[treatment].alphabet
    return config.languages[named or config.corpora[target].language].alphabet


def _optimizer(where: str, how: TreatmentSpec, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    """An optimiser's state can be taken over only where there is one, and by the same optimiser."""
    place = origin(how.start)
    assert place is not None  # the schema wants a start
    ours = how.recipe.get("optimizer", config.recipes[spec.recipe].optimizer)
    if place.treatment != SOURCE:
        before = config.treatments[place.treatment]
        theirs = before.recipe.get("optimizer", config.recipes[spec.recipe].optimizer)
    elif spec.source is not None and spec.source.recipe is not None:
        theirs = config.recipes[spec.source.recipe].optimizer
    else:
        checkpoint = config.checkpoints[(spec.source.checkpoint if spec.source else None) or ""]
        theirs = "adam-tf" if checkpoint.kind == "deepspeech-tf" else ""
        if not theirs:
            yield f"{where}: a checkpoint of kind {checkpoint.kind} holds none; set fresh"
            return
    if theirs != ours:
        yield f"{where}: the source was trained with {theirs}, this with {ours}; set fresh"


def _recipe_lines(where: str, recipe: dict[str, Any]) -> Iterator[str]:
    """A recipe with changes must still be one."""
    try:
        RecipeSpec.model_validate(recipe)
    except ValidationError as error:
        for item in error.errors():
            key = ".".join([where, *map(str, item["loc"])])
            message = item["msg"].removeprefix("Value error, ")
            unknown = item["type"] == "extra_forbidden"
            yield f"{key}: {suggestion(str(item['loc'][-1]), RecipeSpec.model_fields) if unknown else message}"
