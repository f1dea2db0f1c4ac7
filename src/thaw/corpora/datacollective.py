"""Mozilla Data Collective, where Common Voice is published since late 2025: from a data set's id to its archive.

The interface is the service's own (POST /api/datasets/{id}/download; its OpenAPI document lies at /api/openapi.json).
It wants an account, the data set's terms accepted in a browser, and a key. It answers with an address that is signed
and short-lived; the address is as secret as the key, and neither is ever shown or written.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaw.corpora.download import Expected, at_hand, download
from thaw.corpora.web import Patience, Say, Transient, checked, passing, request, say, show
from thaw.errors import UserError

BASE = "https://mozilladatacollective.com"
KEY = "MDC_API_KEY"  # the environment variable that the service's own client reads too
MOST_BYTES = 1 << 20  # of an answer


@dataclass(frozen=True)
class Offer:
    """What the service gives for a data set."""

    url: str = field(repr=False)  # signed
    size: int | None  # bytes
    sha256: str  # "" where it gives none
    filename: str


def api_key() -> str:
    """The key from the environment; UserError says where to get one."""
    key = os.environ.get(KEY, "").strip()
    if not key:
        raise UserError(
            f"Mozilla Data Collective wants a key: sign in, make one at {BASE}/profile/credentials, and put it into "
            f"the environment variable {KEY}; or download the archive in a browser and give its path"
        )
    if not all("!" <= character <= "~" for character in key):
        raise UserError(f"{KEY} holds characters that no key has; copy it again from {BASE}/profile/credentials")
    return key


def resolve(
    dataset_id: str, key: str = "", *, base: str = BASE, patience: Patience | None = None, progress: Say = say
) -> Offer:
    """Ask for the address of a data set's archive. Counts against the daily quota of the key's account.

    `key`: from the environment where empty. Raises UserError for whatever the user can mend: the key, the id, terms
    that were not accepted, a used-up quota; and where the service cannot be reached.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", dataset_id):
        raise UserError(f"{dataset_id!r} is not the id of a data set: {_where(base)}")
    key = key or api_key()
    url, patience, failures = f"{base}/api/datasets/{dataset_id}/download", patience or Patience(), 0
    parts = checked(url)
    if parts.scheme != "https" and parts.hostname != "127.0.0.1":
        raise UserError(f"{show(base)}: a key is not sent over plain http")
    while True:
        try:
            return _ask(url, key, dataset_id, base, patience)
        except Transient as error:
            trouble = error
        failures += 1
        patience.rest(trouble, failures, "Mozilla Data Collective", progress)


def fetch_archive(
    dataset_id: str,
    path: Path,
    *,
    sha256: str = "",
    mirror: str = "",
    base: str = BASE,
    patience: Patience | None = None,
    progress: Say = say,
) -> Path:
    """Bring the archive of a data set to `path`, and return `path`. See `download` for what survives what.

    The key is read from the environment, and only where `path` is not there and `mirror` does not have it.
    `sha256`: of the archive; the service's own where empty.
    """
    if at_hand(path, Expected(sha256), mirror, patience, progress):
        return path

    def ask() -> Offer:
        return resolve(dataset_id, base=base, patience=patience, progress=progress)

    offer = ask()
    if sha256 and offer.sha256 and sha256.lower() != offer.sha256:
        raise UserError(
            f"data set {dataset_id}: its archive {offer.filename!r} has the sha256 {offer.sha256}, expected "
            f"{sha256}; correct one of the two"
        )
    return download(
        offer.url,
        path,
        sha256=sha256 or offer.sha256,
        size=offer.size,
        renew=lambda: ask().url,
        patience=patience,
        progress=progress,
    )


def _where(base: str) -> str:
    return f"the id is the last part of its page's address, {base}/datasets/ID"


def _ask(url: str, key: str, dataset_id: str, base: str, patience: Patience) -> Offer:
    headers = {"Content-Type": "application/json"}
    with request(url, patience.timeout, headers, {"Authorization": f"Bearer {key}"}, data=b"") as response:
        if response.status == 200:
            return _offer(_body(response), base)
        raise passing(response) or _refusal(response.status, dataset_id, base)


def _refusal(status: int, dataset_id: str, base: str) -> UserError:
    """What each status means here, after the service's OpenAPI document."""
    page = f"{base}/datasets/{dataset_id}"
    meanings = {
        400: f"takes {dataset_id!r} for no id (400): {_where(base)}",
        401: f"does not accept the key in {KEY} (401); make a new one at {base}/profile/credentials",
        402: f"wants to be paid for the data set (402): see {page}",
        403: f"refuses the data set (403): open {page} in a browser, signed in, accept its terms (some are then "
        "granted by their owner), and try again",
        404: f"has no data set {dataset_id!r} (404): {_where(base)}",
    }
    return UserError(f"Mozilla Data Collective {meanings.get(status, f'gave an answer that is not known ({status})')}")


def _body(response: http.client.HTTPResponse) -> bytes:
    length, body = response.length, b""
    with contextlib.suppress(OSError, http.client.HTTPException):
        body = response.read(MOST_BYTES)
        if length is None or len(body) == min(length, MOST_BYTES):
            return body
    raise Transient("the connection broke in the middle of an answer")


def _offer(body: bytes, base: str) -> Offer:
    """Read the service's answer. What does not fit is not shown: it may hold the signed address."""
    try:
        answer: Any = json.loads(body)
    except ValueError:
        answer = None
    url, size, checksum, filename = (
        answer.get(name) if isinstance(answer, dict) else None
        for name in ("downloadUrl", "sizeBytes", "checksum", "filename")
    )
    digest = str(checksum or "").lower().removeprefix("sha256:")
    number = str(size if size is not None else "")
    if not isinstance(url, str) or not re.fullmatch(r"[0-9a-f]{64}|", digest) or not re.fullmatch(r"\d{0,18}", number):
        raise UserError(
            "Mozilla Data Collective gave an answer that thaw does not understand; its interface may have changed: "
            "download the archive in a browser and give its path"
        )
    if checked(url).scheme != "https" and checked(base).scheme == "https":
        raise UserError(f"Mozilla Data Collective gave an address without https ({show(url)}); refused")
    return Offer(url, int(number) if number else None, digest, str(filename or "archive"))
