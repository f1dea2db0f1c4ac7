"""What every kind of units can do, and which units the heads of a model have: by language, or one for every language.

A file of weights says it in its metadata: {"alphabet": …} where one head has characters, as all have that were written
before there were others, {"heads": {language: units}} where each language has a head, as plain JSON types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from thaw.config.run import RunRecipe
from thaw.config.units import CharacterUnits
from thaw.errors import UserError
from thaw.files import read_json
from thaw.units.characters import Alphabet
from thaw.units.pieces import Pieces
from thaw.units.states import States
from thaw.units.words import Words

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


def units_of(recipe: RunRecipe, file: Path | None = None) -> dict[str, Units]:
    """The units of a recipe's heads: characters, which it says itself, or those in `file`, which `thaw units` made.

    UserError where that file is missing or of another kind.
    """
    wanted = recipe.recipe.units
    if not isinstance(wanted, CharacterUnits):
        if file is None:
            raise UserError(f"units of kind {wanted.kind}: give the file that `thaw units` made of them (--units)")
        units = read_units(file)
        if units.plain()["kind"] != wanted.kind:
            raise UserError(f"{file}: {units.describe()}, where the recipe wants units of kind {wanted.kind}")
        return {EVERY: units}
    alphabets = recipe.heads or {EVERY: recipe.alphabet}
    return {lang: Alphabet(alphabet) for lang, alphabet in sorted(alphabets.items())}


def read_units(path: Path) -> Units:
    """The units in a file by `thaw units`; UserError where it is missing or holds none."""
    try:
        return _made(read_json(path))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not made by `thaw units` ({error!r}); run that rule again") from error
    except UserError as error:
        raise UserError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


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
        case Words.kind:
            return Words(plain["words"])
        case Pieces.kind:
            return Pieces.from_plain(plain)
        case other:
            raise UserError(f"units of kind {other!r} are not known to this version of thaw")
