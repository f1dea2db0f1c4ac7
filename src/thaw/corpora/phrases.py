"""Sentences in many languages without writing any: names from Unicode's CLDR (by Babel) and numbers (by num2words).

A vocabulary of phrases (countries, languages, days, months, spelled numbers) is drawn for a locale; a sentence is a few
of them. The splits share the vocabulary, so that a word language model is of use, and never a sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import num2words
from babel import Locale, UnknownLocaleError
from babel.localedata import locale_identifiers

from thaw.errors import UserError
from thaw.randomness import rng, seed_of

NUMBERS = range(100)
NOT_NAMES = {"XA", "XB", "ZZ", "und", "zxx", "mul"}  # CLDR's test locales, "unknown region", "no linguistic content"
MAX_WORDS, MAX_CHARACTERS = 3, 24  # of a phrase: short clips, and no "South Georgia & South Sandwich Islands"
COMMON_LETTER = 0.01  # share of names with a letter below which it is foreign (the å of Åland in German)
BRACKETS = re.compile(r"\s*\([^)]*\)")
WORD = re.compile(r"[^\W\d_ʼ]+(?:['’ʼ·-][^\W\d_ʼ]+)*")  # letters, held together by apostrophe, middle dot or hyphen
SHARES = {"train": 6, "dev": 2, "test": 2}  # of all possible sentences; a sentence's own hash says which split's it is
SAME_LENGTH_TRIES, LENGTH_TRIES = 100, 50


def find_locale(name: str) -> Locale:
    """CLDR's locale called `name` ("de", "pt_BR", "pt-br"); UserError lists the languages there are."""
    try:
        return Locale.parse(name.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        known = ", ".join(sorted(code for code in locale_identifiers() if "_" not in code and code != "root"))
        raise UserError(
            f"locale {name!r}: CLDR has no such locale; choose one of {known} (or with a region, such as pt_BR)"
        ) from None


def numbers(locale: Locale) -> list[str]:
    """Zero to ninety-nine in words; empty where num2words does not know the language (it never falls back here)."""
    for code in (str(locale), locale.language):
        if code in num2words.CONVERTER_CLASSES:
            return [num2words.num2words(number, lang=code) for number in NUMBERS]
    return []


def _names(table: Mapping[str, str], left_out: Iterable[str] = ()) -> list[str]:
    """The names of a CLDR table in the order of their codes, without bracketed parts, bare codes and acronyms."""
    outside = {name.casefold() for name in left_out}
    codes = [code for code in sorted(table) if "_" not in code and code not in NOT_NAMES and table[code] != code]
    names = [BRACKETS.sub("", table[code]) for code in codes]
    return [name for name in names if name.casefold() not in outside and not _has_acronym(name)]


def _has_acronym(name: str) -> bool:
    return any(len(word) > 1 and word.isupper() for word in WORD.findall(name))


def _calendar(locale: Locale, table: str) -> list[str]:
    contexts = getattr(locale, table)
    # "stand-alone" is the form of dictionaries (Russian "январь"); "format" is the one inside a date ("января").
    names = contexts.get("stand-alone", {}).get("wide") or contexts["format"]["wide"]
    return [names[key] for key in sorted(names)]


def _pool(locale: Locale) -> list[list[str]]:
    """All phrases of a locale by kind: days, months, numbers, countries, languages."""
    # Some locales leave rare languages in English ("faroese" in Italian): names that equal the English are dropped.
    english = Locale("en").languages.values() if locale.language != "en" else ()
    kinds = [
        _calendar(locale, "days"),
        _calendar(locale, "months"),
        numbers(locale),
        _names(locale.territories),
        _names(locale.languages, left_out=english),
    ]
    kinds = [[phrase for phrase in kind if _speaks_well(phrase)] for kind in kinds]
    own = {letter for kind in kinds[:3] for phrase in kind for letter in phrase.casefold()}
    counts = Counter(letter for kind in kinds[3:] for phrase in kind for letter in set(phrase.casefold()))
    own |= {letter for letter, count in counts.items() if count >= COMMON_LETTER * sum(map(len, kinds[3:]))}
    return [[phrase for phrase in kind if own.issuperset(phrase.casefold())] for kind in kinds]


def _speaks_well(phrase: str) -> bool:
    words = phrase.split(" ")
    return len(words) <= MAX_WORDS and 2 <= len(phrase) <= MAX_CHARACTERS and all(map(WORD.fullmatch, words))


def vocabulary(locale_name: str, size: int, seed: int) -> list[str]:
    """At most `size` different phrases of a locale, taken in turn from each kind; the same for the same arguments.

    Raises UserError for an unknown locale, and for one that leaves next to nothing to say (Hindi: vowel signs are
    no letters to Python).
    """
    kinds = _pool(find_locale(locale_name))
    for number, kind in enumerate(kinds):
        rng(seed, "vocabulary", locale_name, number).shuffle(kind)
    chosen: dict[str, str] = {}
    for turn in range(max(map(len, kinds))):
        for kind in kinds:
            if turn < len(kind) and len(chosen) < size:
                chosen.setdefault(kind[turn].casefold(), kind[turn])
    if len(chosen) < min(size, 20):
        raise UserError(
            f"locale {locale_name!r}: only {len(chosen)} phrases of it can be spoken; choose another locale"
        )
    return list(chosen.values())


def bare(sentence: str) -> str:
    """A sentence without its punctuation and case: two sentences that are alike in this are the same sentence."""
    return " ".join(WORD.findall(sentence.casefold()))


def split_of(sentence: str, seed: int) -> str:
    """The only split that may hold this sentence. It depends on the sentence alone, so splits can never share one."""
    place = seed_of(seed, "split of", bare(sentence)) % sum(SHARES.values())
    for split, share in SHARES.items():
        if place < share:
            return split
        place -= share
    raise AssertionError("shares cover every place")


def sentences(words: list[str], split: str, count: int, lengths: tuple[int, int], seed: int) -> list[str]:
    """`count` sentences of one split, each of `lengths` phrases (fewest, most); repeats only where phrases run out.

    More sentences do not change the earlier ones. Raises UserError where the split cannot have any.
    """
    fewest, most = lengths
    if not fewest <= most <= len(words):
        raise UserError(f"phrases: [{fewest}, {most}] is not a range within the {len(words)} phrases of the vocabulary")
    seen: set[str] = set()
    return [_sentence(words, split, index, lengths, seed, seen) for index in range(count)]


def _sentence(words: list[str], split: str, index: int, lengths: tuple[int, int], seed: int, seen: set[str]) -> str:
    draw = rng(seed, "sentence", split, index)
    for _ in range(LENGTH_TRIES):
        # The length is drawn first and kept, or short sentences, soon used up, would give way to long ones.
        length = int(draw.integers(lengths[0], lengths[1] + 1))
        repeated = ""
        for _ in range(SAME_LENGTH_TRIES):
            sentence = ", ".join(words[i] for i in draw.choice(len(words), size=length, replace=False)) + "."
            if split_of(sentence, seed) == split:
                if bare(sentence) not in seen:
                    seen.add(bare(sentence))
                    return sentence
                repeated = sentence
        if repeated:
            return repeated
    raise UserError(
        f"{len(words)} phrases, {lengths[0]} to {lengths[1]} in a sentence: too few different sentences for a {split} "
        "split; raise vocabulary or phrases"
    )
