"""What files of weights say of their heads' units, and how it is read back."""

from __future__ import annotations

import pytest

from thaw.errors import UserError
from thaw.units import EVERY, Alphabet, metadata_of, of_language, units_from


def test_one_head_of_characters_is_said_as_it_always_was() -> None:
    assert metadata_of({EVERY: Alphabet(" ab")}) == {"alphabet": " ab"}


@pytest.mark.parametrize("alphabets", [{EVERY: " ab"}, {"de": " äb", "en": "ab '"}])
def test_units_come_back(alphabets: dict[str, str]) -> None:
    units = {lang: Alphabet(alphabet) for lang, alphabet in alphabets.items()}
    again = units_from(metadata_of(units))
    assert {lang: each.plain() for lang, each in again.items()} == {lang: each.plain() for lang, each in units.items()}
    assert all(
        each.decode(each.encode("b")) == "b" and each.size == len(alphabets[lang]) for lang, each in again.items()
    )


def test_units_of_a_later_version_are_named() -> None:
    with pytest.raises(UserError, match="units of kind 'pieces' are not known"):
        units_from({"units": {"kind": "pieces", "model": "x"}})
    with pytest.raises(KeyError):
        units_from({"model": {}})


def test_a_head_for_every_language_or_one_for_each() -> None:
    assert of_language({EVERY: 1}, "de") == 1
    assert of_language({"de": 1, "en": 2}, "en") == 2
    with pytest.raises(UserError, match="no head for language 'fr'; the heads are those of de, en"):
        of_language({"de": 1, "en": 2}, "fr")


def test_words_for_people() -> None:
    assert Alphabet(" ab").describe() == "3 characters ' ab'"
