"""Transcripts to the text a model is trained on: the rules of a TextSpec, in the order of its fields."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from thaw.config.schema import TextSpec
from thaw.units.characters import OutsideAlphabet


def normalise(text_raw: str, spec: TextSpec) -> str:
    """Normal form, case, replacements, characters to spaces, deletions, single spaces, then the alphabet.

    The result may be empty. Raises OutsideAlphabet where `spec.outside` is "reject" and characters remain outside.
    """
    text = _cased(unicodedata.normalize(spec.normal_form, text_raw), spec)
    for old, new in spec.replace.items():
        text = text.replace(unicodedata.normalize(spec.normal_form, old), new)
    text = text.translate(_table(spec.to_space, spec.delete))
    # A deletion may leave a letter beside the accent it now composes with.
    text = _single_spaces(unicodedata.normalize(spec.normal_form, text))
    outside = set(text).difference(spec.alphabet)
    if not outside:
        return text
    if spec.outside == "reject":
        raise OutsideAlphabet(outside)
    return _single_spaces("".join(character for character in text if character not in outside))


def _cased(text: str, spec: TextSpec) -> str:
    if spec.case == "keep":
        return text
    text = text.lower() if spec.case == "lower" else text.upper()
    # Changing case may decompose: "İ" becomes "i" with a combining dot above.
    return unicodedata.normalize(spec.normal_form, text)


@lru_cache(maxsize=16)
def _table(to_space: str, delete: str) -> dict[int, str | None]:
    """A `str.translate` table; a character in both becomes a space, since that rule comes first."""
    return {ord(c): None for c in delete} | {ord(c): " " for c in to_space}


def _single_spaces(text: str) -> str:
    """Any run of white space becomes one space; none at the ends."""
    return " ".join(text.split())
