"""The published numbers, as config/published/ holds them: read here, shown apart from ours or beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from thaw.errors import UserError
from thaw.exhibits.spec import ExhibitSpec
from thaw.scoring.measures import MEASURES


@dataclass(frozen=True)
class Published:
    """What a study says of its paper's table of rates. `remarks` are footnotes by treatment."""

    file: str  # in config/published
    title: str
    note: str
    decoder: str  # the kind of decoder they were made with; they stand beside results of that kind alone
    remarks: Mapping[str, str] = field(default_factory=dict)
    split: str = "test"  # and to those of this split


@dataclass(frozen=True)
class PublishedRate:
    """One treatment on one target as published. Rates are fractions; epochs count from 1."""

    treatment: str
    label: str
    target: str
    target_label: str
    rates: Mapping[str, float]  # by the key of the measure
    best_epoch: int = 0  # 0: not published
    curve: str = ""  # key of its losses in the file of curves
    printed: str = ""  # the WER in per cent as the source prints it; "> 42" is a bound, and no rate of its own

    @property
    def bound(self) -> bool:
        """Whether the WER is only known to lie above or below the one given."""
        return self.printed[:1] in ("<", ">")

    def text(self, measure: str) -> str:
        """A rate as tables print it (per cent, a perplexity); empty where it was not published."""
        if measure not in self.rates:
            return ""
        return (
            self.printed
            if self.printed and measure == "word"
            else f"{MEASURES[measure].shown(self.rates[measure]):.1f}"
        )


def published_file(spec: ExhibitSpec, name: str) -> Path:
    """Where the spec says that a published file lies."""
    if name not in spec.published:
        raise UserError(f"exhibit {spec.name}: its spec names no path for the published file {name}")
    return Path(spec.published[name])


def read_table(spec: ExhibitSpec, name: str) -> list[dict[str, str]]:
    """The rows of a published csv; UserError where the spec brings no such file, or it cannot be read."""
    path = published_file(spec, name)
    try:
        return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file (published numbers; they come with thaw)") from error


def read_rates(spec: ExhibitSpec, name: str) -> list[PublishedRate]:
    """Published rates: columns treatment, label, target, target_label, wer; where known cer (or any
    other measure; rates are fractions, a perplexity is itself), best_epoch, curve, printed."""
    found = []
    for line, row in enumerate(read_table(spec, name), start=2):
        try:
            texts = (row["treatment"], row["label"], row["target"], row["target_label"])
            columns = {key: measure.name.lower() for key, measure in MEASURES.items()}
            rates = {key: MEASURES[key].rate(float(row[column])) for key, column in columns.items() if row.get(column)}
            if not rates:
                raise ValueError("no rate")
            epoch = int(row.get("best_epoch") or 0)
            found.append(PublishedRate(*texts, rates, epoch, row.get("curve", ""), row.get("printed", "")))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"{spec.published[name]}:{line}: not a row of published rates ({error!r})") from error
    return found
