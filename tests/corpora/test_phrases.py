"""Sentences: of the right language, the same for the same seed, never shared between splits."""

from __future__ import annotations

import pytest
import yaml

from thaw.config.schema import TextSpec
from thaw.corpora.phrases import bare, find_locale, numbers, sentences, split_of, vocabulary
from thaw.errors import UserError

LOCALES = ["en", "de", "es", "ru", "fr", "it", "pt", "pt_BR", "ro", "ca", "eu", "nl"]


@pytest.fixture(scope="module")
def alphabets() -> dict[str, TextSpec]:
    with open("config/languages.yaml", encoding="utf-8") as file:
        return {name: TextSpec(**entry) for name, entry in yaml.safe_load(file)["languages"].items()}


@pytest.mark.parametrize("locale", LOCALES)
def test_vocabulary_is_in_the_alphabet_of_its_language(locale: str, alphabets: dict[str, TextSpec]) -> None:
    spec = alphabets[locale.split("_")[0]]
    words = vocabulary(locale, 400, seed=1)
    assert len({word.casefold() for word in words}) == 400
    for word in words:
        plain = word.lower()
        for old, new in spec.replace.items():
            plain = plain.replace(old, new)
        assert set(plain) - set(spec.to_space) <= set(spec.alphabet), word


def test_vocabulary_knows_the_language() -> None:
    words = set(vocabulary("de", 200, seed=1))
    assert {"Montag", "Sonntag", "März", "Dezember"} <= words
    assert not {"Monday", "March", "Germany"} & words
    assert {"август", "январь"} <= set(vocabulary("ru", 200, seed=1))  # the dictionary's form, not "января"
    assert "août" in vocabulary("fr", 200, seed=1)


def test_vocabulary_depends_on_the_seed_alone() -> None:
    assert vocabulary("es", 50, seed=1) == vocabulary("es", 50, seed=1)
    assert vocabulary("es", 50, seed=1) != vocabulary("es", 50, seed=2)
    assert vocabulary("es", 50, seed=1) == vocabulary("es", 60, seed=1)[:50]


def test_numbers_are_never_silent_english() -> None:
    assert numbers(find_locale("eu")) == []  # num2words has no Basque
    assert numbers(find_locale("ca"))[21] == "vint-i-un"
    assert numbers(find_locale("pt"))[16] == "dezasseis"
    assert numbers(find_locale("pt-br"))[16] == "dezesseis"


def test_splits_share_words_and_never_a_sentence() -> None:
    words = vocabulary("de", 200, seed=1)
    by_split = {split: sentences(words, split, 300, (1, 3), seed=1) for split in ("train", "dev", "test")}
    bared = {split: set(map(bare, found)) for split, found in by_split.items()}
    assert not bared["train"] & bared["test"]
    assert not bared["train"] & bared["dev"]
    assert not bared["dev"] & bared["test"]
    spoken = {split: {word for text in found for word in text.split()} for split, found in bared.items()}
    assert len(spoken["test"] - spoken["train"]) < 0.1 * len(spoken["test"])


def test_more_sentences_do_not_change_the_earlier() -> None:
    words = vocabulary("en", 100, seed=3)
    assert sentences(words, "dev", 20, (1, 2), seed=3) == sentences(words, "dev", 40, (1, 2), seed=3)[:20]


def test_case_and_punctuation_do_not_make_another_sentence() -> None:
    assert split_of("Montag, März.", 1) == split_of("montag märz", 1)


@pytest.mark.parametrize("locale", ["", "xx", "de;rm", "klingon"])
def test_unknown_locale_names_what_there_is(locale: str) -> None:
    with pytest.raises(UserError, match=r"\bde\b.*\beu\b"):
        vocabulary(locale, 10, seed=1)


def test_phrases_that_cannot_be() -> None:
    words = vocabulary("de", 20, seed=1)
    with pytest.raises(UserError, match="not a range"):
        sentences(words, "train", 1, (3, 1), seed=1)
    with pytest.raises(UserError, match="not a range"):
        sentences(words, "train", 1, (1, 21), seed=1)
    with pytest.raises(UserError, match="too few different sentences"):
        [sentences(words[:1], split, 1, (1, 1), seed=1) for split in ("train", "dev", "test")]
