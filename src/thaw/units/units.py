"""What every kind of units can do, and which units the heads of a model have: by language, or one for every language.

A file of weights says it in its metadata: {"alphabet": …} where one head has characters, as all have that were written
before there were others, {"heads": {language: units}} where each language has a head, as plain JSON types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

from thaw.config.run import RunRecipe
from thaw.errors import UserError
from thaw.units.characters import Alphabet
from thaw.units.states import States

EVERY = ""  # stands for all languages, where they share a head

T = TypeVar("T")
ByLanguage = Mapping[str, T]  # of the heads of a model: {EVERY: one} or {language: its own}


class Units(Protocol):
    """The labels of a head, numbered from 0. What a task adds to them (a blank, an end) comes after."""

    @property
    def size(self) -> int:
        """How many labels there are."""

    def encode(self, text: str) -> list[int]:
        """The labels of `text`; UserError where it cannot be written with them."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of labels; IndexError for a number that is none."""

    def plain(self) -> dict[str, Any]:
        """What they are, as JSON types: `kind`, and all that it takes to make them again."""

    def describe(self) -> str:
        """What they are, in a few words."""


def of_language(heads: ByLanguage[T], lang: str) -> T:
    """What the head of a language has; UserError where none serves it."""
    if EVERY in heads:
        return heads[EVERY]
    if lang not in heads:
        raise UserError(f"no head for language {lang!r}; the heads are those of {', '.join(heads)}")
    return heads[lang]


def units_of(recipe: RunRecipe) -> dict[str, Units]:
    """The units of a recipe's heads, where the recipe alone says what they are: characters."""
    alphabets = recipe.heads or {EVERY: recipe.alphabet}
    return {lang: Alphabet(alphabet) for lang, alphabet in sorted(alphabets.items())}


def metadata_of(units: ByLanguage[Units]) -> dict[str, Any]:
    """What a file of weights says of its heads."""
    if EVERY not in units:
        return {"heads": {lang: each.plain() for lang, each in units.items()}}
    only = units[EVERY].plain()
    return {"alphabet": only["alphabet"]} if only["kind"] == Alphabet.kind else {"units": only}


def units_from(meta: Mapping[str, Any]) -> dict[str, Units]:
    """The units of the heads of a file, by its metadata; KeyError, TypeError or UserError where it does not say."""
    if "alphabet" in meta:
        return {EVERY: Alphabet(meta["alphabet"])}
    heads = {EVERY: meta["units"]} if "units" in meta else meta["heads"]
    return {lang: _made(plain) for lang, plain in heads.items()}


def _made(plain: Mapping[str, Any]) -> Units:
    match plain["kind"]:
        case Alphabet.kind:
            return Alphabet(plain["alphabet"])
        case States.kind:
            return States(plain["count"], plain["inventory"])
    raise UserError(f"units of kind {plain['kind']!r} are not known to this version of thaw")
