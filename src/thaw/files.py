"""Files written whole or not at all, strict JSON Lines, and the one table of rejects.

Every room writes through here, so that a killed process never leaves half a file under a final name.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from thaw.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` to write to; it takes `path`'s name when the block ends without an error.

    Raises UserError where the folder cannot be written or the disk is full, naming the path.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, FileNotFoundError) and error.filename not in (None, str(temporary), str(path)):
            raise
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unlike(path: Path, beginning: bytes) -> bool:
    """Whether there is something at `path` that does not begin so: another's file, not an older one of ours."""
    try:
        with path.open("rb") as file:
            return file.read(len(beginning)) != beginning
    except FileNotFoundError:
        return False
    except OSError:  # a folder, or what cannot be looked into
        return True


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented strict JSON with sorted keys, atomically."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON value; UserError names the file where it is missing or broken."""
    try:
        return parsed_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error


def parsed_json(text: str) -> Any:
    """One JSON value. JSON may hold halves of characters (lone surrogates), files cannot: they become U+FFFD."""
    value = json.loads(text)
    return _without_halves(value) if _HALF.search(text) else value


_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # pairs too, which are whole: those are left alone below
_LONE = re.compile("[\ud800-\udfff]")


def _without_halves(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_halves(key): _without_halves(inner) for key, inner in value.items()}
    return [_without_halves(inner) for inner in value] if isinstance(value, list) else value


def json_line(row: dict[str, Any]) -> str:
    """One row of a JSON Lines file: sorted keys, strict, UTF-8, no newline."""
    return json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON Lines, atomically and byte-stably."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json_line(row) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines: objects only. UserError names the file and the line of what cannot be read."""
    rows = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    rows.append(_row(line, f"{path}:{number}"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    return rows


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = parsed_json(line.decode())
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 (byte {error.start + 1} of the line); save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: not a JSON object, but {type(row).__name__}")
    return row


@dataclass(frozen=True, order=True)
class Reject:
    """One utterance that a room left out, and why. `room` is fetch, audio or manifest."""

    id: str
    split: str
    room: str
    reason: str  # a short fixed phrase, countable: "too long", "unreadable audio", "character outside the alphabet"
    detail: str = ""


REJECT_COLUMNS = ("id", "split", "room", "reason", "detail")


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """Write the rejects table (tab-separated, sorted); tabs and newlines in a detail become spaces."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
    writer.writerow(REJECT_COLUMNS)
    for reject in sorted(rejects):
        writer.writerow([" ".join(str(cell).split()) for cell in astuple(reject)])
    write_text(path, buffer.getvalue())


def read_rejects(path: Path) -> list[Reject]:
    """Read a rejects table written by `write_rejects`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        return [Reject(*line.split("\t")) for line in lines]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (TypeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a table of rejects ({error}); run the rule that made it again") from error
