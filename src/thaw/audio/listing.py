"""The utterances a corpus lists (`thaw fetch` writes them): id, clip, transcript, speaker, split."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from thaw.audio.convert import WHOLE, Span
from thaw.config.schema import SPLITS
from thaw.errors import UserError
from thaw.files import read_jsonl

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON may hold them, UTF-8 files cannot


@dataclass(frozen=True, slots=True)
class Clip:
    """One listed utterance; `path` is readable from the current directory."""

    id: str
    path: Path
    text_raw: str
    speaker: str
    split: str
    lang: str
    digest: str = ""  # of its file; empty where nobody but thaw writes there
    span: Span = WHOLE


def read_listing(path: Path) -> list[Clip]:
    """Read a listing, sorted by id. UserError where a key is missing, a split is unknown or an id comes twice."""
    clips = [_clip(row, path, number) for number, row in enumerate(read_jsonl(path), start=1)]
    clips.sort(key=lambda clip: clip.id)
    for before, after in pairwise(clips):
        if before.id == after.id:
            raise UserError(
                f"{path}: id {after.id!r} is listed twice ({before.path}, {after.path}); ids must be unique"
            )
    return clips


def _clip(row: dict[str, object], listing: Path, number: int) -> Clip:
    values = {}
    for key in ("id", "path", "text_raw", "speaker", "split", "lang"):
        value = row.get(key)
        if not isinstance(value, str):
            raise UserError(f"{listing}: utterance {number} ({row.get('id')!r}) has no text under the key {key!r}")
        values[key] = _LONE_SURROGATE.sub("\ufffd", value) if key == "text_raw" else value
    if values["split"] not in SPLITS:
        raise UserError(f"{listing}: utterance {values['id']!r} has split {values['split']!r}, not one of {SPLITS}")
    return Clip(
        id=values["id"],
        path=Path(values["path"]),
        text_raw=values["text_raw"],
        speaker=values["speaker"],
        split=values["split"],
        lang=values["lang"],
        digest=str(row.get("digest", "")),
        span=_span(row, listing, number),
    )


def _span(row: dict[str, object], listing: Path, number: int) -> Span:
    try:
        start, end = (float(str(row.get(key, -1.0))) for key in ("start", "end"))
        return Span(start, end, int(str(row.get("channel", 0))))
    except ValueError as error:
        raise UserError(f"{listing}: utterance {number} ({row.get('id')!r}): start, end or channel: {error}") from None


def file_digest(path: Path) -> str:
    """16 hexadecimal digits of BLAKE2b of a clip's file; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()
    except OSError:
        return ""


def shard_slice(clips: Sequence[Clip], shard: int, shards: int) -> Sequence[Clip]:
    """Shard `shard` (from 0) of `shards`: contiguous, sizes differ by at most one, every clip in exactly one."""
    if not 0 <= shard < shards:
        raise UserError(f"there is no shard {shard} of {shards}: shards are counted from 0 to {shards - 1}")
    return clips[len(clips) * shard // shards : len(clips) * (shard + 1) // shards]
