"""Getting one large file from the web: resumed, retried, checked, and silent about keys.

While a file comes, its beginning lies beside its place as NAME.part, and NAME.part.json says of what it is the
beginning. Either may be lost or killed at any time; the file itself gets its name only when it is whole.

No message and no exception shows a header or the query of an address, which may be a signature. Errors of the libraries
below are not chained for that reason: some of them quote what they were given.
"""

from __future__ import annotations

import contextlib
import email.utils
import fcntl
import hashlib
import http.client
import os
import re
import shutil
import ssl
import string
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from thaw import __version__
from thaw.errors import UserError
from thaw.files import read_json, write_json

BLOCK = 1 << 18  # bytes read at once, at most
LEAST_RATE = 1000  # bytes a second; a server slower than that is taken for a stalled one
NEWS = 1 << 20  # so many new bytes make the earlier failures forgotten
MOST_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
PASSING = (408, 425, 429)  # and all from 500 on: worth another attempt
EXPIRED = (400, 401, 403, 410)  # what storage services answer to a signed address after its time
PROGRESS_SECONDS = 10.0
DIGITS = {"sha256": 64, "md5": 32}

Say = Callable[[str], None]
Renew = Callable[[], str]


class NotThere(UserError):
    """The server has no such file (404, 410)."""


class Transient(Exception):
    """Something that may pass. `asked`: seconds that the server wants to be left alone for (Retry-After)."""

    def __init__(self, reason: str, asked: float | None = None) -> None:
        super().__init__(reason)
        self.asked = asked


class _Refused(Exception):
    """A signed address that is over, perhaps: its status is one of EXPIRED."""


class _Wrong(Exception):
    """Not the file that was expected."""


def say(line: str) -> None:
    """Tell the user on stderr."""
    print(f"fetch: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Patience:
    """How long to go on. Waits double from `first_wait` to `longest_wait`; all times in seconds."""

    retries: int = 8  # in a row, without progress
    timeout: float = 60.0  # without an answer, or with fewer than LEAST_RATE bytes a second
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_asked: float = 600.0  # a server that asks for a longer pause ends the work, until the user comes back

    def rest(self, trouble: Transient, failures: int, what: str, tell: Say, kept: str = "") -> None:
        """Wait before another attempt after `failures` of them in a row. Raises UserError where it is time to stop."""
        if failures > self.retries:
            raise UserError(f"{what}: {trouble}; gave up after {failures} attempts{kept}")
        asked = trouble.asked or 0.0
        if asked > self.longest_asked:
            raise UserError(
                f"{what}: {trouble}; the server asks to wait {asked / 60:.0f} minutes: come back then{kept}"
            )
        seconds = max(asked, min(self.first_wait * 2 ** (failures - 1), self.longest_wait))
        tell(f"{what}: {trouble}; again in {seconds:.0f} s")
        time.sleep(seconds)


# --- addresses and requests -----------------------------------------------------------------------


def show(url: str) -> str:
    """An address as it may be shown: without user, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def checked(url: str) -> SplitResult:
    """The parts of an address that may be requested; UserError for any other."""
    parts, port = SplitResult("", "", "", "", ""), -1
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        port = parts.port or 0
    clean = port >= 0 and "@" not in parts.netloc and all("!" <= character <= "~" for character in url)
    if not clean or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"{show(url)}: not an address to download from; it must start with http:// or https://, without a user "
            "name or password, and without spaces (%20)"
        )
    return parts


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]


def next_address(url: str, location: str) -> str:
    """Where a redirect from `url` leads. Raises UserError where it must not be followed."""
    target = ""
    with contextlib.suppress(ValueError):
        target = urljoin(url, quote(location, safe=string.punctuation, encoding="iso-8859-1", errors="replace"))
    if not location or not target:
        raise UserError(f"{show(url)}: redirected to nowhere; check the address")
    if urlsplit(url).scheme == "https" and checked(target).scheme != "https":
        raise UserError(f"{show(url)}: redirected from https to plain http ({show(target)}); refused")
    return target


def request(
    url: str, timeout: float, headers: Mapping[str, str], private: Mapping[str, str], data: bytes | None = None
) -> http.client.HTTPResponse:
    """The answer to a GET (or, with `data`, a POST), redirects of a GET followed; the caller closes it.

    `private` headers go to the origin (scheme, host, port) of `url` and to no other. Raises Transient where the server
    cannot be reached, UserError for what another attempt cannot mend. Any status but a redirect is an answer.
    """
    for name, value in private.items():
        if not all(" " <= character <= "~" for character in value):
            raise UserError(f"{show(url)}: the header {name} holds characters that no header can hold")
    own, address = _origin(checked(url)), url
    for _ in range(MOST_REDIRECTS + 1):
        sent = {"User-Agent": f"thaw/{__version__}", "Accept-Encoding": "identity", **headers}
        if _origin(checked(address)) == own:
            sent |= private
        response = _open(urllib.request.Request(address, data, sent), timeout)
        if response.status not in REDIRECTS:
            return response
        response.close()
        address = next_address(address, response.headers.get("Location", ""))
        if data is not None:
            raise UserError(f"{show(url)}: moved to {show(address)}, where the key is not sent")
    raise UserError(f"{show(url)}: redirected more than {MOST_REDIRECTS} times; check the address")


def _open(wanted: urllib.request.Request, timeout: float) -> http.client.HTTPResponse:
    """One request, through the proxy that the environment names, if any."""
    problem: Exception
    try:
        opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()):
            opener.add_handler(handler)
        response = opener.open(wanted, timeout=timeout)
        assert isinstance(response, http.client.HTTPResponse)
        return response
    except (OSError, http.client.HTTPException, ValueError) as error:
        problem = error
    raise _unreachable(problem, wanted.full_url, timeout)


def _unreachable(error: Exception, url: str, timeout: float) -> Exception:
    """What a failed connection is to the user. Nothing of the error's text but the system's own words is passed on."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return UserError(
            f"{show(url)}: its certificate cannot be verified ({reason.verify_message}); behind a proxy that has its "
            "own, name its authority's file in SSL_CERT_FILE"
        )
    if isinstance(error, (http.client.InvalidURL, ValueError)):
        return UserError(f"{show(url)}: cannot be requested; check the address and the proxy settings (https_proxy)")
    if isinstance(reason, TimeoutError):
        return Transient(f"no answer for {timeout:g} s")
    if isinstance(reason, OSError):
        return Transient(f"no connection ({reason.strerror or type(reason).__name__})")
    return Transient(f"the connection broke ({type(reason).__name__})")


def passing(response: http.client.HTTPResponse) -> Transient | None:
    """The trouble that an answer reports, where it is one that may pass."""
    if response.status not in PASSING and response.status < 500:
        return None
    words = "too many requests (429)" if response.status == 429 else f"the server has trouble ({response.status})"
    return Transient(words, _retry_after(response.headers.get("Retry-After", "").strip()))


def _retry_after(value: str) -> float | None:
    """Seconds, from a number of them or from a date."""
    if value.isascii() and value.isdigit():
        return float(value)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


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
    with _disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.link")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(source.resolve())
        os.replace(temporary, path)


# --- the file that is coming ----------------------------------------------------------------------


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; mend that, the same command goes on with what is there"
        ) from error


@dataclass
class _Note:
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
class _Part:
    """The beginning of `final`, and the note beside it. One process at a time."""

    final: Path
    identity: str
    note: _Note = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.final.with_name(f"{self.final.name}.part")
        self.note_path = self.final.with_name(f"{self.final.name}.part.json")
        with _disk(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("ab", buffering=0)
        self._lock()
        self.note = _Note("")
        with contextlib.suppress(UserError, TypeError):
            self.note = _Note(**read_json(self.note_path))
        if self.note.identity != self.identity:
            self.begin(_Note(self.identity))

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
        return os.fstat(self.file.fileno()).st_size

    def begin(self, note: _Note) -> None:
        """Drop what is there. The note comes after: a process killed between the two leaves an empty part."""
        with _disk(self.path):
            self.file.truncate(0)
        self.note = note
        write_json(self.note_path, asdict(note))

    def append(self, block: bytes) -> None:
        rest = memoryview(block)
        with _disk(self.path):
            while rest:
                rest = rest[self.file.write(rest) :]

    def finish(self) -> None:
        with _disk(self.final):
            os.fsync(self.file.fileno())
            os.replace(self.path, self.final)
            self.note_path.unlink(missing_ok=True)

    def close(self) -> None:
        """An empty part is not worth keeping."""
        if not self.size and self.path.exists():
            self.path.unlink()
            self.note_path.unlink(missing_ok=True)
        self.file.close()


@dataclass
class _Download:
    """One address, and all that its download goes by."""

    url: str
    part: _Part
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
                self.part.begin(_Note(self.part.identity))
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
            part.begin(_Note(part.identity))
        with request(self.url, self.patience.timeout, ranged, self.headers) as response:
            if response.status == 206 and ranged:
                end: int | None = self._go_on(response)
            elif response.status == 416 and ranged:
                found = re.fullmatch(r"bytes \*/(\d{1,18})", response.headers.get("Content-Range", ""))
                if found and int(found[1]) == part.size:
                    return  # the last attempt had all of it, and was not told so
                raise self._restart("the server has less of it than is here")
            elif response.status == 200:
                note = _Note(part.identity, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))
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
        self.part.begin(_Note(self.part.identity))
        return Transient(f"{reason}; from the start again")

    def _check_room(self, end: int | None, delimited: bool) -> None:
        """Stop before the body where it cannot end well."""
        total, size = self.part.note.total, self.expected.size
        if total is not None and size not in (None, total):
            raise _Wrong(f"it has {total} bytes, expected {size}")
        if end is None and not delimited and size is None and not self.expected.checksum:
            raise UserError(f"{show(self.url)}: the server does not say how long it is; give its sha256")
        with _disk(self.part.path):
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
        raise _unreachable(problem, self.url, self.patience.timeout)

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
    part = _Part(path, expected.checksum or show(url))
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
