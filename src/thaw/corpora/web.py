"""Addresses and requests: what may be asked of a server, how long it is asked again, and what a failure is to the user.

No message and no exception shows a header or the query of an address, which may be a signature. Errors of the libraries
below are not chained for that reason: some of them quote what they were given.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import ssl
import string
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from thaw import __version__
from thaw.errors import UserError

MOST_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
PASSING = (408, 425, 429)  # and all from 500 on: worth another attempt

Say = Callable[[str], None]


class Transient(Exception):
    """Something that may pass. `asked`: seconds that the server wants to be left alone for (Retry-After)."""

    def __init__(self, reason: str, asked: float | None = None) -> None:
        super().__init__(reason)
        self.asked = asked


def say(line: str) -> None:
    """Tell the user on stderr."""
    print(f"fetch: {line}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Patience:
    """How long to go on. Waits double from `first_wait` to `longest_wait`; all times in seconds."""

    retries: int = 8  # in a row, without progress
    timeout: float = 60.0  # without an answer, or with next to nothing coming
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


# --- addresses ------------------------------------------------------------------------------------


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


# --- requests -------------------------------------------------------------------------------------


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
    raise unreachable(problem, wanted.full_url, timeout)


def unreachable(error: Exception, url: str, timeout: float) -> Exception:
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
