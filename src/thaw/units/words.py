"""Words as units: a vocabulary, and `<unk>` for every word beyond it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from thaw.errors import UserError
from thaw.files import read_text

UNKNOWN = "<unk>"
END = "<eos>"  # of a sentence: no unit, but what the task `language-model` adds behind them


class Words:
    """Words as units, in the order of the vocabulary."""

    kind: ClassVar[str] = "words"

    def __init__(self, words: Sequence[str], origin: str = "the vocabulary") -> None:
        """UserError where `words` are no vocabulary: one twice, one that is empty or has spaces, no `<unk>`."""
        self.words = tuple(words)
        self._ids = {word: number for number, word in enumerate(self.words)}
        if UNKNOWN not in self._ids:
            raise UserError(f"{origin} lacks {UNKNOWN}, which stands for every word beyond it: add that line")
        if END in self._ids:
            raise UserError(f"{origin} holds {END}, which is no word: the task adds it")
        if wrong := [word for word in self.words if word.split() != [word]]:
            raise UserError(f"{origin}: {wrong[0]!r} is not one word")
        if len(self._ids) < len(self.words):
            double = next(word for word, count in Counter(self.words).items() if count > 1)
            raise UserError(f"{origin} holds {double!r} twice")

    @property
    def size(self) -> int:
        """Number of words, `<unk>` included."""
        return len(self.words)

    @property
    def unknown(self) -> int:
        """The label of `<unk>`."""
        return self._ids[UNKNOWN]

    def encode(self, text: str) -> list[int]:
        """The label of each word of `text`."""
        return [self._ids.get(word, self.unknown) for word in text.split()]

    def decode(self, ids: Iterable[int]) -> str:
        """The words of labels, a space between them; IndexError for a number that is none."""
        numbers = list(ids)
        if any(not 0 <= number < self.size for number in numbers):
            raise IndexError(f"labels 0 to {self.size - 1} are words; got {numbers}")
        return " ".join(self.words[number] for number in numbers)

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return {"kind": self.kind, "words": list(self.words)}

    def describe(self) -> str:
        """In words: "3,012 words"."""
        return f"{self.size:,} words"


def count_words(sentences: Iterable[str], min_count: int) -> Words:
    """`<unk>`, then all words that occur `min_count` times or more: the commonest first, equals by their letters."""
    counts = Counter(word for sentence in sentences for word in sentence.split())
    kept = [word for word, count in counts.items() if count >= min_count and word not in (UNKNOWN, END)]
    return Words([UNKNOWN, *sorted(kept, key=lambda word: (-counts[word], word))])


def read_words(path: Path) -> Words:
    """The user's own vocabulary, one word a line; `<eos>` among them is passed over."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    return Words([line for line in lines if line not in ("", END)], str(path))
