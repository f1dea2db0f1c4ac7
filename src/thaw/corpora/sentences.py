"""Manifests of text: JSON Lines, one sentence a line, in the order in which the text runs (that of ids).

A line has the keys of a manifest that speak of words: id, lang, speaker (its document), text, text_raw. A manifest of
speech has these too, so its transcripts can be read as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thaw.config.schema import SPLITS, TextSpec
from thaw.corpora.manifest import Built, Row
from thaw.errors import UserError
from thaw.files import Reject, read_jsonl, read_rejects
from thaw.text import normalise
from thaw.units import OutsideAlphabet, describe

KEYS = ("id", "lang", "speaker", "text")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One row of a manifest, as text."""

    id: str
    lang: str
    speaker: str  # the document, where there is no speech
    text: str


def read_sentences(paths: Sequence[Path]) -> list[Sentence]:
    """The sentences of manifests, in their order; UserError where there is none, or a row lacks a key."""
    sentences = [_sentence(row, path) for path in paths for row in read_jsonl(path)]
    if not sentences:
        raise UserError(f"{', '.join(map(str, paths))}: holds no sentence: the text is empty")
    return sentences


def _sentence(row: Row, path: Path) -> Sentence:
    values = [row.get(key) for key in KEYS]
    if not all(isinstance(value, str) for value in values):
        raise UserError(f"{path}: {row.get('id')!r} is no row of thaw's manifests; run the `manifest` rule again")
    return Sentence(*map(str, values))


def is_text(rows: Sequence[Row]) -> bool:
    """Whether a listing is of text: its rows name no clip."""
    return not any("path" in row for row in rows)


def build_text(utterances: Path, rejects_in: Sequence[Path], text: TextSpec) -> Built:
    """The manifests of a listing of text. UserError where a row is incomplete or a split ends up empty.

    Rejected: what holds a character outside the alphabet, what nothing is left of, and in train and dev what test has
    word for word (train: what dev has, too). Of verbatim rows nothing is: they are words between spaces already, and an
    empty one is the end of a line.
    """
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    rejects = [reject for path in rejects_in for reject in read_rejects(path)]
    known: dict[str, str] = {}  # text -> the id that has it
    listing = _listed(utterances)
    for split in ("test", "dev", "train"):
        fresh: dict[str, str] = {}
        for row in listing[split]:
            found = _row(row, text, known)
            if isinstance(found, Reject):
                rejects.append(found)
            else:
                rows[split].append(found)
                fresh.setdefault(found["text"], row["id"])
        known |= {line: name for line, name in fresh.items() if line not in known}
    counts = {split: _counts(rows[split], [one for one in rejects if one.split == split]) for split in SPLITS}
    for split in SPLITS:
        if not any(row["text"] for row in rows[split]):
            why = max(counts[split]["rejected"].items(), key=lambda item: item[1], default=("it lists none", 0))[0]
            raise UserError(f"{utterances}: no sentence of split {split!r} is left: the text is empty ({why})")
    return Built(rows, sorted(rejects), counts)


def _listed(utterances: Path) -> dict[str, list[Row]]:
    """The rows of a listing by split, each in the order of ids."""
    listing: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for number, row in enumerate(read_jsonl(utterances), start=1):
        if not all(isinstance(row.get(key), str) for key in ("id", "text_raw", "speaker", "split", "lang")):
            raise UserError(f"{utterances}: row {number} ({row.get('id')!r}) is no row of a listing of text")
        if row["split"] not in SPLITS:
            raise UserError(f"{utterances}: {row['id']!r} has split {row['split']!r}, not one of {SPLITS}")
        listing[row["split"]].append(row)
    return {split: sorted(rows, key=lambda row: str(row["id"])) for split, rows in listing.items()}


def _row(row: Row, text: TextSpec, known: dict[str, str]) -> Row | Reject:
    """The manifest row of one sentence, or why it has none."""
    raw = row["text_raw"]
    kept = {"id": row["id"], "lang": row["lang"], "speaker": row["speaker"], "text_raw": raw}
    if row.get("verbatim"):
        return kept | {"text": " ".join(raw.split())}
    try:
        normal = normalise(raw, text)
    except OutsideAlphabet as error:
        return Reject(row["id"], row["split"], "manifest", "character outside the alphabet", describe(error.characters))
    if not normal:
        return Reject(row["id"], row["split"], "manifest", "empty text", raw)
    if normal in known:
        return Reject(row["id"], row["split"], "manifest", "same sentence in a held-out split", known[normal])
    return kept | {"text": normal}


def _counts(rows: list[Row], rejects: list[Reject]) -> Row:
    """What a split holds, under the keys that manifests of speech have; there are no hours."""
    return {
        "utterances": len(rows),
        "hours": 0.0,
        "speakers": len({row["speaker"] for row in rows}),
        "characters": sum(len(row["text"]) for row in rows),
        "words": sum(len(row["text"].split()) for row in rows),
        "listed": len(rows) + len(rejects),
        "rejected": dict(sorted(Counter(reject.reason for reject in rejects).items())),
    }
