"""Edit counts between a reference and a hypothesis: substitutions, deletions, insertions.

Unit costs (Levenshtein). Where several alignments are as short, the split into the three kinds is the one rapidfuzz
gives; their sum is always the minimum.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True)
class Edits:
    """Counts of edits that turn a reference of `ref` items into a hypothesis."""

    sub: int = 0
    del_: int = 0
    ins: int = 0
    ref: int = 0

    @property
    def errors(self) -> int:
        """All edits together; may exceed `ref`."""
        return self.sub + self.del_ + self.ins

    @property
    def total(self) -> int:
        """What a rate divides by: the items of the reference."""
        return self.ref

    def __add__(self, other: Edits) -> Edits:
        return Edits(self.sub + other.sub, self.del_ + other.del_, self.ins + other.ins, self.ref + other.ref)

    def as_dict(self) -> dict[str, int]:
        """The counts as files hold them: {sub, del, ins, ref}."""
        return {"sub": self.sub, "del": self.del_, "ins": self.ins, "ref": self.ref}


def count(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> Edits:
    """Count the edits between two sequences of words (lists) or characters (strings).

    A deletion is an item of the reference that the hypothesis lacks; an insertion, an item it has beyond it.
    """
    kinds = [operation.tag for operation in Levenshtein.editops(reference, hypothesis)]
    return Edits(kinds.count("replace"), kinds.count("delete"), kinds.count("insert"), len(reference))


def count_words(reference: str, hypothesis: str) -> Edits:
    """Edits between the words of two texts; words are what spaces separate."""
    return count(reference.split(), hypothesis.split())


def count_characters(reference: str, hypothesis: str) -> Edits:
    """Edits between the characters of two texts, spaces included, as mozilla/DeepSpeech v0.7.4 counts them."""
    return count(reference, hypothesis)
