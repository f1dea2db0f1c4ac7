"""espeak-ng says the same thing the same way, whatever it said before."""

from __future__ import annotations

import os
import time
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest

from thaw.corpora.espeak import SAMPLE_RATE, Espeak, Manner
from thaw.corpora.speakers import FEMALE, MALE
from thaw.corpora.voices import find_voice
from thaw.errors import UserError

TEXT = "Guten Tag, Deutschland."


def manner(variant: str = "m1", rate: int = 150) -> Manner:
    return Manner(variant, rate, pitch=50, range=50)


def test_nothing_of_a_clip_is_left_in_the_next() -> None:
    espeak = Espeak("gmw/de")
    first = espeak.say(TEXT, manner())
    espeak.say("Etwas ganz anderes!", manner("f3", 200))
    assert np.array_equal(first, espeak.say(TEXT, manner()))
    assert np.array_equal(first, Espeak("gmw/de").say(TEXT, manner()))


def test_data_in_a_deep_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = Espeak("gmw/de").say(TEXT, manner())
    deep = tmp_path / ("x" * 200)
    deep.mkdir()
    (deep / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep / "espeak-ng-data"))
    here = os.getcwd()
    assert np.array_equal(Espeak("gmw/de").say(TEXT, manner()), want)
    assert os.getcwd() == here


def test_breath_does_not_depend_on_the_time_of_day() -> None:
    espeak = Espeak("gmw/de")
    first = [espeak.say(TEXT, manner(variant)) for variant in ("f2", "f3", "f5")]
    time.sleep(1.1)  # espeak-ng's own seed is the clock's second
    for variant, want in zip(("f2", "f3", "f5"), first, strict=True):
        assert np.array_equal(espeak.say(TEXT, manner(variant)), want)


@pytest.mark.parametrize("variant", MALE + FEMALE)
def test_every_variant_sounds_and_is_its_own(variant: str) -> None:
    espeak = Espeak("gmw/de")
    sound = espeak.say(TEXT, manner(variant))
    assert 1.0 < len(sound) / SAMPLE_RATE < 3.0
    assert 3000 < np.abs(sound.astype(int)).max() < 32767  # loud, and not clipped
    assert not np.array_equal(sound, espeak.say(TEXT, manner("m8")))


def test_settings_are_heard() -> None:
    espeak = Espeak("gmw/de")
    assert len(espeak.say(TEXT, manner(rate=120))) > 1.2 * len(espeak.say(TEXT, manner(rate=180)))


def test_voices_are_found_by_file_and_by_language() -> None:
    assert find_voice("de") == "gmw/de"
    assert find_voice("en-us") == "gmw/en-US"
    assert find_voice("pt_BR") == "roa/pt-BR"
    assert find_voice("fr-fr") == "roa/fr"


@pytest.mark.parametrize("voice", ["", "xx", "de+whisper", "../de"])
def test_unknown_voice_names_what_there_is(voice: str) -> None:
    with pytest.raises(UserError, match=r"\bde\b.*\ben-us\b"):
        find_voice(voice)


def test_a_broken_child_is_an_error() -> None:
    with pytest.raises(UserError, match="nosuchvariant"):
        Espeak("gmw/de").say(TEXT, manner("nosuchvariant"))
    with pytest.raises(UserError, match="could not say"):
        Espeak("gmw/de").say("", manner())


def test_timed_speech_is_the_same_speech_and_says_when_each_phoneme_begins() -> None:
    espeak = Espeak(find_voice("es"))
    manner = Manner("m3", 160, 50, 50)
    sound, phones = espeak.say_timed("hola señor", manner)
    np.testing.assert_array_equal(sound, espeak.say("hola señor", manner))
    assert [name.replace("ˈ", "") for name, _ in phones if name] == ["o", "l", "a", "s", "e", "ɲ", "o", "ɾ"]
    begins = [second for _, second in phones]
    assert begins == sorted(begins)
    assert begins[0] == 0.0
    assert begins[-1] <= len(sound) / SAMPLE_RATE


def test_phonemes_come_a_line_for_each_word() -> None:
    assert Espeak(find_voice("es")).phonemes(["perro", "", "sí"]) == ["p_ˈe_r_o", "", "s_ˈi"]
