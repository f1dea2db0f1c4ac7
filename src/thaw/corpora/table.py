"""Reader of the user's own tables, TSV or CSV: columns by name, clips of any kind that libsndfile reads."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from thaw.config.sources import OwnSource, Split, TableSource
from thaw.corpora.listing import ORDER, UNKNOWN, Listed, Listing
from thaw.errors import UserError
from thaw.files import Reject

# What other toolkits call the splits.
SPLIT_NAMES: dict[str, Split] = {"train": "train", "dev": "dev", "test": "test"}
SPLIT_NAMES |= {"valid": "dev", "val": "dev", "validation": "dev", "training": "train"}


@dataclass(frozen=True)
class Format:
    """How a table is written."""

    columns: Mapping[str, str]  # from path, text, speaker, id, split to the name of the column; "": there is none
    delimiter: str
    quotes: bool  # whether " encloses cells
    least: tuple[str, float] | None = None  # a column, and the least number that a row to learn from has there


def read(source: TableSource) -> Listing:
    """List the user's tables.

    Rejected: "malformed row" (too few or too many cells, no path), "unknown split", "missing clip", "duplicate id".
    Raises UserError for a table that cannot be read or lacks a column.
    """
    listing = Listing(Path())
    listing.add(rows(source))
    finish(listing, source)
    return listing


def rows(source: TableSource) -> Iterator[Listed | Reject]:
    """What the user's tables hold; clips are not looked for yet."""
    for split, path in own_files(source):
        audio = Path(source.audio).expanduser() if source.audio else path.parent
        yield from read_table(path, split, table_format(source, path), audio)


def own_files(source: OwnSource) -> list[tuple[Split | None, Path]]:
    """The files of the user's own corpus, and which split each is; None for one that is all of them."""
    if source.path:
        return [(None, Path(source.path).expanduser())]
    return [(split, Path(source.splits[split]).expanduser()) for split in ORDER if split in source.splits]


def finish(listing: Listing, source: OwnSource) -> None:
    """Make the splits that neither a file nor a row gives."""
    rows: list[Listed | Reject] = [*listing.utterances, *listing.rejects]
    given = {*source.splits, *(row.split for row in rows)}
    if source.folds:
        if own := sorted(given - {"train"}):
            raise UserError(f"folds: the corpus has its own {', '.join(own)}; leave `folds` out, or the splits")
        if not source.fold:
            raise UserError(f"folds: say which with `fold`, from 1 to {source.folds}")
        listing.make_fold(source.folds, source.fold, source.held_out.dev)
        return
    if double := sorted(given & source.speakers.keys()):
        raise UserError(f"speakers: the corpus has its own {', '.join(double)}; leave the names out, or the split")
    listing.make_splits(given, source.held_out, source.speakers)


def table_format(source: TableSource, path: Path) -> Format:
    """How the table at `path` is written: what the source says, else what its name suggests."""
    delimiter = source.delimiter or ("," if path.suffix.lower() == ".csv" else "\t")
    quotes = delimiter != "\t" if source.quotes is None else source.quotes
    return Format(source.columns.model_dump(), delimiter, quotes)


def read_table(path: Path, split: Split | None, form: Format, audio: Path) -> Iterator[Listed | Reject]:
    """The rows of one table; clips are not looked for yet.

    `split`: of all rows; None: as its column says. `audio`: the folder that the clips' paths start from.
    """
    rows = _quoted(path, form.delimiter) if form.quotes else _plain(path, form.delimiter)
    _, names = next(rows, (1, []))
    places = _places(names, path, form)
    place_of_least = _place(form.least[0], names, path) if form.least else 0
    for number, cells in rows:
        if not any(cells):
            continue
        at = f"{path.name}:{number}"
        if len(cells) != len(names):
            yield Reject(at, split or "train", "fetch", "malformed row", f"{len(cells)} cells, not {len(names)}")
            continue
        row = _row(cells, places, split, at, audio)
        if isinstance(row, Listed) and form.least and row.split != "test":
            yield _agreeing(row, cells[place_of_least], form.least)
        else:
            yield row


def _row(cells: list[str], places: dict[str, int], split: Split | None, at: str, audio: Path) -> Listed | Reject:
    cell = {key: cells[place].strip() for key, place in places.items()}
    own = SPLIT_NAMES.get(cell["split"].lower()) if split is None and "split" in cell else split or "train"
    if own is None:
        return Reject(at, "train", "fetch", "unknown split", cell["split"])
    if not cell["path"]:
        return Reject(at, own, "fetch", "malformed row", "no path")
    name = cell.get("id") or os.path.splitext(cell["path"])[0]
    return Listed(name, own, cell["text"], sys.intern(cell.get("speaker") or UNKNOWN), str(audio / cell["path"]))


def _agreeing(row: Listed, cell: str, least: tuple[str, float]) -> Listed | Reject:
    """Some tables say how well audio and text agree."""
    try:
        if float(cell) >= least[1]:
            return row
    except ValueError:
        pass
    return Reject(row.id, row.split, "fetch", f"{least[0]} too low", cell)


def _places(names: list[str], path: Path, form: Format) -> dict[str, int]:
    return {key: _place(name, names, path) for key, name in form.columns.items() if name}


def _place(name: str, names: list[str], path: Path) -> int:
    if name not in names:
        found = ", ".join(map(repr, names))[:300] or "nothing"
        raise UserError(
            f"{path}: no column {name!r} in its first line, which has {found}; "
            "name the columns under `columns`, and check `delimiter`"
        )
    return names.index(name)


def _plain(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Lines and their cells. Only a newline ends a line, and a quotation mark is a character like any other."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                yield number, text.removesuffix("\n").removesuffix("\r").split(delimiter)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _quoted(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows and their cells, where quotation marks may enclose delimiters and newlines."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for cells in reader:
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f'{path}:{reader.line_num}: {error}; if " is a character there, set `quotes: false`') from None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> UserError:
    if isinstance(error, OSError):
        return UserError(f"{path}: {error.strerror or error}; name the table that you have")
    return UserError(f"{path}: not a UTF-8 text (byte {error.start} of a line or block); save it as UTF-8")
