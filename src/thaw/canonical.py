"""Canonical JSON and the hashes drawn from it: what makes two recipes the same recipe."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

DIGEST_CHARS = 10  # 40 bits: names of a few thousand runs, not a security boundary


def canonical_json(value: Any) -> str:
    """`value` (plain types only) as JSON with sorted keys and no spaces; NaN, numpy scalars, paths raise."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def digest(value: Any) -> str:
    """The short hash of `value`'s canonical JSON, as it appears in the names of files."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGEST_CHARS]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
