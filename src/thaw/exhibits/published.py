"""The published numbers, as config/published/ holds them: read here, shown apart from ours or beside them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from thaw.errors import UserError
from thaw.exhibits.measures import Level
from thaw.exhibits.spec import ExhibitSpec
from thaw.files import read_json


@dataclass(frozen=True)
class PublishedRate:
    """One treatment on one target as published. Rates are fractions; epochs count from 1."""

    treatment: str
    label: str
    target: str
    target_label: str
    word: float
    char: float | None = None
    best_epoch: int = 0  # 0: not published
    curve: str = ""  # key of its losses in the file of curves
    printed: str = ""  # the WER in per cent as the source prints it; "> 42" is a bound, and no rate of its own

    @property
    def bound(self) -> bool:
        """Whether the WER is only known to lie above or below the one given."""
        return self.printed[:1] in ("<", ">")

    def rate(self, level: Level) -> float | None:
        """Its WER or CER; None where that was not published."""
        return self.word if level == "word" else self.char

    def text(self, level: Level) -> str:
        """The same in per cent as tables print it; empty where it was not published."""
        rate = self.rate(level)
        if rate is None:
            return ""
        return self.printed if self.printed and level == "word" else f"{100 * rate:.1f}"


@dataclass(frozen=True)
class PublishedCurve:
    """Losses by epoch, the first epoch first."""

    rate: PublishedRate
    train: tuple[float, ...]
    dev: tuple[float, ...]


def read_table(spec: ExhibitSpec, name: str) -> list[dict[str, str]]:
    """The rows of a published csv; UserError where the spec brings no such file, or it cannot be read."""
    path = published_file(spec, name)
    try:
        return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file (published numbers; they come with thaw)") from error


def published_file(spec: ExhibitSpec, name: str) -> Path:
    """Where the spec says that a published file lies."""
    if name not in spec.published:
        raise UserError(f"exhibit {spec.name}: its spec names no path for the published file {name}")
    return Path(spec.published[name])


def read_rates(spec: ExhibitSpec, name: str) -> list[PublishedRate]:
    """Published error rates: columns treatment, label, target, target_label, wer; where known cer, best_epoch, curve,
    printed."""
    rates = []
    for line, row in enumerate(read_table(spec, name), start=2):
        try:
            texts = (row["treatment"], row["label"], row["target"], row["target_label"])
            char = float(row["cer"]) if row.get("cer") else None
            epoch = int(row.get("best_epoch") or 0)
            more = (row.get("curve", ""), row.get("printed", ""))
            rates.append(PublishedRate(*texts, float(row["wer"]), char, epoch, *more))
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(f"{spec.published[name]}:{line}: not a row of published rates ({error!r})") from error
    return rates


def read_curves(spec: ExhibitSpec, rates: list[PublishedRate], name: str) -> list[PublishedCurve]:
    """The published losses behind `rates`, in the same order."""
    losses = read_json(published_file(spec, name))
    curves = []
    for rate in rates:
        if rate.curve not in losses:
            raise UserError(f"{spec.published[name]}: no curve called {rate.curve!r}")
        curve = losses[rate.curve]
        curves.append(PublishedCurve(rate, tuple(curve["train"]), tuple(curve["val"])))
    return curves
