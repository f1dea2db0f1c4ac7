"""The beginning of a file that is coming: NAME.part, and NAME.part.json, which says of what it is the beginning."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from thaw.errors import UserError
from thaw.files import read_json, write_json


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """A UserError that names `path` for whatever the disk refuses inside."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; mend that, the same command goes on with what is there"
        ) from error


@dataclass
class Note:
    """Of which version of which file a part is the beginning."""

    identity: str
    etag: str = ""
    modified: str = ""
    total: int | None = None  # bytes

    @property
    def validator(self) -> str:
        """What If-Range may compare: a weak ETag may not."""
        return self.modified if self.etag.startswith("W/") else self.etag or self.modified


@dataclass
class Part:
    """The beginning of `final`, and the note beside it. One process at a time."""

    final: Path
    identity: str
    note: Note = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.final.with_name(f"{self.final.name}.part")
        self.note_path = self.final.with_name(f"{self.final.name}.part.json")
        with disk(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("ab", buffering=0)
        self._lock()
        self.note = Note("")
        with contextlib.suppress(UserError, TypeError):
            self.note = Note(**read_json(self.note_path))
        if self.note.identity != self.identity:
            self.begin(Note(self.identity))

    def _lock(self) -> None:
        held = False
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = True
        except OSError:
            pass  # a file system without locks
        # Who held it may have finished meanwhile: the file that is open here is then no part any more.
        if held or not self.path.exists() or not os.path.samestat(os.fstat(self.file.fileno()), self.path.stat()):
            self.file.close()
            raise UserError(f"{self.final}: another process is downloading it; wait for it, or end it first")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return os.fstat(self.file.fileno()).st_size

    def begin(self, note: Note) -> None:
        """Drop what is there. The note comes after: a process killed between the two leaves an empty part."""
        with disk(self.path):
            self.file.truncate(0)
        self.note = note
        write_json(self.note_path, asdict(note), sealed=False)

    def append(self, block: bytes) -> None:
        """Write a block at the end."""
        rest = memoryview(block)
        with disk(self.path):
            while rest:
                rest = rest[self.file.write(rest) :]

    def finish(self) -> None:
        """Give the whole file its name."""
        with disk(self.final):
            os.fsync(self.file.fileno())
            os.replace(self.path, self.final)
            self.note_path.unlink(missing_ok=True)

    def close(self) -> None:
        """An empty part is not worth keeping."""
        if not self.size and self.path.exists():
            self.path.unlink()
            self.note_path.unlink(missing_ok=True)
        self.file.close()
