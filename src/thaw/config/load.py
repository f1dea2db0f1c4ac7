"""Checking configs; every error says where it is and what is allowed there."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thaw.config.alignment import FileLexicon
from thaw.config.config import Config
from thaw.config.decoders import BeamSpec
from thaw.config.reading import merged as merged  # these names are for others too
from thaw.config.reading import read_yaml as read_yaml
from thaw.config.reading import unsound
from thaw.config.reading import with_includes as with_includes
from thaw.config.schema import CheckpointSpec, CorpusSpec
from thaw.config.sources import OwnSource, Source, UnionSource
from thaw.errors import UserError, on_one_line, suggestion
from thaw.studies import study_module

MOST_LINES = 20


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
    yield from _alignment_checks(config)
    for name, study in config.studies.items():
        yield from study_module(study.kind).check(name, study, config)


def _alignment_checks(config: Config) -> Iterable[str]:
    """Names of languages, and the files that lexicons and language models name."""
    named = [(f"lexicons.{language}", language) for language in config.lexicons]
    named += [
        (f"alignments.{name}.languages", lang) for name, spec in config.alignments.items() for lang in spec.languages
    ]
    for where, language in named:
        if language not in config.languages:
            yield f"{where}: {language!r} is not there; {suggestion(language, config.languages)}"
    for language, lexicon in config.lexicons.items():
        if isinstance(lexicon, FileLexicon):
            yield from _file_checks(f"lexicons.{language}.path", lexicon.path, "file")
    for name, spec in config.alignments.items():
        if text := spec.search.language_model.extra_text:
            yield from _file_checks(f"alignments.{name}.search.language_model.extra_text", text, "file")


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
