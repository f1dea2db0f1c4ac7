"""The corpora of a study as counted after every filter, beside what their lists hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.errors import UserError
from thaw.exhibits.frame import as_csv, columns, heading
from thaw.exhibits.grid import NONE, Block, Column, Grid, Printed, written
from thaw.exhibits.spec import CorpusRow, ExhibitSpec
from thaw.files import read_json

SPLITS = ("train", "dev", "test")
COUNTED = ("listed", "utterances", "rejected", "hours", "speakers", "characters", "words")
COLUMNS = columns(
    "scale scale_note study corpus label models source split listed kept rejected rejected_by_reason hours speakers "
    "characters words alphabet_size counts_file"
)
NOTE = (
    "Listed: utterances in the corpus's own lists. Kept: those left after conversion, normalisation and the filters. "
    "Alphabet: output characters, space included, blank not."
)

Counts = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class CorporaTable:
    """Counts by corpus and split."""

    title: str
    apart: tuple[Block, ...] = ()  # published counts

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The table as csv, md, tex and json."""
        counts = [(corpus, split, found) for corpus in spec.corpora for split, found in read_counts(corpus).items()]
        numbers = ("Listed", "Kept", "Hours", "Speakers", "Characters", "Words", "Alphabet")
        titles = (Column("Split", text=True), *map(Column, numbers), Column("Rejected, by reason", text=True))
        block = Block(self.title, "Corpus", titles, tuple(_printed(*one) for one in counts), (NOTE,))
        grid = Grid(f"{spec.study}-{spec.name}", self.title, spec.note, (block,), self.apart)
        return written(grid, as_csv(COLUMNS, (heading(spec) | _row(*one) for one in counts)))


def read_counts(corpus: CorpusRow) -> Counts:
    """A manifest's counts by split, splits in order; UserError where the file is of another shape."""
    found = read_json(Path(corpus.counts))
    try:
        return {split: {key: found[split][key] for key in COUNTED} for split in SPLITS}
    except (KeyError, TypeError) as error:
        raise UserError(f"{corpus.counts}: not the counts that `thaw manifest` writes ({error!r})") from error


def reasons_text(rejected: Mapping[str, int]) -> str:
    """{"too long": 3} -> "3 too long"."""
    return "; ".join(f"{count:,} {reason}" for reason, count in sorted(rejected.items()) if count)


def _printed(corpus: CorpusRow, split: str, counts: Mapping[str, Any]) -> tuple[Printed, ...]:
    whole = [f"{counts[key]:,}" for key in ("listed", "utterances", "speakers", "characters", "words")]
    alphabet = str(len(corpus.alphabet)) if corpus.alphabet else NONE
    texts = [corpus.shown, split, *whole[:2], f"{counts['hours']:.2f}", *whole[2:], alphabet]
    return tuple(map(Printed, [*texts, reasons_text(counts["rejected"]) or "none"]))


def _row(corpus: CorpusRow, split: str, counts: Mapping[str, Any]) -> dict[str, Any]:
    rejected = counts["rejected"]
    return {
        **{key: counts[key] for key in ("listed", "speakers", "characters", "words")},
        "corpus": corpus.name,
        "label": corpus.label,
        "models": corpus.models,
        "source": corpus.source,
        "split": split,
        "kept": counts["utterances"],
        "rejected": sum(rejected.values()),
        "rejected_by_reason": "; ".join(f"{reason}={n}" for reason, n in sorted(rejected.items())),
        "hours": round(counts["hours"], 4),
        "alphabet_size": len(corpus.alphabet) or "",
        "counts_file": corpus.counts,
    }
