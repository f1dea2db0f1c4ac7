"""The lexicon: how words are said. A text file, one pronunciation a line: word, tab, its phones with spaces between.

A word may have several lines. Phones are whatever the file calls them; `SIL` is the model's own, for pauses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from thaw.errors import UserError, suggestion
from thaw.files import read_text, write_text

SILENCE = "SIL"
RESERVED = ("<eps>", "<s>", "</s>", "#0")  # of Kaldi's and KenLM's symbols: no words
STRESS = str.maketrans("", "", "ˈˌ‿")
FOREIGN = re.compile(r"\([a-z-]+\)")  # how espeak-ng says that it changes the language, inside a word or around it

Phones = tuple[str, ...]


@dataclass(frozen=True)
class Lexicon:
    """Words, sorted, each with its pronunciations in the order of the file."""

    words: dict[str, tuple[Phones, ...]]

    @cached_property
    def phones(self) -> tuple[str, ...]:
        """All phones that words are said with, sorted; silence is not among them."""
        return tuple(sorted({phone for said in self.words.values() for phones in said for phone in phones}))

    def missing(self, text: str) -> list[str]:
        """The words of a text that have no pronunciation, each once, in order."""
        return list(dict.fromkeys(word for word in text.split() if word not in self.words))


def read_lexicon(path: Path, inventory: Sequence[str] = ()) -> Lexicon:
    """Read a lexicon; UserError names the line that is none of one, or has a phone outside a given inventory."""
    words: dict[str, list[Phones]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        word, tab, said = line.partition("\t")
        phones = tuple(said.split())
        if not (tab and phones and word.strip() == word != "") or " " in word:
            raise UserError(f"{path}:{number}: not a line of a lexicon (a word, a tab, its phones)")
        if word in RESERVED:
            raise UserError(f"{path}:{number}: {word!r} is a name of Kaldi's, and can be no word")
        if wrong := next((phone for phone in phones if phone == SILENCE or phone[0] in "#<"), ""):
            raise UserError(f"{path}:{number}: {wrong!r} is a name of thaw's or Kaldi's, and can be no phone of a word")
        if unknown := next((phone for phone in phones if inventory and phone not in inventory), ""):
            raise UserError(f"{path}:{number}: {word!r} has the phone {unknown!r}; {suggestion(unknown, inventory)}")
        if phones not in words.setdefault(word, []):
            words[word].append(phones)
    if not words:
        raise UserError(f"{path}: the lexicon is empty")
    return Lexicon({word: tuple(words[word]) for word in sorted(words)})


def write_lexicon(path: Path, lexicon: Lexicon) -> None:
    """Write a lexicon; equal ones give equal bytes."""
    lines = (f"{word}\t{' '.join(phones)}\n" for word, said in lexicon.words.items() for phones in said)
    write_text(path, "".join(lines))


def known_words(lexicon: Lexicon, phones: Iterable[str]) -> tuple[Lexicon, str]:
    """The pronunciations that a model with these phones can say, and the phones of the others, with spaces between."""
    known = set(phones)
    kept = {word: tuple(one for one in said if known.issuperset(one)) for word, said in lexicon.words.items()}
    wrong = " ".join(phone for phone in lexicon.phones if phone not in known)
    return Lexicon({word: said for word, said in kept.items() if said}), wrong


def by_espeak(words: Iterable[str], voice: str) -> Lexicon:
    """The words as espeak-ng says them one by one in a language of its own (`voices.find_voice` names them).

    A word that it says nothing for is left out.
    """
    from thaw.corpora.espeak import Espeak
    from thaw.corpora.voices import find_voice

    ordered = sorted(set(words))
    said = Espeak(find_voice(voice)).phonemes(ordered)
    found = {word: phones for word, line in zip(ordered, said, strict=True) if (phones := _phones(line))}
    return Lexicon({word: (phones,) for word, phones in found.items()})


def _phones(line: str) -> Phones:
    """The phones in a line of espeak-ng's, without stress and the marks of a change of language."""
    bare = FOREIGN.sub("", line).translate(STRESS).replace(" ", "_")
    return tuple(phone for phone in bare.split("_") if phone)
