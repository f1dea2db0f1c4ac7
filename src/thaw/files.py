"""Files written whole or not at all, sealed with a digest that is checked on reading; strict JSON Lines; rejects.

Every room writes through here, so that a killed process never leaves half a file under a final name, and reads through
here, so that bytes which are not those that were written never become a result.

A seal is a hidden file beside the sealed one, `.NAME.sha256`, in the format of sha256sum. A file without one is
anybody's and is read as it is.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, Any

from thaw.errors import UserError

HEX = 64  # digits of a SHA-256


@contextmanager
def replacing(path: Path, sealed: bool = True) -> Iterator[Path]:
    """A temporary sibling of `path` to write to; it takes `path`'s name when the block ends without an error.

    `sealed=False` is for what is checked in another way (audio: clip by clip) or only looked at (progress).
    Raises UserError where the folder cannot be written or the disk is full, naming the path.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest() if sealed else ""
            os.fsync(file.fileno())
        # In this order a kill leaves a file without a seal, and never one with the seal of another.
        seal_of(path).unlink(missing_ok=True)
        os.replace(temporary, path)
        if sealed:
            seal_of(path).write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    except OSError as error:
        remove(temporary)
        if isinstance(error, FileNotFoundError) and error.filename not in (None, str(temporary), str(path)):
            raise
        raise UserError(f"cannot write {path}: {error.strerror or error}{_cure(error)}") from error
    except BaseException:
        remove(temporary)
        raise


def _cure(error: OSError) -> str:
    if isinstance(error, IsADirectoryError):
        return "; a folder has its name: delete that"
    return ""


# --- seals ------------------------------------------------------------------------------------------------------------


def seal_of(path: Path) -> Path:
    """Where the digest of `path` is kept."""
    return path.with_name(f".{path.name}.sha256")


def verify(path: Path, as_: Path | None = None) -> None:
    """Raise UserError where `path` has other bytes than those that were written there.

    Its seal says which, and for weights the `model.sha256` beside them too. With neither, or without the file itself,
    nothing is raised. `as_` reads the bytes of a copy in its stead.
    """
    # A second look: between reading the seal and reading the file, a living writer may have replaced both.
    if (found := _broken_seal(path, as_)) and (found := _broken_seal(path, as_)):
        raise UserError(damaged(path, found))


def damaged(path: Path, seal: Path) -> str:
    """What to say of a file whose bytes are not those of its seal."""
    keep = "" if seal == path.with_suffix(".sha256") else f"; to keep an edit of your own, delete {seal.name} beside it"
    return f"{path}: damaged or edited: {seal.name} has another digest; delete it, and it is made again{keep}"


def _broken_seal(path: Path, copy: Path | None) -> Path | None:
    """The first seal of `path` that does not fit its bytes, or those of its copy."""
    seals = [seal_of(path), *([path.with_suffix(".sha256")] if path.suffix == ".safetensors" else [])]
    known = [(seal, text) for seal in seals if (text := _text(seal))]
    if not known:
        return None
    try:
        with (copy or path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None  # whoever reads it will say so
    return next((seal for seal, text in known if text[:HEX] != digest), None)


def _text(seal: Path) -> str:
    """What a seal says; empty where it is missing or a crash of the machine left it empty."""
    try:
        return seal.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def copy(source: Path, target: Path) -> None:
    """Copy a file, whole and sealed; UserError where it cannot be read, or is not what was written."""
    with replacing(target) as temporary:
        try:
            shutil.copyfile(source, temporary)
        except OSError as error:
            if error.filename in (None, str(temporary)):
                raise
            raise UserError(f"{source}: {_reason(error)}") from error
        verify(source, temporary)


def remove(path: Path) -> None:
    """Delete a file of ours and its seal, or what somebody put in its place; nothing where there is nothing."""
    for each in (path, seal_of(path)):
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
        else:
            with suppress(OSError):
                each.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Return once the names in a folder are on the disk, so that files they replace may be deleted."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- reading and writing ----------------------------------------------------------------------------------------------


@contextmanager
def reading(path: Path) -> Iterator[IO[str]]:
    """A sealed text file; UserError names it where it is missing, unreadable, damaged or not UTF-8."""
    verify(path)
    try:
        with path.open(encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise UserError(f"{path}: {_reason(error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error


def read_bytes(path: Path) -> bytes:
    """All of a file; see `reading`."""
    verify(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {_reason(error)}") from error


def read_text(path: Path) -> str:
    """All of a text file; see `reading`."""
    with reading(path) as file:
        return file.read()


def _reason(error: OSError) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror or error}"


def unlike(path: Path, beginning: bytes) -> bool:
    """Whether there is something at `path` that does not begin so: another's file, not an older one of ours."""
    try:
        with path.open("rb") as file:
            return file.read(len(beginning)) != beginning
    except FileNotFoundError:
        return False
    except OSError:  # a folder, or what cannot be looked into
        return True


def write_bytes(path: Path, data: bytes, sealed: bool = True) -> None:
    """Write `data` to `path` atomically."""
    with replacing(path, sealed) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str, sealed: bool = True) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    write_bytes(path, text.encode(), sealed)


def write_json(path: Path, value: Any, sealed: bool = True) -> None:
    """Write `value` as indented strict JSON with sorted keys, atomically."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2)
    write_text(path, text + "\n", sealed)


def read_json(path: Path) -> Any:
    """Read one JSON value; UserError names the file where it is missing or broken."""
    try:
        return parsed_json(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from error


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object (of *.jsonl: the first) in a file that anything may have happened to; empty where none is."""
    try:
        with path.open(encoding="utf-8") as file:
            value = json.loads(file.readline() if path.suffix == ".jsonl" else file.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


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


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]], sealed: bool = True) -> None:
    """Write rows as JSON Lines, atomically and byte-stably."""
    with replacing(path, sealed) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json_line(row) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines: objects only. UserError names the file and the line of what cannot be read.

    Halves of characters stay: whoever reads a person's rows rejects those, and names them.
    """
    rows = []
    with reading(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                rows.append(_json_row(line, f"{path}:{number}"))
    return rows


def _json_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
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
    """Read a rejects table written by `write_rejects`; UserError names a line that is none of it."""
    rejects = []
    for number, line in enumerate(read_text(path).splitlines()[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(REJECT_COLUMNS):
            raise UserError(f"{path}:{number}: not a row of a rejects table; delete it and run the same command again")
        rejects.append(Reject(*cells))
    return rejects
