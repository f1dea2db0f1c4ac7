"""Reading, merging and checking config files; every error says where it is and what is allowed there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from thaw.config.config import Config
from thaw.config.schema import BeamSpec, CheckpointSpec, CorpusSpec
from thaw.config.sources import OwnSource, Source, UnionSource
from thaw.errors import UserError, suggestion
from thaw.studies import study_module

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


def _lines(error: ValidationError) -> Iterable[str]:
    for item in error.errors():
        # Discriminated unions add the tag to the location: corpora.german.source.synthetic.voice; it reads well enough,
        # but not of studies, which are often called as their kind is.
        loc = item["loc"]
        where = ".".join(str(part) for part in (*loc[:2], *loc[3 if loc[:1] == ("studies",) else 2 :]))
        if item["type"] == "union_tag_invalid":
            tags = item["ctx"]["expected_tags"].replace("'", "").split(", ")
            yield f"config: {where}.kind: no {item['ctx']['tag']!r}; {suggestion(item['ctx']['tag'], tags)}"
        elif item["type"] == "extra_forbidden":
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
        yield from study_module(study.kind).check(name, study, config)


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
