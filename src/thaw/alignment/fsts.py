"""The lexicon as a transducer from phones to words, for Kaldi: numbers, not names.

Phones: 0 is epsilon, 1 silence, then the phones in order; disambiguation symbols directly above. Words: 0 is epsilon,
1 … n the words, sorted, then `#0`, `<s>` and `</s>`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from thaw.alignment import kaldi
from thaw.alignment.lexicon import SILENCE, Lexicon, Phones

PAUSE_PROBABILITY = 0.5  # of silence at the start, and after each word
START, LOOP, PAUSE, AFTER_PAUSE = 0, 1, 2, 3  # states of the transducer; those of the words follow
PAUSE_COST, NO_PAUSE_COST = -math.log(PAUSE_PROBABILITY), -math.log(1 - PAUSE_PROBABILITY)


@dataclass(frozen=True)
class Symbols:
    """The numbers of phones and words."""

    phones: tuple[str, ...]  # silence first
    words: tuple[str, ...]

    @cached_property
    def phone(self) -> dict[str, int]:
        """Phone -> its number, from 1."""
        return {phone: number for number, phone in enumerate(self.phones, start=1)}

    @cached_property
    def word(self) -> dict[str, int]:
        """Word -> its number, from 1."""
        return {word: number for number, word in enumerate(self.words, start=1)}

    @property
    def phone_zero(self) -> int:
        """`#0` among the phones: the backing off of the language model, passed through the lexicon."""
        return len(self.phones) + 1

    @property
    def word_zero(self) -> int:
        """`#0` among the words."""
        return len(self.words) + 1

    def table(self) -> str:
        """The words as a symbol table in OpenFst's text form."""
        names = ("<eps>", *self.words, "#0", "<s>", "</s>")
        return "".join(f"{name} {number}\n" for number, name in enumerate(names))


def symbols(phones: Sequence[str], lexicon: Lexicon) -> Symbols:
    """Numbers for the phones of a model (silence not among them) and the words of a lexicon."""
    return Symbols((SILENCE, *phones), tuple(lexicon.words))


def lexicon_fst(lexicon: Lexicon, numbers: Symbols) -> Any:
    """Phones to words, with an optional silence at the start and after each word; for training graphs."""
    return _compiled(lexicon, numbers, {}, 0)[0]


def lexicon_fst_for_search(lexicon: Lexicon, numbers: Symbols) -> tuple[Any, list[int]]:
    """The same where no two words sound alike: disambiguation symbols end those that do, and each silence.

    Gives their numbers too, `#0` first. `#0` loops, as the language model's backing off needs; sorted by output.
    """
    marks = _disambiguation(lexicon)
    after_pause = 1 + max(marks.values(), default=0)
    fst, disambiguation = _compiled(lexicon, numbers, marks, after_pause)
    kf = kaldi.fst()
    kf.add_self_loops(fst, [numbers.phone_zero], [numbers.word_zero])
    kf.arcsort(fst, sort_type="olabel")
    return fst, disambiguation


def _disambiguation(lexicon: Lexicon) -> dict[tuple[str, Phones], int]:
    """A number from 1 for each pronunciation that another word shares, or that another one begins with."""
    all_said = [(word, phones) for word, said in lexicon.words.items() for phones in said]
    shared = Counter(phones for _, phones in all_said)
    begun = {phones[:length] for _, phones in all_said for length in range(1, len(phones))}
    used: Counter[Phones] = Counter()
    marks = {}
    for word, phones in all_said:
        if shared[phones] > 1 or phones in begun:
            used[phones] += 1
            marks[word, phones] = used[phones]
    return marks


def _compiled(
    lexicon: Lexicon, numbers: Symbols, marks: dict[tuple[str, Phones], int], after_pause: int
) -> tuple[Any, list[int]]:
    """The transducer; `after_pause` is the number of the symbol after silence, 0 for none."""
    silence = numbers.phone[SILENCE]
    arcs = [
        (START, LOOP, 0, 0, NO_PAUSE_COST),
        (START, PAUSE, 0, 0, PAUSE_COST),
        (PAUSE, AFTER_PAUSE if after_pause else LOOP, silence, 0, 0.0),
    ]
    if after_pause:
        arcs.append((AFTER_PAUSE, LOOP, numbers.phone_zero + after_pause, 0, 0.0))
    free = AFTER_PAUSE + 1
    for word, said in lexicon.words.items():
        for phones in said:
            labels = [numbers.phone[phone] for phone in phones]
            if mark := marks.get((word, phones), 0):
                labels.append(numbers.phone_zero + mark)
            here, output = LOOP, numbers.word[word]
            for label in labels[:-1]:
                arcs.append((here, free, label, output, 0.0))
                here, output, free = free, 0, free + 1
            arcs.append((here, LOOP, labels[-1], output, NO_PAUSE_COST))
            arcs.append((here, PAUSE, labels[-1], output, PAUSE_COST))
    lines = [f"{a} {b} {label} {word} {cost!r}" for a, b, label, word, cost in arcs]
    fst = kaldi.fst().compile("\n".join([*lines, f"{LOOP} 0.0"]) + "\n")
    return fst, [numbers.phone_zero + number for number in range(after_pause + 1)]
