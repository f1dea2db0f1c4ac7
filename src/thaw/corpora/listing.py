"""What every reader gives: the utterances that a corpus lists, and what was left out of it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from thaw.config.sources import HeldOut, Split
from thaw.errors import UserError
from thaw.files import Reject
from thaw.randomness import seed_of

# The evaluation splits come first, so that they keep a clip that another split has too.
ORDER: tuple[Split, ...] = ("test", "dev", "train")
UNKNOWN = "unknown"  # the speaker where a corpus does not name one
SHOWN = 20  # names in a message, at most


@dataclass(frozen=True, slots=True)
class Listed:
    """One utterance as a corpus lists it."""

    id: str  # mostly the name of the clip without its extension
    split: str
    text: str  # the sentence as published
    speaker: str
    file: str  # the clip, from the folder of clips
    bytes: int = 0  # size of the clip; 0 before it was looked for
    digest: str = ""  # of the clip's file, where it is the user's own; empty before it was read
    start: float = -1.0  # seconds, where it is a part of a longer recording
    end: float = -1.0
    channel: int = 0  # of the recording, from 1; 0: all of them, mixed


@dataclass
class Listing:
    """What a corpus holds, in the order of ids, and what was left out."""

    clips: Path  # the folder of clips
    utterances: list[Listed] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)

    def add(self, found: Iterable[Listed | Reject]) -> None:
        """Take what a table holds, in its order, then sort by id.

        Rejected as "duplicate id": what an earlier row had; as "missing clip": what has no file.
        """
        seen = {utterance.id for utterance in self.utterances}
        for item in found:
            item = self._checked(item, seen) if isinstance(item, Listed) else item
            if isinstance(item, Reject):
                self.rejects.append(item)
            else:
                seen.add(item.id)
                self.utterances.append(item)
        self.utterances.sort(key=lambda utterance: utterance.id)

    def _checked(self, row: Listed, seen: set[str]) -> Listed | Reject:
        if row.id in seen:
            why = "the clip is listed before, here or in another split"
            return Reject(row.id, row.split, "fetch", "duplicate id", why)
        try:
            size = os.stat(self.clips / row.file).st_size
        except (OSError, ValueError):  # ValueError: a NUL in the path
            return Reject(row.id, row.split, "fetch", "missing clip", row.file)
        return replace(row, bytes=size)

    def make_splits(
        self,
        given: Iterable[str],
        held_out: HeldOut,
        speakers: Mapping[Literal["dev", "test"], tuple[str, ...]] | None = None,
    ) -> None:
        """Move whole speakers of train to the splits that are not `given`: those named in `speakers`, else by hash.

        Raises UserError where there are too few speakers, or a named one is not there.
        """
        wanted: list[Literal["dev", "test"]] = [split for split in ("test", "dev") if split not in given]
        there = sorted({utterance.speaker for utterance in self.utterances if utterance.split == "train"})
        named: dict[str, str] = {name: split for split in wanted for name in (speakers or {}).get(split, ())}
        if absent := sorted(named.keys() - set(there)):
            raise UserError(f"speakers: {', '.join(absent)}: not there; the corpus has {shown(there)}")
        if not there:
            return
        rest: list[Split] = [split for split in wanted if split not in named.values()]
        drawn = drawn_splits("speakers", [name for name in there if name not in named], held_out, rest)
        place: dict[str, str] = {**drawn, **named}
        self.utterances = [replace(u, split=place[u.speaker]) if u.split == "train" else u for u in self.utterances]
        # A row that was rejected for its file went with nobody; it is counted where its table has it.

    def make_fold(self, folds: int, fold: int, dev: float) -> None:
        """Give every utterance the split that its speaker has in this fold; see `fold_splits`."""
        place = fold_splits({utterance.speaker for utterance in self.utterances}, folds, fold, dev)
        self.utterances = [replace(u, split=place[u.speaker]) for u in self.utterances]


def fold_splits(speakers: Iterable[str], folds: int, fold: int, dev: float) -> dict[str, Split]:
    """A split for every speaker in fold number `fold` (from 1) of `folds`: a function of the names alone.

    The speakers stand in a circle, in an order drawn by the hash of their names. Each fold tests another arc of it, so
    every speaker is tested once; arcs differ in length by one at most. The share `dev` of all speakers, at least one,
    follows the arc and chooses the epoch; the rest is trained on. Raises UserError where the speakers are too few.
    """
    circle = sorted(set(speakers), key=lambda name: seed_of("fold", name))
    total = len(circle)
    begin, end = total * (fold - 1) // folds, total * fold // folds
    left = total - (end - begin)
    if total < folds or left < 2:
        raise UserError(
            f"{total} speakers ({shown(sorted(circle))}) cannot make {folds} folds with train, dev and test each; "
            "give `folds` at most as many as there are speakers, and three speakers at least"
        )
    chosen = min(max(1, round(dev * total)), left - 1)
    after = [circle[place % total] for place in range(end, end + chosen)]
    splits: dict[str, Split] = dict.fromkeys(circle, "train")
    return splits | dict.fromkeys(circle[begin:end], "test") | dict.fromkeys(after, "dev")


def drawn_splits(
    what: str, names: Iterable[str], held_out: HeldOut, splits: Iterable[Split] = ("test", "dev")
) -> dict[str, Split]:
    """A split for every name: a function of the names alone. At least one name each for `splits` and for train.

    Raises UserError where there are too few; it calls them `what`.
    """
    left = sorted(set(names), key=lambda name: seed_of("split", name))
    shares = {split: getattr(held_out, split) for split in splits}
    wanted = [split for split, share in shares.items() if share]
    total, result = len(left), dict[str, Split]()
    if wanted and total <= len(wanted):
        raise UserError(f"{total} {what} cannot make the splits train, {', '.join(wanted)}; give them another way")
    for place, split in enumerate(wanted, start=1):
        most = len(left) - 1 - len(wanted[place:])
        count = min(max(1, round(shares[split] * total)), most)
        result |= dict.fromkeys(left[:count], split)
        left = left[count:]
    return result | dict.fromkeys(left, "train")


def sentence_key(text: str) -> str:
    """What two spellings of one sentence have in common: its letters and digits, without case, accents and marks."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(" " if not c.isalnum() and not unicodedata.combining(c) else c for c in plain)
    return " ".join("".join(c for c in kept if not unicodedata.combining(c)).split())


def shown(names: list[str]) -> str:
    """Names for a message; the first ones where there are many."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN]) or 'none'}{more}"
