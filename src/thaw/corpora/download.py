"""Getting one large file from the web: resumed, retried, checked, and silent about keys.

While a file comes, its beginning lies beside its place as NAME.part, and NAME.part.json says of what it is the
beginning. Either may be lost or killed at any time; the file itself gets its name only when it is whole.

No message and no exception shows a header or the query of an address (see `thaw.corpora.web`).
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from thaw.corpora.part import Note, Part, disk
from thaw.corpora.web import Patience, Say, Transient, checked, passing, request, say, show, unreachable
from thaw.errors import UserError

BLOCK = 1 << 18  # bytes read at once, at most
LEAST_RATE = 1000  # bytes a second; a server slower than that is taken for a stalled one
NEWS = 1 << 20  # so many new bytes make the earlier failures forgotten
EXPIRED = (400, 401, 403, 410)  # what storage services answer to a signed address after its time
PROGRESS_SECONDS = 10.0
DIGITS = {"sha256": 64, "md5": 32}

Renew = Callable[[], str]


class NotThere(UserError):
    """The server has no such file (404, 410)."""


class _Refused(Exception):
    """A signed address that is over, perhaps: its status is one of EXPIRED."""


class _Wrong(Exception):
    """Not the file that was expected."""


# --- what a file must be, and files at hand -------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """What is known of a file beforehand; empty: nothing."""

    sha256: str = ""
    md5: str = ""
    size: int | None = None  # bytes

    def __post_init__(self) -> None:
        for kind, digits in DIGITS.items():
            value = getattr(self, kind)
            if value and not re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", value):
                raise UserError(f"{kind}: {value!r} is not {digits} hexadecimal digits")

    @property
    def checksum(self) -> str:
        return f"sha256 {self.sha256}" if self.sha256 else f"md5 {self.md5}" if self.md5 else ""

    def problem(self, path: Path) -> str:
        """What is wrong with the file, "" where nothing is. Reads all of it where there is a checksum."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"it has {size} bytes, expected {self.size}"
        for kind in DIGITS:
            if value := getattr(self, kind).lower():
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, kind).hexdigest()
                if found != value:
                    return f"its {kind} is {found}, expected {value}"
        return ""


def at_hand(path: Path, expected: Expected, mirror: str, patience: Patience | None = None, tell: Say = say) -> bool:
    """Whether `path` is there, as expected, or could be had from `mirror` (a folder, or what its address starts with).

    A file in a folder is linked to, not copied. Raises UserError where the mirror cannot be used, or has a wrong file.
    """
    if path.is_file() and not expected.problem(path):
        return True
    if not mirror:
        return False
    folder = _folder(mirror)
    if folder is None:
        try:
            _fetch(f"{mirror.rstrip('/')}/{quote(path.name)}", path, expected, {}, None, patience or Patience(), tell)
            return True
        except NotThere:
            tell(f"{path.name}: not at the mirror {show(mirror)}")
            return False
    if not folder.is_dir():
        raise UserError(f"mirror: {folder}: no such folder")
    if (folder / path.name).is_file():
        _link(folder / path.name, path, expected)
        return True
    tell(f"{path.name}: not in the mirror {folder}")
    return False


def _folder(place: str) -> Path | None:
    """The local path that a mirror or an address names, or None for one on the web."""
    if "://" not in place:
        return Path(place).expanduser()
    if place.startswith(("file:///", "file://localhost/")):
        return Path(unquote(place.removeprefix("file://").removeprefix("localhost")))
    checked(place)
    return None


def _link(source: Path, path: Path, expected: Expected) -> None:
    if problem := expected.problem(source):
        raise UserError(f"{source}: {problem}; replace it or remove it")
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.link")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(source.resolve())
        os.replace(temporary, path)


# --- the download ---------------------------------------------------------------------------------


@dataclass
class _Download:
    """One address, and all that its download goes by."""

    url: str
    part: Part
    expected: Expected
    headers: Mapping[str, str]  # for the origin of `url` only
    renew: Renew | None
    patience: Patience
    tell: Say
    fresh: bool = False  # `url` was just given by `renew`, and nothing came from it yet

    def run(self) -> None:
        """Bring the part to its end, check it, and give it its name."""
        failures, best, again = 0, self.part.size, False
        while (trouble := self._outcome()) is not None:
            if isinstance(trouble, _Refused):
                if self.renew is None or self.fresh:
                    raise UserError(f"{show(self.url)}: {trouble}")
                self.url, self.fresh = self.renew(), True
            elif isinstance(trouble, _Wrong):
                self.part.begin(Note(self.part.identity))
                if again:
                    raise UserError(f"{show(self.url)}: {trouble}, twice; correct what is expected, or ask its owner")
                self.tell(f"{show(self.url)}: {trouble}; once more from the start")
                best, again = 0, True
            else:
                if self.part.size - best >= NEWS:
                    failures, best = 0, self.part.size
                failures += 1
                self.patience.rest(trouble, failures, show(self.url), self.tell, self._kept())
        self.part.finish()

    def _outcome(self) -> Transient | _Refused | _Wrong | None:
        """What came of one attempt: None for a whole file. (Not raised, or one error would drag others along.)"""
        try:
            if self.part.note.total is None or self.part.size != self.part.note.total:
                self._attempt()
            if problem := self.expected.problem(self.part.path):
                return _Wrong(problem)
        except (Transient, _Refused, _Wrong) as trouble:
            return trouble
        return None

    def _kept(self) -> str:
        there = (
            f"; {self.part.size / 1e6:.1f} MB are kept, the same command goes on from there" if self.part.size else ""
        )
        return f"{there}. On a machine without internet, put {self.part.final.name} in a folder and name it as `mirror`"

    def _attempt(self) -> None:
        """One request and its answer, written to the part."""
        part, ranged = self.part, self._range()
        if part.size and not ranged:
            part.begin(Note(part.identity))
        with request(self.url, self.patience.timeout, ranged, self.headers) as response:
            if response.status == 206 and ranged:
                end: int | None = self._go_on(response)
            elif response.status == 416 and ranged:
                found = re.fullmatch(r"bytes \*/(\d{1,18})", response.headers.get("Content-Range", ""))
                if found and int(found[1]) == part.size:
                    return  # the last attempt had all of it, and was not told so
                raise self._restart("the server has less of it than is here")
            elif response.status == 200:
                note = Note(part.identity, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))
                note.total = end = response.length
                part.begin(note)
            else:
                raise passing(response) or self._refusal(response.status)
            self.fresh = False
            self._check_room(end, response.chunked)
            self._receive(response, end)

    def _range(self) -> dict[str, str]:
        """Headers that ask for the rest; none where there is nothing yet, or nothing that tells versions apart."""
        if not self.part.size or not (self.part.note.validator or self.expected.checksum):
            return {}
        wanted = {"Range": f"bytes={self.part.size}-"}
        return wanted | ({"If-Range": self.part.note.validator} if self.part.note.validator else {})

    def _go_on(self, response: http.client.HTTPResponse) -> int:
        """The end of the range that is coming, after a check that it fits what is here."""
        found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", response.headers.get("Content-Range", ""))
        note, etag = self.part.note, response.headers.get("ETag", "")
        if not found or int(found[1]) != self.part.size or (etag and note.etag and etag != note.etag):
            raise self._restart("the file changed on the server")
        if found[3] != "*":
            if note.total not in (None, int(found[3])):
                raise self._restart("the file changed its size on the server")
            note.total = int(found[3])
        return int(found[2]) + 1

    def _restart(self, reason: str) -> Transient:
        self.part.begin(Note(self.part.identity))
        return Transient(f"{reason}; from the start again")

    def _check_room(self, end: int | None, delimited: bool) -> None:
        """Stop before the body where it cannot end well."""
        total, size = self.part.note.total, self.expected.size
        if total is not None and size not in (None, total):
            raise _Wrong(f"it has {total} bytes, expected {size}")
        if end is None and not delimited and size is None and not self.expected.checksum:
            raise UserError(f"{show(self.url)}: the server does not say how long it is; give its sha256")
        with disk(self.part.path):
            free = shutil.disk_usage(self.part.path.parent).free
        if end is not None and free < end - self.part.size:
            raise UserError(
                f"{self.part.final}: {(end - self.part.size) / 1e6:.0f} MB are to come, and the disk has "
                f"{free / 1e6:.0f} MB free; make room, the same command goes on with what is there"
            )

    def _receive(self, response: http.client.HTTPResponse, end: int | None) -> None:
        """Write the body to the part, up to `end`; whatever comes before a failure is kept."""
        size, shown = self.part.size, self.part.size
        watched = told = time.monotonic()
        window = 0  # bytes since `watched`
        while end is None or size < end:
            block = self._read(response, BLOCK if end is None else min(BLOCK, end - size))
            if not block:
                break
            self.part.append(block)
            size, window, now = size + len(block), window + len(block), time.monotonic()
            if now - watched >= self.patience.timeout:
                if window < LEAST_RATE * (now - watched):
                    raise Transient(f"fewer than {LEAST_RATE} bytes a second")
                watched, window = now, 0
            if now - told >= PROGRESS_SECONDS:
                self.tell(self._progress(size, (size - shown) / (now - told)))
                told, shown = now, size
            if self.expected.size is not None and size > self.expected.size:
                raise _Wrong(f"it has more than the {self.expected.size} bytes expected")
        total = self.part.note.total if end is not None else self.expected.size
        if total is not None and size < total:
            raise Transient(f"the connection ended after {size} of {total} bytes")

    def _read(self, response: http.client.HTTPResponse, most: int) -> bytes:
        problem: Exception
        try:
            return response.read1(most)
        except (OSError, http.client.HTTPException) as error:
            problem = error
        raise unreachable(problem, self.url, self.patience.timeout)

    def _progress(self, size: int, rate: float) -> str:
        total = self.part.note.total
        whole = f" of {total / 1e6:.0f}" if total else ""
        left = f", {(total - size) / rate / 60:.0f} min left" if total and rate else ""
        return f"{self.part.final.name}: {size / 1e6:.0f}{whole} MB, {rate / 1e6:.1f} MB/s{left}"

    def _refusal(self, status: int) -> Exception:
        by_hand = f"or put {self.part.final.name} in a folder and name it as `mirror`"
        if status in EXPIRED and self.renew is not None:
            return _Refused(f"refused ({status}), by a fresh address too; wait a while, {by_hand}")
        if status in (404, 410):
            return NotThere(f"{show(self.url)}: no such file there ({status}); check the address, {by_hand}")
        if status == 401:
            return UserError(f"{show(self.url)}: a key is missing or wrong (401); check it, {by_hand}")
        if status == 403:
            return UserError(
                f"{show(self.url)}: refused (403); open it in a browser to see what it asks for, {by_hand}"
            )
        return UserError(f"{show(self.url)}: an answer that is no file ({status}); check the address, {by_hand}")


def _fetch(
    url: str,
    path: Path,
    expected: Expected,
    headers: Mapping[str, str],
    renew: Renew | None,
    patience: Patience,
    tell: Say,
) -> None:
    # A file with a checksum is the same file wherever it comes from; a signed address is a new one every time.
    part = Part(path, expected.checksum or show(url))
    try:
        _Download(url, part, expected, headers, renew, patience, tell).run()
    finally:
        part.close()


def download(
    url: str,
    path: Path,
    *,
    sha256: str = "",
    md5: str = "",
    size: int | None = None,
    headers: Mapping[str, str] | None = None,
    mirror: str = "",
    renew: Renew | None = None,
    patience: Patience | None = None,
    progress: Say = say,
) -> Path:
    """Bring the file at `url` (http, https, file) to `path`, and return `path`.

    A file that is there as expected is kept; `mirror` is looked into first (see `at_hand`). `headers` may hold a key:
    they go to the origin of `url` only. `renew` gives another address for a signed one whose time is over.
    `size` in bytes. Raises UserError where it cannot be had: refused, not there, not the expected file, no room on the
    disk, or out of patience. What came is kept as `path`.part, except of a wrong file, and the next call goes on there.
    """
    expected, patience = Expected(sha256, md5, size), patience or Patience()
    if at_hand(path, expected, mirror, patience, progress):
        return path
    folder = _folder(url) if "://" in url else None
    if folder is None:
        _fetch(url, path, expected, headers or {}, renew, patience, progress)
    elif folder.is_file():
        _link(folder, path, expected)
    else:
        raise UserError(f"{folder}: no such file")
    return path
