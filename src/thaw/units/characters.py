"""Output classes: the characters of an alphabet in order, then the CTC blank as the last class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from thaw.errors import UserError


class OutsideAlphabet(UserError):
    """A text holds characters that the alphabet lacks; `characters` are these, sorted, each once."""

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = "".join(sorted(set(characters)))
        super().__init__(f"character outside the alphabet: {describe(self.characters)}")


def describe(characters: str) -> str:
    """Characters by code point, and as they look where they look like anything: "U+00DF 'ß', U+200B"."""
    return ", ".join(f"U+{ord(c):04X} '{c}'" if c.isprintable() else f"U+{ord(c):04X}" for c in characters)


class Alphabet:
    """Characters as units. Classes of a CTC head: 0 … size - 1 the characters, size the blank."""

    kind: ClassVar[str] = "characters"

    def __init__(self, characters: str) -> None:
        if not characters or len(set(characters)) != len(characters):
            raise UserError(f"an alphabet is a string of different characters, not {characters!r}")
        self.characters = characters
        self._ids = {character: number for number, character in enumerate(characters)}

    @property
    def size(self) -> int:
        """Number of characters."""
        return len(self.characters)

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return {"kind": self.kind, "alphabet": self.characters}

    def describe(self) -> str:
        """In words: "27 characters ' abc…'"."""
        return f"{self.size} characters {self.characters!r}"

    @property
    def blank(self) -> int:
        """The class of the CTC blank: the last one."""
        return len(self.characters)

    @property
    def classes(self) -> int:
        """Number of output classes, blank included."""
        return len(self.characters) + 1

    def encode(self, text: str) -> list[int]:
        """Class numbers of `text`; OutsideAlphabet names the characters that have none."""
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            raise OutsideAlphabet(set(text) - self._ids.keys()) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of class numbers (without blanks); IndexError for a class that is no character."""
        numbers = list(ids)
        if any(not 0 <= number < len(self.characters) for number in numbers):
            raise IndexError(f"classes 0 to {len(self.characters) - 1} are characters; got {numbers}")
        return "".join(self.characters[number] for number in numbers)


def ctc_frames(labels: Sequence[object]) -> int:
    """Fewest frames CTC needs for labels, or the characters of a text: one each, and a blank between two equal ones.

    Source: Graves et al. (2006), "Connectionist temporal classification", section 3.1: equal labels in a row stay
    apart only through a blank.
    """
    return len(labels) + sum(left == right for left, right in pairwise(labels))
