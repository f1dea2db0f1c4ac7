"""Reader of the user's own corpus as a NeMo manifest: JSON Lines, one utterance a line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thaw.config.sources import ManifestSource, Split
from thaw.corpora.listing import UNKNOWN, Listed, Listing
from thaw.corpora.table import SPLIT_NAMES, finish, own_files
from thaw.errors import UserError
from thaw.files import Reject, read_jsonl


def read(source: ManifestSource) -> Listing:
    """List the user's manifests. A relative `audio_filepath` starts from its manifest's folder.

    Rejected: "malformed row" (no audio_filepath or text), "unknown split", "missing clip", "duplicate id".
    Raises UserError for a file that is no JSON Lines, and for parts of longer recordings (`offset`).
    """
    listing = Listing(Path())
    listing.add(rows(source))
    finish(listing, source)
    return listing


def rows(source: ManifestSource) -> Iterator[Listed | Reject]:
    """What the user's manifests hold; clips are not looked for yet."""
    for split, path in own_files(source):
        yield from _read_manifest(path, split)


def _read_manifest(path: Path, split: Split | None) -> Iterator[Listed | Reject]:
    for number, row in enumerate(read_jsonl(path), start=1):
        at = f"{path.name}:{number}"
        if row.get("offset"):
            raise UserError(
                f"{path}: row {number} is a part of a longer recording (offset {row['offset']}), which is not "
                "supported; cut the audio into one file per utterance"
            )
        try:
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # JSON may hold it, no text can
            yield Reject(at, split or "train", "fetch", "malformed row", "half of a surrogate pair")
            continue
        yield _row(row, path, split, at)


def _row(row: dict[str, Any], path: Path, split: Split | None, at: str) -> Listed | Reject:
    own = SPLIT_NAMES.get(str(row["split"]).lower()) if split is None and "split" in row else split or "train"
    if own is None:
        return Reject(at, "train", "fetch", "unknown split", str(row["split"]))
    file, text = row.get("audio_filepath"), row.get("text")
    if not isinstance(file, str) or not file or not isinstance(text, str):
        return Reject(at, own, "fetch", "malformed row", f"no audio_filepath or text; it has {', '.join(sorted(row))}")
    name = str(row.get("id") or os.path.splitext(file)[0])
    speaker = row.get("speaker")
    return Listed(name, own, text, sys.intern(UNKNOWN if speaker is None else str(speaker)), str(path.parent / file))
