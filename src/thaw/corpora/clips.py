"""The user's own clips: a digest of each in the listing, and which of them were replaced since.

Beside a listing lie the stamps of its clips: size, times and digest. A clip whose size and times are as they were is
not read again. The stamps are no output of a rule, so that another listing of the corpus finds those of the last one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from thaw.audio.listing import file_digest
from thaw.corpora.listing import Listed, Listing, shown
from thaw.errors import UserError
from thaw.files import read_jsonl, write_jsonl

STAMPS = "clips.jsonl"


@dataclass(frozen=True, slots=True)
class Stamp:
    """A clip's file as it was when it was read. Times are of change and of status change, in ns."""

    size: int
    modified: int
    changed: int
    digest: str


def stamped(listing: Listing, stamps: Path, threads: int = 0) -> list[Listed]:
    """The utterances with the digests of their clips; `stamps` is read and written. Says which clips were replaced."""
    before = _read_stamps(stamps)
    files = [listing.clips / utterance.file for utterance in listing.utterances]
    paths = list(dict.fromkeys(files))  # several utterances may be parts of one recording
    with ThreadPoolExecutor(threads or None) as pool:
        now = list(pool.map(lambda path: _stamp(path, before.get(str(path))), paths))
    changed = [str(p) for p, one in zip(paths, now, strict=True) if _other(before.get(str(p)), one)]
    if changed:
        print(f"fetch: {len(changed)} clips were replaced since they were listed: {shown(changed)}", file=sys.stderr)
    rows = zip(paths, now, strict=True)
    write_jsonl(stamps, ({"path": str(p), **{k: getattr(s, k) for k in Stamp.__slots__}} for p, s in rows))
    digests = {path: one.digest for path, one in zip(paths, now, strict=True)}
    return [replace(u, digest=digests[path]) for u, path in zip(listing.utterances, files, strict=True)]


def replaced(stamps: Path) -> Iterator[str]:
    """What became of the clips of a listing: paths of those with other bytes than then, and of those that are gone."""
    for path, before in _read_stamps(stamps).items():
        if not Path(path).exists():
            yield f"{path} is gone"
        elif _stamp(Path(path), before).digest != before.digest:
            yield f"{path} was replaced"


def _other(before: Stamp | None, now: Stamp) -> bool:
    return before is not None and before.digest != now.digest


def _stamp(path: Path, before: Stamp | None) -> Stamp:
    stat = path.stat()
    size, modified, changed = stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
    if before is not None and (before.size, before.modified, before.changed) == (size, modified, changed):
        return before
    return Stamp(size, modified, changed, file_digest(path))


def _read_stamps(path: Path) -> dict[str, Stamp]:
    """Those of an earlier listing; none where they are not there, or damaged: all clips are read then."""
    try:
        rows = read_jsonl(path) if path.exists() else []
        return {row.pop("path"): Stamp(**row) for row in rows}
    except (UserError, TypeError, KeyError, AttributeError, UnicodeDecodeError):
        return {}
