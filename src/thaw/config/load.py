"""Reading, merging and checking config files; every error says where it is and what is allowed there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from thaw.config.layers import WORDS, named_layers
from thaw.config.schema import BeamSpec, CheckpointSpec, Config, CorpusSpec, RecipeSpec, StudySpec, TreatmentSpec
from thaw.config.sources import OwnSource, Source, UnionSource
from thaw.errors import UserError

INCLUDE = "include"


def read_yaml(path: Path) -> dict[str, Any]:
    """One YAML file as a dict; UserError names the file and the line of a mistake."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such config file") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a config is a mapping of keys, not {type(content).__name__}")
    return content


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, `over` winning, merged key by key at every depth; null takes away what lies beneath."""
    result = dict(under)
    for key, value in over.items():
        inner = result.get(key)
        both_mappings = isinstance(value, Mapping) and isinstance(inner, Mapping)
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(cast(Mapping[str, Any], inner), value) if both_mappings else value
    return result


def with_includes(raw: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with the files of its `include:` list (paths from the repository root) merged beneath it."""
    includes = raw.get(INCLUDE, [])
    if not isinstance(includes, list):
        raise UserError("config: include: give a list of files")
    result: dict[str, Any] = {}
    for name in includes:
        result = merged(result, with_includes(read_yaml(Path(name))))
    return merged(result, {key: value for key, value in raw.items() if key != INCLUDE})


def validate(raw: Mapping[str, Any]) -> Config:
    """A checked Config. Raises UserError with one line per mistake: where, what, what is allowed."""
    try:
        config = Config.model_validate(with_includes(raw))
    except ValidationError as error:
        raise UserError("\n".join(sorted(set(_lines(error))))) from error
    problems = list(dict.fromkeys(_cross_checks(config)))  # two studies may share a mistaken treatment
    if problems:
        raise UserError("\n".join(f"config: {problem}" for problem in problems))
    return config


def load(paths: Iterable[Path]) -> Config:
    """The config of one or more files, later ones winning."""
    raw: dict[str, Any] = {}
    for path in paths:
        raw = merged(raw, read_yaml(path))
    return validate(raw)


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
            yield f"config: {where}: unknown key; {suggestion(key, _keys_at(item['loc'][:-1]))}"
        elif item["type"] == "missing":
            yield f"config: {where}: missing"
        else:
            message = item["msg"].removeprefix("Value error, ")
            value = item.get("input")
            shown = f" (given: {value!r})" if isinstance(value, str | int | float | bool) else ""
            yield f"config: {where}: {message}{shown}"


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys that a config may have at a location, found by walking the schema along it."""
    schema = Config.model_json_schema()
    node: dict[str, Any] = schema
    for part in location:
        node = _resolved(schema, node)
        if "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"][part]}
        elif "properties" in node and part in node["properties"]:
            node = node["properties"][part]
        elif isinstance(node.get("additionalProperties"), dict):
            node = node["additionalProperties"]
        elif "patternProperties" in node:
            node = next(iter(node["patternProperties"].values()))
    return list(_resolved(schema, node).get("properties", {}))


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
        if text and not Path(text).exists():
            yield f"decoders.{name}.language_model.extra_text: {text}: no such file"
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
        if path and not Path(path).expanduser().exists():
            yield f"{where}.{key}: {path}: no such file or folder"


def _checkpoint_checks(name: str, checkpoint: CheckpointSpec, config: Config) -> Iterable[str]:
    where = f"checkpoints.{name}"
    if checkpoint.language not in config.languages:
        allowed = suggestion(checkpoint.language, config.languages)
        yield f"{where}.language: {checkpoint.language!r} is not there; {allowed}"
    path = Path(checkpoint.path)
    if not path.exists() and not path.with_name(path.name + ".index").exists():
        yield f"{where}.path: {path}: no such checkpoint; download it, or name where it is"


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
