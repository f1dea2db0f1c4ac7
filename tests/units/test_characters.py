"""Classes and characters, and the frames that CTC needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaw.errors import UserError
from thaw.units import Alphabet, OutsideAlphabet, ctc_frames, describe

GERMAN = Alphabet(" abcdefghijklmnopqrstuvwxyzäöü'")


def test_classes_follow_the_order_and_the_blank_is_last() -> None:
    """DeepSpeech's German network has 32 outputs: 31 characters and the blank."""
    assert GERMAN.encode(" abü'") == [0, 1, 2, 29, 30]
    assert (GERMAN.blank, GERMAN.classes) == (31, 32)


@given(st.text(alphabet=GERMAN.characters))
def test_decode_undoes_encode(text: str) -> None:
    assert GERMAN.decode(GERMAN.encode(text)) == text


def test_characters_outside_are_named_once_and_in_order() -> None:
    with pytest.raises(OutsideAlphabet, match="U\\+0031 '1', U\\+00DF 'ß'") as caught:
        GERMAN.encode("straße 1 gießen")
    assert caught.value.characters == "1ß"
    assert isinstance(caught.value, UserError)


def test_invisible_characters_are_described_by_number_alone() -> None:
    assert describe("é\u200b\ud800") == "U+00E9 'é', U+200B, U+D800"


def test_the_blank_is_no_character() -> None:
    with pytest.raises(IndexError):
        GERMAN.decode([1, 31])
    with pytest.raises(IndexError):
        GERMAN.decode([-1])


@pytest.mark.parametrize("characters", ["", "abca"])
def test_an_alphabet_is_a_set(characters: str) -> None:
    with pytest.raises(UserError, match="different characters"):
        Alphabet(characters)


@pytest.mark.parametrize(("text", "frames"), [("", 0), ("a", 1), ("ab", 2), ("aa", 3), ("aaa", 5), ("hallo", 6)])
def test_ctc_needs_a_blank_between_equal_neighbours(text: str, frames: int) -> None:
    assert ctc_frames(text) == frames
