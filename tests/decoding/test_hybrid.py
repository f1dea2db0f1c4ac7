"""Priors and scales of a hybrid on cases that can be worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.training.aligned import STATES, align
from tests.training.conftest import sentences, write_split
from thaw.alignment.graph import Graph
from thaw.config.decoders import HybridSpec
from thaw.decoding.hybrid import Hybrid, log_priors, scaled, tune
from thaw.errors import UserError
from thaw.files import write_json
from thaw.units import Alphabet, States


def test_priors_are_counts_plus_one_over_their_sum() -> None:
    assert np.exp(log_priors(np.array([0, 3, 5]))).tolist() == pytest.approx([1 / 11, 4 / 11, 6 / 11])


def test_scores_are_likelihoods_by_bayes_rule() -> None:
    """Two states of which one is nine times as frequent; a frame that says nothing new likes both alike."""
    posteriors = np.log(np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]], np.float32))
    priors = np.log(np.array([0.9, 0.1], np.float32))
    ratios = np.diff(scaled(posteriors, priors, 1.0, 1.0), axis=1)[:, 0]  # log p(x|second) - log p(x|first)
    assert ratios.tolist() == pytest.approx([0.0, math.log(9), math.log(81)], abs=1e-5)
    assert np.diff(scaled(posteriors, priors, 1.0, 0.0), axis=1)[1, 0] == pytest.approx(0.0)  # posteriors as they are
    half = np.diff(scaled(posteriors, priors, 0.5, 0.5), axis=1)[:, 0]
    nine = math.log(9)
    assert half.tolist() == pytest.approx([-0.25 * nine, 0.25 * nine, 0.75 * nine], abs=1e-5)
    assert scaled(posteriors, priors, 0.1, 1.0).dtype == np.float32


def test_the_scales_with_the_fewest_word_errors_are_taken() -> None:
    said = {(0.1, 1.0): ["a b", "c"], (0.2, 1.0): ["a b", "c d"], (0.3, 1.0): ["a", "d"], (0.1, 0.5): ["x", "y"],
            (0.2, 0.5): ["a b", "c d"], (0.3, 0.5): ["a b", "c x"]}  # fmt: skip
    spec = HybridSpec(kind="hybrid", scales=(0.3, 0.1, 0.2), prior_scales=(1.0, 0.5))
    choice = tune(spec, lambda scale, prior: said[scale, prior], ["a b", "c d"])
    assert (choice.scale, choice.prior_scale) == (0.2, 0.5)  # no errors, as with 1.0: the smaller prior scale
    assert choice.record is not None
    assert choice.record["dev_wer"] == 0.0
    assert {(row["scale"], row["prior_scale"]): row["wer"] for row in choice.record["grid"]}[0.1, 1.0] == 0.25
    assert choice.warnings == ("the best prior_scale, 0.5, lies on the edge of the grid: widen prior_scales",)


def test_one_scale_needs_no_dev() -> None:
    spec = HybridSpec(kind="hybrid", scales=(0.2,))
    choice = tune(spec, lambda scale, prior: pytest.fail("dev was searched"), [])
    assert (spec.tunes, choice.scale, choice.prior_scale, choice.record) == (False, 0.2, 1.0, None)


# --- files that do not belong together ------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A graph's record without the graph, which takes Kaldi to read, and the alignment of a toy corpus."""
    write_json(tmp_path / "graph.json", {"gmm_sha256": "a"})
    monkeypatch.setattr("thaw.alignment.graph.read_graph", lambda path: Graph(None, ("word",), STATES))
    return tmp_path / "graph.fst", align(write_split(tmp_path, "train", sentences("train", 3)), gmm="a")


def test_priors_are_those_of_the_alignment(files: tuple[Path, Path]) -> None:
    hybrid = Hybrid(HybridSpec(kind="hybrid"), States(STATES, "gmm"), *files)
    assert np.exp(hybrid.priors).sum() == pytest.approx(1.0)
    assert hybrid.vocabulary == {"word"}


def test_models_graphs_and_alignments_of_other_states_are_refused(files: tuple[Path, Path]) -> None:
    graph, alignment = files
    spec, states = HybridSpec(kind="hybrid"), States(STATES, "gmm")
    with pytest.raises(UserError, match=r"5 states, but the model has 6 states"):
        Hybrid(spec, States(STATES + 1, "gmm"), graph, alignment)
    with pytest.raises(UserError, match="a hybrid searches tied states, and this model's classes are 3 characters"):
        Hybrid(spec, Alphabet(" ab"), graph, alignment)
    write_json(graph.with_name("graph.json"), {"gmm_sha256": "b"})
    with pytest.raises(UserError, match="its states are of another GMM"):
        Hybrid(spec, states, graph, alignment)
