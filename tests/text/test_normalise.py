"""Transcript rules: each one, their order, and what is always true of the result."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw.config.schema import TextSpec
from thaw.text import normalise
from thaw.units import OutsideAlphabet

LATIN = " abcdefghijklmnopqrstuvwxyzäöü'"
LANGUAGES: dict[str, TextSpec] = {
    name: TextSpec.model_validate(spec)
    for name, spec in yaml.safe_load(
        (Path(__file__).parents[2] / "config" / "languages.yaml").read_text(encoding="utf-8")
    )["languages"].items()
}


def text_of(raw: str, **rules: Any) -> str:
    return normalise(raw, TextSpec(**({"alphabet": LATIN} | rules)))


def test_a_plain_sentence() -> None:
    assert text_of("„Ja“, sagte er – schön-böse;\tund\u00a0ging…  ") == "ja sagte er schön böse und ging"


def test_decomposed_letters_are_composed_before_anything_else() -> None:
    assert text_of(unicodedata.normalize("NFD", "Über Öl")) == "über öl"
    assert text_of("Straße", replace={unicodedata.normalize("NFD", "ß"): "ss"}) == "strasse"
    assert text_of("Stöße", alphabet=" stoße", replace={unicodedata.normalize("NFD", "ö"): "o"}) == "stoße"


def test_three_policies_for_eszett() -> None:
    assert text_of("Straße", replace={"ß": "ss"}) == "strasse"
    assert text_of("Straße", alphabet=LATIN + "ß") == "straße"
    with pytest.raises(OutsideAlphabet) as caught:
        text_of("Straße")
    assert caught.value.characters == "ß"


def test_compatibility_forms_only_where_asked() -> None:
    assert text_of("ﬁx x²", normal_form="NFKC", alphabet=LATIN + "2") == "fix x2"
    with pytest.raises(OutsideAlphabet):
        text_of("ﬁx")


def test_case() -> None:
    assert text_of("aB", case="upper", alphabet=" AB") == "AB"
    assert text_of("aB", case="keep", alphabet=" aB") == "aB"
    assert text_of("ẞ", alphabet=" ß") == "ß"


def test_changing_case_may_decompose_and_is_composed_again() -> None:
    """Lower-casing İ gives i and a combining dot; upper-casing ΐ gives three characters, two of which compose."""
    with pytest.raises(OutsideAlphabet) as caught:
        text_of("İzmir")
    assert caught.value.characters == "\u0307"
    assert text_of("İzmir", replace={"i\u0307": "i"}) == "izmir"
    assert text_of("\u0390", case="upper", alphabet=" \u03aa\u0301") == "\u03aa\u0301"


def test_replacements_follow_each_other_and_come_before_deletion() -> None:
    assert text_of("1,5", replace={"1": "eins", ",": " komma ", "5": "fünf"}) == "eins komma fünf"
    assert text_of("x", replace={"x": "y", "y": "z"}) == "z"


def test_space_rule_comes_before_deletion() -> None:
    assert text_of("a-b", to_space="-", delete="-") == "a b"
    assert text_of("a-b", to_space="", delete="-") == "ab"


def test_a_deletion_may_compose() -> None:
    assert text_of("a.\u0308") == "ä"


def test_characters_outside_may_be_deleted_and_leave_single_spaces() -> None:
    assert text_of("zwei § 3 drei 4", outside="delete") == "zwei drei"


@pytest.mark.parametrize("raw", ["", "  ", "...!?", " – "])
def test_nothing_may_be_left(raw: str) -> None:
    assert text_of(raw) == ""
    assert text_of("§", outside="delete") == ""


def test_the_house_languages() -> None:
    assert normalise("I don’t know!", LANGUAGES["en"]) == "i don't know"
    assert normalise("Große Übung", LANGUAGES["de"]) == "grosse übung"
    assert normalise("¿Qué? Mañana…", LANGUAGES["es"]) == "qué mañana"


MIXED = st.one_of(
    st.text(max_size=40),
    st.text(
        alphabet="".join(sorted({c for spec in LANGUAGES.values() for c in spec.alphabet})) + "ẞßŞİ.-’ \u0308",
        max_size=40,
    ),
)


@given(raw=MIXED, language=st.sampled_from(sorted(LANGUAGES)))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_normal_text_is_in_the_alphabet_and_stays_as_it_is(raw: str, language: str) -> None:
    spec = LANGUAGES[language].model_copy(update={"outside": "delete"})
    text = normalise(raw, spec)
    assert set(text) <= set(spec.alphabet)
    assert text == text.strip()
    assert "  " not in text
    assert normalise(text, spec) == text


@given(raw=MIXED, language=st.sampled_from(sorted(LANGUAGES)))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_text_is_rejected_exactly_where_something_would_be_deleted(raw: str, language: str) -> None:
    spec = LANGUAGES[language]
    kept = normalise(raw, spec.model_copy(update={"outside": "delete"}))
    # With every character that is outside let in, nothing is rejected: so those were all.
    try:
        assert normalise(raw, spec) == kept
    except OutsideAlphabet as error:
        wider = spec.model_copy(update={"alphabet": spec.alphabet + error.characters})
        assert set(error.characters) <= set(normalise(raw, wider))  # noqa: PT017


@given(raw=st.text(alphabet=LATIN + LATIN.upper() + ".,-!ß\u0308\u00a0", max_size=40))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_normal_forms_of_the_same_text_agree(raw: str) -> None:
    spec = LANGUAGES["de"].model_copy(update={"outside": "delete"})
    forms = {normalise(unicodedata.normalize(form, raw), spec) for form in ("NFC", "NFD")}  # type: ignore[arg-type]
    assert len(forms) == 1
