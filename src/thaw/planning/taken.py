"""Which config files draw under which name: two configs of one name would draw over each other's tables and report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from thaw.config.reading import merged, read_yaml, with_includes
from thaw.errors import UserError
from thaw.files import read_json, write_json
from thaw.planning import layout


def check(name: str, files: Sequence[Path]) -> None:
    """Raise UserError where `name` is that of other config files, which are still there and still say so."""
    record = Path(layout.CONFIGS) / f"{name}.json"
    others = _recorded(record)
    if others and not _same(others, files) and _name(others) == name:
        raise UserError(
            f"config: name: {name!r} is that of {', '.join(map(str, others))}, whose tables and report are in "
            f"{layout.RESULTS}; give this config another name, or delete {record} to draw over them"
        )


def record(name: str, files: Sequence[Path]) -> None:
    """Note that these files draw under `name`."""
    path = Path(layout.CONFIGS) / f"{name}.json"
    if not _same(_recorded(path), files):
        write_json(path, {"files": [os.path.relpath(file) for file in files]})


def _recorded(record: Path) -> list[Path]:
    try:
        return [Path(file) for file in read_json(record)["files"]]
    except (UserError, KeyError, TypeError):
        return []


def _same(some: Sequence[Path], others: Sequence[Path]) -> bool:
    return [path.resolve() for path in some] == [path.resolve() for path in others]


def _name(files: Sequence[Path]) -> object:
    """What these files call their config now; None where they are gone, or say nothing."""
    raw: dict[str, object] = {}
    try:
        for file in files:
            raw = merged(raw, read_yaml(file))
        return with_includes(raw).get("name")
    except UserError:
        return None
