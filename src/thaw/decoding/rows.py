"""What every decoder reads and writes: utterances of a manifest, rows of hypotheses, what of references none can get.

Nothing here needs torch, so that a search starts in a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from thaw.audio.wav import SAMPLE_RATE
from thaw.corpora.manifest import Utterance, read_manifest
from thaw.decoding.greedy import tidy
from thaw.errors import UserError

Row = dict[str, str]


def read_utterances(path: Path) -> list[Utterance]:
    """A manifest's utterances; UserError where there are none."""
    utterances = read_manifest(path)
    if not utterances:
        raise UserError(f"{path}: no utterances; see the table of rejects of this corpus")
    return utterances


def seconds_of(utterances: Iterable[Utterance]) -> float:
    """How long they are together."""
    return sum(utterance.samples for utterance in utterances) / SAMPLE_RATE


def as_rows(texts: Iterable[tuple[Utterance, str]], leave_out: str = "") -> list[Row]:
    """Rows {id, speaker, reference, hypothesis} of utterances with what was recognised in them, sorted by id.

    References and hypotheses lack the characters of `leave_out`.
    """
    rows = [
        {"id": u.id, "speaker": u.speaker, "reference": u.text, "hypothesis": text}
        for u, text in sorted(texts, key=lambda pair: pair[0].id)
    ]
    return [without(leave_out, row) for row in rows] if leave_out else rows


def without(characters: str, row: Row) -> Row:
    """A row whose reference and hypothesis lack these characters."""
    table = dict.fromkeys(map(ord, characters))
    return row | {key: tidy(row[key].translate(table)) for key in ("reference", "hypothesis")}


def check_references(
    texts: Sequence[str], characters: str | None, vocabulary: frozenset[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """What of the references no decoding could get right: characters beyond the alphabet, words beyond the lexicon.

    A model that writes words through a lexicon has no alphabet.
    """
    letters = set(characters or "")
    outside = [text for text in texts if characters is not None and not letters.issuperset(text)]
    facts: dict[str, Any] = {"outside_alphabet": len(outside), "oov_words": None, "oov_rate": None}
    warnings = []
    if outside:
        symbols = "".join(sorted(set("".join(outside)) - letters))
        warnings.append(
            f"{len(outside)} references contain symbols the decoder cannot emit: {symbols}; they count as errors"
        )
    if vocabulary is not None:
        words = [word for text in texts for word in text.split()]
        unknown = sum(word not in vocabulary for word in words)
        facts |= {"oov_words": unknown, "oov_rate": unknown / len(words) if words else 0.0}
    return facts, warnings
