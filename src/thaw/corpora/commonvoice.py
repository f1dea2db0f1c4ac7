"""Reader of Common Voice releases 1 to 25: one tab-separated table per split, and a folder of clips.

The tables are read by the names of their columns, since releases differ: `accent` became `accents`, `sentence_id` and
others came later, and `path` had no extension before release 4. A quotation mark is a character like any other there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from thaw.config.sources import Split
from thaw.corpora.listing import ORDER, Listed, Listing
from thaw.errors import UserError
from thaw.files import Reject

CLIPS = "clips"
NEEDED = ("client_id", "path", "sentence")
AUDIO = (".mp3", ".flac", ".wav", ".ogg", ".opus")  # extensions a `path` may have; without one, it is an MP3


def find_release(path: Path, language: str) -> Path:
    """The folder of one language in `path`: the one with the clips.

    `path` may be that folder itself or one up to two levels above it. Raises UserError where there is none, or several.
    """
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; give a Common Voice language folder (with train.tsv and clips/)")
    if (path / CLIPS).is_dir():
        return path
    found = sorted(
        clips.parent for pattern in (f"*/{CLIPS}", f"*/*/{CLIPS}") for clips in path.glob(pattern) if clips.is_dir()
    )
    named = [folder for folder in found if folder.name == language]
    if len(named or found) == 1:
        return (named or found)[0]
    if found:
        raise UserError(f"{path} holds several corpora ({', '.join(map(str, found))}); give the folder of one")
    raise UserError(
        f"{path}: no folder {CLIPS}/ in it; give a Common Voice language folder (with train.tsv and clips/)"
    )


def read(folder: Path, splits: Mapping[Split, str]) -> Listing:
    """List a release: `splits` maps a split to the name of its table in `folder`.

    A row is rejected as "malformed row" (wrong number of cells, not UTF-8, a path outside the folder of clips), as
    "missing clip", or as "duplicate id" of an earlier row (test is read first, then dev, then train). Empty texts are
    listed. Raises UserError for a missing table or column.
    """
    _check_tables(folder, splits)
    listing = Listing(folder / CLIPS)
    # Test first, train last: `train: validated.tsv` is then all validated clips that are not evaluated on.
    tables = ((folder / splits[split], split) for split in ORDER if split in splits)
    listing.add(row for table, split in tables for row in _read_table(table, split))
    return listing


def _check_tables(folder: Path, splits: Mapping[Split, str]) -> None:
    missing = [name for name in splits.values() if not (folder / name).is_file()]
    if not missing:
        return
    if len(missing) == len(splits) and (
        (folder / "validated.tsv").is_file() or any("delta" in name for name in folder.absolute().parts[-2:])
    ):
        raise UserError(
            f"{folder} has no {', '.join(missing)}: it looks like a delta release, which has no splits; "
            "give a full release, or name the tables under `splits`"
        )
    raise UserError(f"{folder} has no {', '.join(missing)}; name its tables under `splits`")


def _read_table(path: Path, split: str) -> Iterator[Listed | Reject]:
    """The rows of one table; clips are not looked for yet."""
    with path.open("rb") as file:
        columns = _header(file.readline(), path)
        width, (speaker, name, text) = len(columns), (columns.index(column) for column in NEEDED)
        # Lines end at "\n" alone, as releases are written: a stray "\r" or U+2028 within a sentence ends nothing.
        for number, line in enumerate(file, start=2):
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if not line:
                continue
            try:
                cells = line.decode("utf-8").split("\t")
            except UnicodeDecodeError:
                yield _malformed(path, number, split, "not UTF-8")
                continue
            if len(cells) != width:
                yield _malformed(path, number, split, f"{len(cells)} cells, not {width}")
                continue
            stem, extension = os.path.splitext(cells[name])
            if extension.lower() not in AUDIO:
                stem, extension = cells[name], ".mp3"
            if not stem or stem.startswith(".") or "/" in stem or "\\" in stem or "\0" in stem:
                yield _malformed(path, number, split, f"path {cells[name]!r} is not the name of a clip")
                continue
            yield Listed(stem, split, cells[text], sys.intern(cells[speaker]), stem + extension)


def _header(line: bytes, path: Path) -> list[str]:
    try:
        columns = line.decode("utf-8-sig").rstrip("\r\n").split("\t")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a UTF-8 text; give the tables as they were published") from None
    missing = [column for column in NEEDED if column not in columns]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)} in its first line (found: {', '.join(columns)[:200]})")
    return columns


def _malformed(path: Path, number: int, split: str, why: str) -> Reject:
    return Reject(f"{path.name}:{number}", split, "fetch", "malformed row", why)
