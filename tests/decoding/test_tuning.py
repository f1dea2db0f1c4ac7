"""Weights chosen on a grid."""

from __future__ import annotations

import pytest

from thaw.config.decoders import TuningSpec
from thaw.decoding.beam import Hypothesis
from thaw.decoding.tuning import best_point, grid, tabulate, tune

SPEC = TuningSpec(alpha=(0.0, 2.0), beta=(-1.0, 1.0), steps=5, nbest=10)
# The right text sounds a little worse than the wrong one, and is likelier in the language.
RIGHT = Hypothesis("ja gut", acoustic=-11.2, language=-2.0, words=2)
WRONG = Hypothesis("jagd", acoustic=-10.0, language=-4.0, words=1)


def test_grid() -> None:
    assert grid((0.0, 3.0), 4) == [0.0, 1.0, 2.0, 3.0]
    assert grid((-1.0, 3.0), 1) == [1.0]
    assert grid((0.0, 1.0), 11)[3] == 0.3


def test_errors_of_the_entries_that_rank_first() -> None:
    table = tabulate([{h.text: h for h in (RIGHT, WRONG)}, {"ja": Hypothesis("ja", -1.0, -1.0, 1)}], ["ja gut", "nein"])
    assert table.errors(0.0, 0.0) == (3, 3 + 4)  # "jagd": two words wrong of two
    assert table.errors(1.0, 0.0) == (1, 4)
    assert table.errors(0.0, 2.0) == (1, 4)
    assert table.oracle() == 1
    assert table.reference_words == 3


def test_ties_go_to_fewer_character_errors_then_smaller_alpha_then_smaller_beta() -> None:
    near, far = Hypothesis("jb", -1.0, -5.0, 1), Hypothesis("xyz", -2.0, -1.0, 1)
    table = tabulate([{h.text: h for h in (near, far)}], ["ja"])
    a, b, errors = best_point(table, [2.0, 0.0, 0.1], [0.0, 1.0])
    assert errors == [[1, 1], [1, 1], [1, 1]]
    assert (a, b) == (1, 0)
    a, b, _ = best_point(table, [0.0, 0.1, 2.0], [0.0, 1.0])
    assert (a, b) == (0, 0)


def test_chosen_point_is_searched_again_until_it_stays() -> None:
    asked = []

    def search(alpha: float, beta: float, count: int) -> list[list[Hypothesis]]:
        asked.append((alpha, beta))
        assert count == SPEC.nbest
        return [sorted((RIGHT, WRONG), key=lambda h: -h.score(alpha, beta))]

    choice = tune(search, ["ja gut"], SPEC, alpha=0.25, beta=0.25)
    # Right wins where 2·alpha + beta > 1.2; the smallest such alpha, and then beta, on the grid:
    assert (choice.alpha, choice.beta) == (0.5, 0.5)
    assert asked == [(0.25, 0.25), (0.5, 0.5)]
    assert choice.record["settled"]
    assert choice.record["passes"] == [{"alpha": a, "beta": b} for a, b in asked]
    assert choice.record["dev_wer"] == 0.0
    assert choice.record["wer"][0] == [1.0] * 5
    assert choice.record["oracle_wer"] == 0.0
    assert choice.warnings == []


def test_what_a_later_search_finds_counts() -> None:
    """The right text is only found once the language model weighs enough; the first lists already ask for that."""
    right = Hypothesis("ja", acoustic=-12.0, language=-0.5, words=1)
    near = Hypothesis("je", acoustic=-11.2, language=-1.5, words=1)
    far = Hypothesis("zu viel", acoustic=-10.0, language=-4.0, words=2)

    def search(alpha: float, beta: float, count: int) -> list[list[Hypothesis]]:
        return [[right, near]] if alpha >= 0.5 else [[far, near]]

    choice = tune(search, ["ja"], SPEC, alpha=0.1, beta=0.0)
    assert choice.record["dev_wer"] == 0.0
    assert len(choice.record["passes"]) > 1


def test_optimum_on_the_edge_is_said() -> None:
    choice = tune(lambda a, b, n: [[WRONG, RIGHT]], ["jagd"], SPEC, alpha=1.0, beta=0.0)
    assert choice.alpha == 0.0
    assert choice.record["dev_wer"] == pytest.approx(0.0)
    assert any("alpha" in warning and "edge" in warning for warning in choice.warnings)
