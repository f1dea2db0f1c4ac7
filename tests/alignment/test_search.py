"""Graphs and their search against a search that looks at everything."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thaw.alignment import kaldi
from thaw.alignment.acoustic import AcousticModel, Hmm
from thaw.alignment.fsts import NO_PAUSE_COST, PAUSE_COST, symbols
from thaw.alignment.gmm import single
from thaw.alignment.graph import Graph, compose, read_graph, write_graph
from thaw.alignment.lexicon import Lexicon, Phones
from thaw.alignment.recognition import choose_scale
from thaw.alignment.search import Beam, decode_scores
from thaw.alignment.tree import PLACES, Leaf, Question, Tree, to_kaldi, without_context
from thaw.alignment.viterbi import SELF_LOOP_SCALE
from thaw.config.alignment import SearchSpec
from thaw.errors import UserError
from thaw.files import read_json, write_json

EVERYTHING = Beam(beam=1e4, max_active=10**9)
LEXICON = Lexicon({"a": (("x",),), "aye": (("x",), ("x", "y")), "b": (("y",),)})  # alike, and one begins another
PHONES = ("x", "y")
ARPA = """\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-99 <s> -0.3
-0.9 </s>
-0.5 a -0.2
-0.7 aye -0.1
-0.6 b -0.4

\\2-grams:
-0.2 <s> a
-0.4 a b
-0.3 b </s>
-0.8 aye b

\\end\\
"""
UNIGRAM = {"</s>": -0.9, "a": -0.5, "aye": -0.7, "b": -0.6}
BACK_OFF = {"<s>": -0.3, "a": -0.2, "aye": -0.1, "b": -0.4}
BIGRAM = {("<s>", "a"): -0.2, ("a", "b"): -0.4, ("b", "</s>"): -0.3, ("aye", "b"): -0.8}


def in_context() -> Tree:
    """A tree in which x differs before y, and y after the edge; silence asks nothing."""
    number = itertools.count()

    def leaves() -> tuple[Leaf, ...]:
        return tuple(Leaf(next(number)) for _ in range(PLACES))

    silence = leaves()
    x = tuple(Question(2, frozenset({3}), Leaf(next(number)), Leaf(next(number))) for _ in range(PLACES))
    y = (Question(0, frozenset({0}), Leaf(next(number)), Leaf(next(number))), Leaf(next(number)), Leaf(next(number)))
    return Tree((silence, x, y))


@pytest.fixture(scope="module", params=["monophones", "context"])
def toy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, Hmm, Tree]:
    tree = without_context(3) if request.param == "monophones" else in_context()
    hmm = Hmm(3, to_kaldi(tree))
    arpa = tmp_path_factory.mktemp("arpa") / "toy.arpa"
    arpa.write_text(ARPA, encoding="utf-8")
    numbers = symbols(PHONES, LEXICON)
    return Graph(compose(hmm, LEXICON, numbers, arpa), numbers.words, tree.num_states), hmm, tree


def grammar_cost(words: tuple[str, ...]) -> float:
    """In nats; a graph's search may also back off where a bigram is there, so the cheaper way counts."""
    total = 0.0
    for before, word in itertools.pairwise(("<s>", *words, "</s>")):
        ways = [UNIGRAM[word] + BACK_OFF[before], BIGRAM.get((before, word), -math.inf)]
        total -= max(ways) * math.log(10)
    return total


def readings(words: tuple[str, ...]) -> list[tuple[Phones, float]]:
    """All phone strings of words, with silence wherever it may be, and the costs of the pauses."""
    found: list[tuple[Phones, float]] = [((), NO_PAUSE_COST), (("SIL",), PAUSE_COST)]
    for word in words:
        found = [
            ((*so_far, *said, *pause), cost + more)
            for so_far, cost in found
            for said in LEXICON.words[word]
            for pause, more in (((), NO_PAUSE_COST), (("SIL",), PAUSE_COST))
        ]
    return found


def best_time(states: list[int], scores: np.ndarray) -> float:
    """The likeliest way for frames to pass through states in order: self-loops 0.75 at their scale, then 0.25."""
    stay, leave = -SELF_LOOP_SCALE * math.log(0.75), -SELF_LOOP_SCALE * math.log(0.25)
    cost = np.full(len(states), np.inf)
    for frame, heard in enumerate(scores):
        moved = np.concatenate([[0.0 if frame == 0 else np.inf], cost[:-1] + leave])
        cost = np.minimum(moved, cost + stay) - heard[states]
    return float(cost[-1] + leave)


def brute_force(scores: np.ndarray, tree: Tree, most: int) -> tuple[float, tuple[str, ...]]:
    """The cheapest of all sentences up to so many words, of all their readings, at all times."""
    number = {"SIL": 1, "x": 2, "y": 3}
    best: tuple[float, tuple[str, ...]] = (math.inf, ())
    for count in range(most + 1):  # a sentence may be a pause
        for words in itertools.product(sorted(LEXICON.words), repeat=count):
            for phones, pauses in readings(words):
                said = [0, *(number[phone] for phone in phones), 0]
                states = [
                    tree.state(left, phone, right, place)
                    for left, phone, right in zip(said, said[1:], said[2:], strict=False)
                    for place in range(PLACES)
                ]
                if 0 < len(states) <= len(scores):
                    best = min(best, (grammar_cost(words) + pauses + best_time(states, scores), words))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_the_search_finds_what_looking_at_everything_finds(toy: tuple[Graph, Hmm, Tree], seed: int) -> None:
    graph, _, tree = toy
    draw = np.random.default_rng(seed)
    frames = int(draw.integers(3, 14))
    scores = (2.0 * draw.normal(size=(frames, tree.num_states))).astype(np.float32)
    found = decode_scores(scores, graph, EVERYTHING)
    cost, words = brute_force(scores, tree, most=frames // PLACES)
    assert found.whole
    assert found.words == words
    assert found.cost == pytest.approx(cost, abs=0.02)  # of quantised graph weights
    assert len(found.states) == frames


def test_words_that_sound_alike_are_told_apart_by_the_language_model(toy: tuple[Graph, Hmm, Tree]) -> None:
    graph, _, tree = toy
    scores = np.full((6, tree.num_states), -50.0, np.float32)
    for frame, (left, phone, right) in enumerate([(0, 2, 3)] * 3 + [(2, 3, 0)] * 3):
        scores[frame, tree.state(left, phone, right, frame % PLACES)] = 0.0
    assert decode_scores(scores, graph, EVERYTHING).words == ("a", "b")  # and not "aye" or "aye b"


def test_scores_that_do_not_fit_the_graph_are_refused(toy: tuple[Graph, Hmm, Tree]) -> None:
    graph, _, tree = toy
    with pytest.raises(ValueError, match="states"):
        decode_scores(np.zeros((5, tree.num_states + 1), np.float32), graph)
    wrong = np.zeros((5, tree.num_states), np.float32)
    wrong[2, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        decode_scores(wrong, graph)
    assert decode_scores(wrong[:0], graph).words == ()
    assert not decode_scores(np.zeros((2, tree.num_states), np.float32), graph).whole  # too short for any word


def test_a_graph_comes_back_as_it_was_written(toy: tuple[Graph, Hmm, Tree], tmp_path: Path) -> None:
    graph, _, tree = toy
    one, two = tmp_path / "1" / "graph.fst", tmp_path / "2" / "graph.fst"
    write_graph(one, graph, {})
    again = read_graph(one)
    assert (again.words, again.num_states) == (graph.words, tree.num_states)
    write_graph(two, again, {})
    assert one.read_bytes() == two.read_bytes()
    record: dict[str, Any] = read_json(one.with_name("graph.json"))
    write_json(one.with_name("graph.json"), {**record, "words": 2})
    with pytest.raises(UserError, match="not the record of a graph"):
        read_graph(one)
    with pytest.raises(UserError, match="no such file"):
        read_graph(tmp_path / "3" / "graph.fst")


def test_the_scale_is_the_one_with_the_fewest_word_errors_on_dev(toy: tuple[Graph, Hmm, Tree]) -> None:
    graph, _, tree = toy
    scores = np.full((3, tree.num_states), -3.0, np.float32)
    for frame in range(3):
        scores[frame, tree.state(0, 3, 0, frame)] = 0.0  # "b" is heard, but the grammar prefers "a"
    found = choose_scale(SearchSpec(scales=(0.01, 1.0, 2.0)), graph, [("b", scores)])
    assert (found.value, found.record) == (1.0, {"scales": [0.01, 1.0, 2.0], "wer": [1.0, 0.0, 0.0]})
    assert not found.warnings
    edge = choose_scale(SearchSpec(scales=(0.01, 1.0)), graph, [("b", scores)])
    assert edge.warnings == ("the best acoustic scale, 1, lies on the edge: widen `scales`",)
    assert choose_scale(SearchSpec(scales=(0.3,)), graph, None).value == 0.3
    with pytest.raises(UserError, match="--tune-on"):
        choose_scale(SearchSpec(), graph, None)


def test_a_graph_is_a_function_of_what_it_is_made_from(toy: tuple[Graph, Hmm, Tree], tmp_path: Path) -> None:
    graph, hmm, _ = toy
    arpa = tmp_path / "toy.arpa"
    arpa.write_text(ARPA, encoding="utf-8")
    again = compose(hmm, LEXICON, symbols(PHONES, LEXICON), arpa)
    assert again.to_str() == graph.fst.to_str()


def test_the_model_in_kaldis_hands_is_the_one_in_ours() -> None:
    tree = without_context(3)
    counts = np.zeros(2 * PLACES * 3 + 1)
    counts[1:] = 50.0
    model = AcousticModel(("SIL", *PHONES), to_kaldi(tree), counts, single(np.zeros((9, 39)), np.ones((9, 39))))
    assert kaldi.hmm() is not None
    assert np.allclose(np.exp(model.hmm.transitions.log_probs[1:]), 0.5, atol=1e-3)  # as often out as on
