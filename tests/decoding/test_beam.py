"""flashlight's beam search against a reference that prunes nothing."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.decoding import toy
from thaw.config.decoders import BeamSpec
from thaw.decoding.beam import BeamDecoder
from thaw.errors import UserError
from thaw.units import Alphabet

ALPHABET = Alphabet(toy.CHARACTERS)
EXHAUSTIVE = BeamSpec(kind="beam", beam=5000, beam_threshold=1e6, tokens=50)
GRAMS = toy.make_grams()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm")
    toy.write_arpa(path / "lm.arpa", GRAMS)
    toy.write_lexicon(path / "lexicon.txt")
    return path


@pytest.fixture(scope="module")
def decoder(folder: Path) -> BeamDecoder:
    return BeamDecoder(EXHAUSTIVE, ALPHABET, folder / "lm.arpa", folder / "lexicon.txt")


def test_reference_search_sums_to_one_without_a_language_model() -> None:
    """Its own check: with every string of a one-letter lexicon allowed, nothing of the mass is lost."""
    scores = toy.prefix_search(toy.random_emissions(1, seed=0), GRAMS, 0.0, 0.0)
    frame = np.exp(toy.random_emissions(1, seed=0)[0])
    assert scores[""] == pytest.approx(math.log(frame[toy.BLANK] + frame[toy.SPACE]))
    assert scores["a"] == pytest.approx(math.log(frame[1]))
    assert set(scores) == {"", "a", "c"}


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.93, 1.18), (2.0, -1.0)])
@pytest.mark.parametrize("seed", range(6))
def test_all_scores_agree_with_the_reference(decoder: BeamDecoder, alpha: float, beta: float, seed: int) -> None:
    """Up to two words, whose contexts the trigram model tells apart: every text has the reference's score."""
    emissions = toy.random_emissions(4, seed)
    expected = toy.prefix_search(emissions, GRAMS, alpha, beta)
    found = {h.text: h.score(alpha, beta) for h in decoder.search(alpha, beta).nbest(emissions, 1000)}
    assert found.keys() == expected.keys()
    assert all(found[text] == pytest.approx(expected[text], abs=1e-3) for text in expected)


@pytest.mark.parametrize("seed", range(3))
def test_prefixes_that_the_language_model_cannot_tell_apart_stay_apart(decoder: BeamDecoder, seed: int) -> None:
    """Were they joined, of the texts that end in the same two words (a trigram's context) only the best were found."""
    emissions = toy.random_emissions(7, seed)
    expected = toy.prefix_search(emissions, GRAMS, 0.93, 1.18)
    found = {h.text: h.score(0.93, 1.18) for h in decoder.search(0.93, 1.18).nbest(emissions, 1000)}
    contexts = Counter(tuple(text.split()[-2:]) for text in found if len(text.split()) > 2)
    assert max(contexts.values()) > 2
    assert found.keys() == expected.keys()
    assert all(found[text] == pytest.approx(expected[text], abs=1e-3) for text in expected)


@pytest.mark.parametrize("seed", range(20))
def test_best_text_agrees_with_the_reference(decoder: BeamDecoder, seed: int) -> None:
    emissions = toy.random_emissions(9, 100 + seed)
    expected = toy.prefix_search(emissions, GRAMS, 0.9, 0.5)
    assert decoder.search(0.9, 0.5).nbest(emissions)[0].text == max(expected, key=lambda text: expected[text])


def test_parts_of_the_score_do_not_depend_on_the_weights(decoder: BeamDecoder) -> None:
    """What tuning relies on: acoustic and language scores of a text are its own."""
    emissions = toy.random_emissions(4, seed=3)
    one = {h.text: h for h in decoder.search(0.5, 0.0).nbest(emissions, 1000)}
    two = {h.text: h for h in decoder.search(2.5, 1.0).nbest(emissions, 1000)}
    assert one.keys() == two.keys()
    for text, hypothesis in one.items():
        assert hypothesis.acoustic == pytest.approx(two[text].acoustic, abs=1e-3)
        assert hypothesis.language == pytest.approx(two[text].language, abs=1e-3)
        assert hypothesis.words == len(text.split())


def test_last_word_needs_no_space_and_unfinished_words_are_dropped(decoder: BeamDecoder) -> None:
    search = decoder.search(0.5, 0.0)

    def certain(text: str) -> np.ndarray:
        scores = np.full((len(text), 5), -20.0, np.float32)
        scores[np.arange(len(text)), [toy.BLANK if c == "_" else toy.CHARACTERS.index(c) for c in text]] = 0.0
        return scores

    assert search.nbest(certain("aa_b c"))[0].text == "ab c"
    assert search.nbest(certain("  b_b  _  a "))[0].text == "bb a"
    assert search.nbest(certain("____"))[0].text == ""
    assert search.nbest(np.zeros((0, 5), np.float32))[0].text == ""


def test_narrow_beam_is_deterministic_and_sorted(folder: Path) -> None:
    spec = BeamSpec(kind="beam", beam=8, tokens=3)
    runs = []
    for _ in range(2):
        search = BeamDecoder(spec, ALPHABET, folder / "lm.arpa", folder / "lexicon.txt").search(0.9, 0.5)
        runs.append([search.nbest(toy.random_emissions(30, seed), 5) for seed in range(5)])
    assert runs[0] == runs[1]
    for entries in runs[0]:
        scores = [h.score(0.9, 0.5) for h in entries]
        assert scores == sorted(scores, reverse=True)
        assert len({h.text for h in entries}) == len(entries) <= 5


def test_files_that_do_not_fit_are_named(folder: Path, tmp_path: Path) -> None:
    lm, lexicon = folder / "lm.arpa", folder / "lexicon.txt"
    with pytest.raises(UserError, match="another language"):
        BeamDecoder(EXHAUSTIVE, Alphabet(" ab"), lm, lexicon)
    with pytest.raises(UserError, match="no such file"):
        BeamDecoder(EXHAUSTIVE, ALPHABET, tmp_path / "none.binary", lexicon)
    (tmp_path / "broken.binary").write_bytes(b"not a model")
    with pytest.raises(UserError, match="not a KenLM model"):
        BeamDecoder(EXHAUSTIVE, ALPHABET, tmp_path / "broken.binary", lexicon)
