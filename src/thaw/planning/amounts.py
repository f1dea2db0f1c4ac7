"""How much a corpus holds, as far as that is known before it is there, and sums of which some terms may be unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import fsum

from thaw.config.sources import Split, SyntheticSource

CLIP_SECONDS = 4.2  # of a clip whose length is not known: Common Voice 2 German has 339.3 h in 292,805 clips
PHRASE_SECONDS = 1.0  # of a synthesised clip, per phrase
SPLIT_NAMES: tuple[Split, ...] = ("train", "dev", "test")


# --- quantities -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantity:
    """A sum in which some terms may be unknown."""

    value: float = 0.0
    known: int = 0
    unknown: int = 0

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.value + other.value, self.known + other.known, self.unknown + other.unknown)

    def shown(self, form: Callable[[float], str]) -> str:
        """In words: `-` without terms, `unknown` where none is known, `at least` where some are not."""
        if not self.known:
            return "unknown" if self.unknown else "-"
        return f"at least {form(self.value)}" if self.unknown else form(self.value)


NO_TERMS = Quantity()


def total(terms: Iterable[float | None]) -> Quantity:
    """The sum of terms; None is an unknown one."""
    listed = list(terms)
    values = [term for term in listed if term is not None]
    return Quantity(fsum(values), len(values), len(listed) - len(values))


# --- what goes in -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One split of a corpus."""

    utterances: int
    hours: float


@dataclass(frozen=True)
class Amount:
    """How much a corpus holds, and how that is known."""

    parts: Mapping[Split, Part]
    origin: str

    @property
    def utterances(self) -> int:
        return sum(part.utterances for part in self.parts.values())

    @property
    def hours(self) -> float:
        return fsum(part.hours for part in self.parts.values())

    def __add__(self, other: Amount) -> Amount:
        none = Part(0, 0.0)
        parts: dict[Split, Part] = {}
        for split in SPLIT_NAMES:
            a, b = self.parts.get(split, none), other.parts.get(split, none)
            parts[split] = Part(a.utterances + b.utterances, a.hours + b.hours)
        return Amount(parts, self.origin if self.origin == other.origin else f"{self.origin}; {other.origin}")


def amount(utterances: Mapping[Split, int], clip_seconds: float, origin: str) -> Amount:
    """An amount from counts and the mean length of a clip."""
    return Amount({split: Part(n, n * clip_seconds / 3600) for split, n in utterances.items()}, origin)


def synthetic_amount(source: SyntheticSource) -> Amount:
    """What a synthesised corpus will hold: the counts of its config, and about a second a phrase."""
    seconds = PHRASE_SECONDS * sum(source.phrases) / 2
    counts: dict[Split, int] = {split: getattr(source.utterances, split) for split in SPLIT_NAMES}
    return amount(counts, seconds, f"config; {seconds:g} s a clip assumed")
