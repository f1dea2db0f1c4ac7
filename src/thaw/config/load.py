"""Checking configs; every error says where it is and what is allowed there."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from thaw.config.layers import WORDS, named_layers
from thaw.config.reading import merged as merged  # these names are for others too
from thaw.config.reading import read_yaml as read_yaml
from thaw.config.reading import unsound
from thaw.config.reading import with_includes as with_includes
from thaw.config.schema import BeamSpec, CheckpointSpec, Config, CorpusSpec, RecipeSpec, StudySpec, TreatmentSpec
from thaw.config.sources import OwnSource, Source, UnionSource
from thaw.errors import UserError, on_one_line

MOST_LINES = 20
MOST_RUNS = 20_000  # of one study


def validate(raw: Mapping[str, Any]) -> Config:
    """A checked Config. Raises UserError with one line per mistake: where, what, what is allowed."""
    whole = with_includes(raw)
    if problems := list(dict.fromkeys(unsound(whole))):
        raise _mistakes(problems)
    try:
        config = Config.model_validate(whole)
    except ValidationError as error:
        raise _mistakes(sorted(set(_lines(error)))) from error
    problems = list(dict.fromkeys(_cross_checks(config)))  # two studies may share a mistaken treatment
    if problems:
        raise _mistakes(problems)
    return config


def _mistakes(problems: Sequence[str]) -> UserError:
    """One line for each, but no more than anybody reads."""
    lines = [f"config: {on_one_line(problem)}" for problem in problems[:MOST_LINES]]
    more = len(problems) - len(lines)
    return UserError("\n".join([*lines, f"config: and {more} more mistakes"] if more else lines))


def load(paths: Iterable[Path], over: Mapping[str, Any] | None = None) -> Config:
    """The config of one or more files, later ones winning; then `over`, what a command line says instead."""
    raw: dict[str, Any] = {}
    for path in paths:
        raw = merged(raw, read_yaml(path))
    return validate(merged(raw, over or {}))


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """What is allowed where `name` was not, the nearest spelling first."""
    allowed = list(allowed)
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(allowed)}"


def _lines(error: ValidationError) -> Iterable[str]:
    for item in error.errors():
        # Discriminated unions add the tag to the location: corpora.german.source.synthetic.voice; it reads well enough.
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            key = str(item["loc"][-1])
            yield f"{where}: unknown key; {suggestion(key, _keys_at(item['loc'][:-1]))}"
        elif item["type"] == "missing":
            yield f"{where}: missing"
        else:
            message = item["msg"].removeprefix("Value error, ")
            value = item.get("input")
            shown = f" (given: {value!r:.80})" if isinstance(value, str | int | float | bool) else ""
            yield f"{where}: {message}{shown}"


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that a config may have at a location, found by walking the schema along it."""
    schema = _json_schema()
    node: dict[str, Any] = schema
    for part in location:
        node = _resolved(schema, node)
        if "discriminator" in node:
            if part not in node["discriminator"]["mapping"]:
                return []
            node = {"$ref": node["discriminator"]["mapping"][part]}
        elif "properties" in node and part in node["properties"]:
            node = node["properties"][part]
        elif isinstance(node.get("additionalProperties"), dict):
            node = node["additionalProperties"]
        elif "patternProperties" in node:
            node = next(iter(node["patternProperties"].values()))
    return list(_resolved(schema, node).get("properties", {}))


@functools.cache
def _json_schema() -> dict[str, Any]:
    return Config.model_json_schema()


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node or "anyOf" in node:
        node = node["anyOf"][0] if "anyOf" in node else schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def _cross_checks(config: Config) -> Iterable[str]:
    for name, corpus in config.corpora.items():
        yield from _corpus_checks(name, corpus, config)
    for name, checkpoint in config.checkpoints.items():
        yield from _checkpoint_checks(name, checkpoint, config)
    for name, decoder in config.decoders.items():
        text = decoder.language_model.extra_text if isinstance(decoder, BeamSpec) else ""
        if text:
            yield from _file_checks(f"decoders.{name}.language_model.extra_text", text, "file")
    for name, study in config.studies.items():
        yield from _study_checks(name, study, config)


def _corpus_checks(name: str, corpus: CorpusSpec, config: Config) -> Iterable[str]:
    where = f"corpora.{name}"
    if corpus.language not in config.languages:
        yield f"{where}.language: {corpus.language!r} is not there; {suggestion(corpus.language, config.languages)}"
    yield from _source_checks(f"{where}.source", corpus.source)
    if corpus.audio.min_seconds >= corpus.audio.max_seconds:
        yield f"{where}.audio: min_seconds is not below max_seconds"


def _source_checks(where: str, source: Source) -> Iterable[str]:
    """The files that a source names; those within a release are its reader's business."""
    if isinstance(source, UnionSource):
        for name, part in source.parts.items():
            yield from _source_checks(f"{where}.parts.{name}", part)
        return
    named = {"path": getattr(source, "path", ""), "audio": getattr(source, "audio", "")}
    if isinstance(source, OwnSource):
        named |= {f"splits.{split}": path for split, path in source.splits.items()}
    for key, path in named.items():
        if path:
            yield from _file_checks(f"{where}.{key}", path, "file or folder")


def _file_checks(where: str, path: str, what: str) -> Iterable[str]:
    """A file of the user's must be there, under a name that Snakemake can say."""
    if not _exists(path):
        yield f"{where}: {path}: no such {what}"
    elif "{" in path or "}" in path:
        yield f"{where}: {path}: Snakemake takes braces in the name of a file for a wildcard; rename it"


def _exists(path: str | Path) -> bool:
    """Whether there is such a file or folder, also where the name is one that no file can have."""
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, or ~ of nobody
        return False


def _checkpoint_checks(name: str, checkpoint: CheckpointSpec, config: Config) -> Iterable[str]:
    where = f"checkpoints.{name}"
    if checkpoint.language not in config.languages:
        allowed = suggestion(checkpoint.language, config.languages)
        yield f"{where}.language: {checkpoint.language!r} is not there; {allowed}"
    path = checkpoint.path
    if not path.strip("./") or not (_exists(path) or _exists(f"{path}.index")):
        yield f"{where}.path: {path}: no such checkpoint; download it, or name where it is"
    else:
        yield from _file_checks(f"{where}.path", path if _exists(path) else f"{path}.index", "checkpoint")


def _study_checks(name: str, study: StudySpec, config: Config) -> Iterable[str]:
    where = f"studies.{name}"
    tables: list[tuple[str, Iterable[str], Mapping[str, Any]]] = [
        ("source.corpus", _given(study.source.corpus), config.corpora),
        ("source.model", [study.source.model], config.models),
        ("source.recipe", _given(study.source.recipe), config.recipes),
        ("source.checkpoint", _given(study.source.checkpoint), config.checkpoints),
        ("targets", study.targets, config.corpora),
        ("model", [study.model], config.models),
        ("recipe", [study.recipe], config.recipes),
        ("treatments", study.treatments, config.treatments),
        ("baseline", [study.baseline], dict.fromkeys(study.treatments)),
        ("reference", _given(study.reference), dict.fromkeys(study.treatments)),
        ("decoders", study.decoders, config.decoders),
        ("style", study.style, dict.fromkeys(study.treatments)),
        ("target_recipes", study.target_recipes, dict.fromkeys(study.targets)),
    ]
    missing = False
    for key, names, table in tables:
        for wanted in names:
            if wanted not in table:
                missing = True
                yield f"{where}.{key}: {wanted!r} is not there; {suggestion(wanted, table)}"
        names = list(names)
        for double in sorted({wanted for wanted in names if names.count(wanted) > 1}):
            yield f"{where}.{key}: {double!r} is given twice"
    for seed in sorted({seed for seed in study.seeds if study.seeds.count(seed) > 1}):
        yield f"{where}.seeds: {seed} is given twice; the same training again says nothing of what chance does"
    runs = len(study.targets) * len(study.treatments) * len(study.seeds)
    if runs > MOST_RUNS:
        yield f"{where}: targets × treatments × seeds are {runs:,} trainings; at most {MOST_RUNS:,}"
    if not missing:
        yield from _treatment_checks(where, study, config)


def _given(name: str | None) -> list[str]:
    return [name] if name is not None else []


def _treatment_checks(where: str, study: StudySpec, config: Config) -> Iterable[str]:
    layers = config.models[study.model].layer_names
    recipe = config.recipes[study.recipe].model_dump()
    if study.source.model != study.model and config.models[study.source.model] != config.models[study.model]:
        yield f"{where}.source.model: {study.source.model!r} is not {study.model!r}: its weights do not fit"
    for target, changes in study.target_recipes.items():
        yield from _recipe_checks(f"{where}.target_recipes.{target}", {**recipe, **changes})
    for name in study.treatments:
        treatment = config.treatments[name]
        chosen = {key: _layer_names(getattr(treatment, key), layers) for key in ("reset", "freeze")}
        for key, found in chosen.items():
            if isinstance(found, str):
                yield (
                    f"treatments.{name}.{key}: {study.model} (of {where}) has no layer {found!r}; "
                    f"{suggestion(found, (*layers, *WORDS))}"
                )
        reset, freeze = ([] if isinstance(found, str) else found for found in chosen.values())
        if both := [layer for layer in reset if layer in freeze]:
            yield f"treatments.{name}: layers of {study.model} both reset and frozen: {', '.join(both)}"
        if len(freeze) == len(layers):
            yield f"treatments.{name}.freeze: all layers are frozen, nothing is left to train"
        if treatment.output_rows == "shared" and layers[-1] not in reset:
            yield f"treatments.{name}.output_rows: shared: reset {layers[-1]} (or output), whose rows these are"
        if treatment.model is not None and treatment.model not in config.models:
            allowed = suggestion(treatment.model, config.models)
            yield f"treatments.{name}.model: {treatment.model!r} is not there; {allowed}"
        if treatment.alphabet is not None and treatment.alphabet not in config.languages:
            allowed = suggestion(treatment.alphabet, config.languages)
            yield f"treatments.{name}.alphabet: {treatment.alphabet!r} is not there; {allowed}"
        elif treatment.alphabet is not None:
            yield from _alphabet_checks(name, treatment.alphabet, study, config)
        yield from _recipe_checks(f"treatments.{name}.recipe", {**recipe, **treatment.recipe})
        for target, changes in study.target_recipes.items() if treatment.recipe else ():
            place = f"treatments.{name}.recipe, after {where}.target_recipes.{target}"
            yield from _recipe_checks(place, {**recipe, **changes, **treatment.recipe})
        kept = not any(isinstance(found, str) for found in chosen.values()) and layers[-1] not in reset
        if treatment.start == "source" and treatment.output_rows == "fresh" and kept and len(freeze) < len(layers):
            yield from _output_checks(name, treatment, study, config)
        if treatment.optimizer_state == "transferred":
            yield from _transfer_checks(name, treatment, study, config)


def _layer_names(references: Iterable[str], layers: tuple[str, ...]) -> tuple[str, ...] | str:
    """The layers meant, or the first reference that means none."""
    try:
        return named_layers(references, layers)
    except KeyError as error:
        return str(error.args[0])


def _transfer_checks(name: str, treatment: TreatmentSpec, study: StudySpec, config: Config) -> Iterable[str]:
    """An optimiser's state can be taken over only where there is one, and by the same optimiser."""
    where = f"treatments.{name}.optimizer_state"
    checkpoint = config.checkpoints.get(study.source.checkpoint or "")
    if checkpoint is not None and checkpoint.kind != "deepspeech-tf":
        yield f"{where}: a checkpoint of kind {checkpoint.kind} holds none; set fresh"
    if study.source.recipe is not None:
        theirs = config.recipes[study.source.recipe].optimizer
        ours = treatment.recipe.get("optimizer", config.recipes[study.recipe].optimizer)
        if theirs != ours:
            yield f"{where}: the source was trained with {theirs}, this with {ours}; set fresh"


def _output_checks(name: str, treatment: TreatmentSpec, study: StudySpec, config: Config) -> Iterable[str]:
    """An output layer that is kept must mean the same classes, in the same order."""
    source = study.source
    if source.checkpoint is not None:
        language = config.checkpoints[source.checkpoint].language
    else:
        language = config.corpora[source.corpus or ""].language
    owns = {target: treatment.alphabet or config.corpora[target].language for target in study.targets}
    if not config.languages.keys() >= {language, *owns.values()}:
        return  # said elsewhere
    kept = config.languages[language].alphabet
    if others := [target for target, own in owns.items() if config.languages[own].alphabet != kept]:
        yield (
            f"treatments.{name}: the output layer is kept, with the alphabet of {language!r}, but "
            f"{', '.join(others)}: another one; reset it (reset: [output]), or give both the same alphabet"
        )


def _recipe_checks(where: str, recipe: dict[str, Any]) -> Iterable[str]:
    """A recipe with changes must still be one."""
    try:
        RecipeSpec.model_validate(recipe)
    except ValidationError as error:
        for item in error.errors():
            key = ".".join([where, *map(str, item["loc"])])
            message = item["msg"].removeprefix("Value error, ")
            unknown = item["type"] == "extra_forbidden"
            yield f"{key}: {suggestion(str(item['loc'][-1]), RecipeSpec.model_fields) if unknown else message}"


def _alphabet_checks(name: str, language: str, study: StudySpec, config: Config) -> Iterable[str]:
    """An output layer must have a class for every character that its targets' texts can have."""
    has = config.languages[language].alphabet
    for target in study.targets:
        lacks = sorted(set(config.languages[config.corpora[target].language].alphabet) - set(has))
        if lacks:
            yield f"treatments.{name}.alphabet: {language!r} lacks characters of {target}: {''.join(lacks)!r}"


def semantic(spec: BaseModel, *leave_out: str) -> dict[str, Any]:
    """A spec as plain JSON types with defaults (and `leave_out`) dropped: what goes into a hash."""
    return spec.model_dump(mode="json", exclude_defaults=True, exclude=set(leave_out))
