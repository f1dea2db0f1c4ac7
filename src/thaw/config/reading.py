"""YAML files as plain mappings, with every way in which a file can be wrong said in one line that names it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from thaw.errors import UserError

INCLUDE = "include"
MOST_VALUES = 200_000  # of a config with its aliases written out: a study of thousands of runs has some thousand
MOST_INCLUDES = 100
MOST_DIGITS = 400  # of a number

# What PyYAML lets through from values that are none: an integer too long for Python, a date on 31 February.
_BROKEN = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """YAML as `safe_load` has it, but a key that is given twice is an error: the first would be lost silently."""


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
    seen: dict[str, yaml.Mark] = {}
    for key, _ in node.value:  # before merge keys (<<) bring theirs in: those may be given anew
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if key.value in seen:
                lines = f"lines {seen[key.value].line + 1} and {key.start_mark.line + 1}"
                raise yaml.YAMLError(f"{key.value!r} is given twice ({lines}); keep one of them")
            seen[key.value] = key.start_mark
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep)


def _whole(loader: _Loader, node: yaml.MappingNode) -> Iterator[dict[Hashable, Any]]:
    data: dict[Hashable, Any] = {}
    yield data  # first, as PyYAML does: an anchor may be used within itself
    data.update(_mapping(loader, node))


_Loader.add_constructor("tag:yaml.org,2002:map", _whole)


def read_yaml(path: Path) -> dict[str, Any]:
    """One YAML file as a dict; UserError names the file, and the line of a mistake."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such config file") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not a UTF-8 text; save it as UTF-8") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read as a config: {reason}") from error
    try:
        content = yaml.load(text, _Loader)
    except _BROKEN as error:
        raise UserError(f"{path}: not YAML: {_said(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a config is a mapping of keys, not {type(content).__name__}")
    if problem := next(unsound(content), None):
        raise UserError(f"{path}: {problem}")
    return content


def _said(error: BaseException) -> str:
    """What an error of PyYAML's says, on one line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return " ".join(str(error).replace('in "<unicode string>", ', "").split())[:500] or type(error).__name__


def unsound(content: Any) -> Iterator[str]:
    """What no config can hold, with its place: numbers that are not finite, texts that no file can, endless data."""
    try:
        if _count(content, {}, set()) > MOST_VALUES:
            yield f"holds more than {MOST_VALUES:,} values, aliases written out"
            return
        yield from _unsound(content, "")
    except RecursionError:
        yield "nested too deeply"
    except _Circular:
        yield "an alias (*) stands within its own anchor (&)"


class _Circular(Exception):
    """A value that contains itself."""


def _count(value: Any, known: dict[int, int], above: set[int]) -> int:
    """How many values there are, those of an alias counted wherever it stands."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple | set) else ()
    if not inner:
        return 1
    if id(value) in above:
        raise _Circular
    if id(value) not in known:
        above.add(id(value))
        known[id(value)] = 1 + sum(_count(one, known, above) for one in inner)
        above.discard(id(value))
    return known[id(value)]


def _unsound(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from (f"{where}: {problem} in a key" for problem in _unsound(key, ""))
            yield from _unsound(inner, f"{where}.{key}" if where else str(key))
        return
    if isinstance(value, list | tuple | set):
        for place, inner in enumerate(value):
            yield from _unsound(inner, f"{where}.{place}")
        return
    begin = f"{where}: " if where else ""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{begin}{value}: a number must be finite"
    elif isinstance(value, int) and value.bit_length() > 4 * MOST_DIGITS:
        yield f"{begin}a number of more than {MOST_DIGITS} digits"
    elif isinstance(value, str) and ("\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
        yield f"{begin}{ascii(value)[:80]}: holds a character that no file can"


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
    return _with_includes(raw, (), [])


def _with_includes(raw: Mapping[str, Any], above: tuple[Path, ...], read: list[Path]) -> dict[str, Any]:
    """`above`: the files that led here; `read`: all so far, each as often as it was read."""
    begin = f"{above[-1]}: include" if above else "config: include"
    includes = raw.get(INCLUDE, [])
    if not isinstance(includes, list) or not all(isinstance(name, str) for name in includes):
        raise UserError(f"{begin}: give a list of files")
    result: dict[str, Any] = {}
    for path in map(Path, includes):
        if path.absolute() in {one.absolute() for one in above}:
            raise UserError(f"{begin}: {path} includes itself{_through(above, path)}")
        read.append(path)
        if len(read) > MOST_INCLUDES:
            raise UserError(f"{begin}: more than {MOST_INCLUDES} files in all")
        result = merged(result, _with_includes(read_yaml(path), (*above, path), read))
    return merged(result, {key: value for key, value in raw.items() if key != INCLUDE})


def _through(above: tuple[Path, ...], path: Path) -> str:
    places = [one.absolute() for one in above]
    between = above[places.index(path.absolute()) + 1 :]
    return f", through {', '.join(map(str, between))}" if between else ""
