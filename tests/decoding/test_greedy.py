"""Greedy decoding by hand."""

from __future__ import annotations

import numpy as np
import torch

from thaw.decoding.greedy import collapse, greedy
from thaw.units import Alphabet

ALPHABET = Alphabet(" abc")


def path(text: str) -> np.ndarray:
    """Scores (T, V) whose best classes spell `text`; _ is the blank."""
    scores = np.random.default_rng(0).uniform(0, 0.5, (len(text), ALPHABET.classes))
    scores[np.arange(len(text)), [4 if c == "_" else " abc".index(c) for c in text]] = 1.0
    return scores


def test_repeats_merge_and_blanks_separate() -> None:
    assert collapse(np.array([1, 1, 4, 1, 2, 4, 4]), blank=4) == [1, 1, 2]
    assert collapse(np.array([4, 4]), blank=4) == []
    assert collapse(np.array([], dtype=np.int64), blank=4) == []


def test_text_of_the_best_path() -> None:
    assert greedy(path("_aa_ab_ _bb_c"), ALPHABET) == "aab bc"
    assert greedy(path("____"), ALPHABET) == ""
    assert greedy(np.zeros((0, 5)), ALPHABET) == ""


def test_spaces_are_as_in_references() -> None:
    assert greedy(path(" _ a _ _b "), ALPHABET) == "a b"


def test_tensors_and_logits_do_as_well() -> None:
    assert greedy(torch.from_numpy(path("a_a") * 7 + 3), ALPHABET) == "aa"


def test_ties_go_to_the_lower_class() -> None:
    assert greedy(np.zeros((3, 5)), ALPHABET) == ""  # class 0, the space
