from __future__ import annotations

import numpy as np
import pytest

from thaw.alignment.acoustic import Hmm
from thaw.alignment.tree import (
    EDGE,
    PLACES,
    SILENCE,
    ContextStats,
    Leaf,
    Question,
    grow,
    likelihood,
    questions,
    to_kaldi,
    without_context,
)

PHONES = 5  # silence and four others; 2 and 3 sound alike, so do 4 and 5
LEAVES = 40


def stats_of_a_language(frames: int = 20000) -> tuple[ContextStats, np.ndarray, np.ndarray]:
    """Frames of random contexts: what is heard depends on the centre, and on the right phone's class."""
    draw = np.random.default_rng(3)
    left, right = draw.integers(0, PHONES + 1, (2, frames))
    centre, place = draw.integers(1, PHONES + 1, frames), draw.integers(0, PLACES, frames)
    left[centre == SILENCE] = right[centre == SILENCE] = EDGE
    contexts = np.stack([left, centre, right, place], axis=1)
    kind = np.array([0, 0, 1, 1, 3, 3])
    mean = 4.0 * kind[centre] + 0.3 * centre + np.where(centre == SILENCE, 0.0, 2.0 * (kind[right] == 3))
    heard = (mean[:, None] + draw.normal(size=(frames, 2))).astype(np.float32)
    return ContextStats.of(contexts, heard), contexts, heard


def test_statistics_of_parts_add_up() -> None:
    whole, contexts, heard = stats_of_a_language()
    parts = [ContextStats.of(contexts[a : a + 7000], heard[a : a + 7000]) for a in range(0, len(heard), 7000)]
    added = ContextStats.together(parts)
    np.testing.assert_array_equal(added.contexts, whole.contexts)
    np.testing.assert_allclose(added.sums, whole.sums, rtol=1e-9)
    assert whole.count.sum() == len(heard)


def test_likelihood_is_that_of_the_best_gaussian() -> None:
    heard = np.random.default_rng(1).normal(2.0, 3.0, (50, 2))
    mean, variance = heard.mean(axis=0), heard.var(axis=0)
    by_hand = -0.5 * np.sum(np.log(2 * np.pi * variance) + (heard - mean) ** 2 / variance)
    found = likelihood(np.asarray(50.0), heard.sum(axis=0), (heard**2).sum(axis=0))
    assert float(found) == pytest.approx(by_hand)
    assert float(likelihood(np.asarray(0.0), np.zeros(2), np.zeros(2))) == 0.0


def test_questions_are_the_sets_that_sound_alike() -> None:
    stats, _, _ = stats_of_a_language()
    asked = questions(stats, PHONES)
    assert asked[:2] == [frozenset({EDGE}), frozenset({SILENCE})]
    assert {frozenset({2, 3}), frozenset({4, 5})} <= set(asked)
    assert len(asked) == len(set(asked))


def test_the_tree_asks_what_matters_and_kaldi_reads_the_same_tree() -> None:
    stats, _, _ = stats_of_a_language()
    tree, leaves = grow(stats, PHONES, LEAVES)
    assert tree.num_states == len(leaves) <= LEAVES
    root = tree.roots[2 - 1][0]
    assert isinstance(root, Question)
    assert root.key == 2  # the right phone is what matters
    assert {4, 5} in (set(root.phones), set(range(PHONES + 1)) - set(root.phones))
    assert all(isinstance(place, Leaf) for place in tree.roots[SILENCE - 1])
    hmm = Hmm(PHONES, to_kaldi(tree))
    for left in range(PHONES + 1):
        for centre in range(1, PHONES + 1):
            for right in range(PHONES + 1):
                for place in range(PLACES):
                    found, state = hmm.tree.compute(phone_seq=[left, centre, right], pdf_class=place)
                    assert found
                    assert state == tree.state(left, centre, right, place)


def test_each_leaf_has_the_sums_of_its_own_contexts() -> None:
    stats, _, _ = stats_of_a_language()
    tree, leaves = grow(stats, PHONES, LEAVES)
    states = np.array([tree.state(*map(int, row)) for row in stats.contexts])
    for state, leaf in enumerate(leaves):
        np.testing.assert_array_equal(leaf.sums.sum(axis=0), stats.where(states == state).sums.sum(axis=0))
        assert leaf.count.sum() >= 30


def test_more_leaves_gain_likelihood_and_equal_data_give_equal_bytes() -> None:
    stats, _, _ = stats_of_a_language()

    def total(leaves: list[ContextStats]) -> float:
        sums = [(leaf.count.sum(), leaf.sums.sum(axis=0), leaf.squares.sum(axis=0)) for leaf in leaves]
        return sum(float(likelihood(np.asarray(n), s, q)) for n, s, q in sums)

    gains = [total(grow(stats, PHONES, leaves)[1]) for leaves in (15, 20, 30, 40)]
    assert gains == sorted(gains)
    assert gains[0] < gains[-1]
    assert to_kaldi(grow(stats, PHONES, 30)[0]) == to_kaldi(grow(stats, PHONES, 30)[0])


def test_a_tree_without_context_has_a_state_for_each_place() -> None:
    hmm = Hmm(PHONES, to_kaldi(without_context(PHONES)))
    assert hmm.tree.num_pdfs == PLACES * PHONES
    for phone in range(1, PHONES + 1):
        for place in range(PLACES):
            assert hmm.tree.compute(phone_seq=[1, phone, 0], pdf_class=place) == (True, PLACES * (phone - 1) + place)
