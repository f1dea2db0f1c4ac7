"""The language model's weights, chosen on dev by rescoring n-best lists over a grid of alpha and beta.

One search gives, for every utterance, texts with their acoustic and language scores; any weights re-rank them without
another search. Since the lists depend on the weights they were made with, the chosen point is searched again and its
lists are added, until it stays (Och, ACL 2003, does the same for machine translation), at most PASSES searches in all.

Shapes: D utterances of dev, N entries of the longest list, A values of alpha, B values of beta.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from thaw.config.decoders import TuningSpec
from thaw.decoding.beam import Hypothesis

PASSES = 3

Lists = list[dict[str, Hypothesis]]  # per utterance, by text
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """N-best lists as arrays (D, N); entries past the end of a list have an acoustic score of -inf."""

    acoustic: Floats
    language: Floats
    words: Floats
    word_errors: NDArray[np.int64]
    char_errors: NDArray[np.int64]
    reference_words: int

    def errors(self, alpha: float, beta: float) -> tuple[int, int]:
        """Word and character errors of the entries that rank first with these weights; ties go to the earlier entry."""
        best = (self.acoustic + alpha * self.language + beta * self.words).argmax(axis=1)[:, np.newaxis]
        picked = (np.take_along_axis(errors, best, axis=1).sum() for errors in (self.word_errors, self.char_errors))
        word, char = picked
        return int(word), int(char)

    def oracle(self) -> int:
        """Word errors of the best entry of every list: no weights do better."""
        valid = np.isfinite(self.acoustic)
        return int(np.where(valid, self.word_errors, np.iinfo(np.int64).max).min(axis=1).sum())


def tabulate(lists: Lists, references: Sequence[str]) -> Table:
    """Lists and their references as a Table; entries in the order of their texts, so that ties break alike anywhere."""
    width = max(len(entries) for entries in lists)
    shape = (len(lists), width)
    acoustic = np.full(shape, -np.inf)
    language, words = np.zeros(shape), np.zeros(shape)
    word_errors, char_errors = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, (entries, reference) in enumerate(zip(lists, references, strict=True)):
        reference_words = reference.split()
        for column, text in enumerate(sorted(entries)):
            entry = entries[text]
            acoustic[row, column] = entry.acoustic
            language[row, column] = entry.language
            words[row, column] = entry.words
            word_errors[row, column] = Levenshtein.distance(reference_words, text.split())
            char_errors[row, column] = Levenshtein.distance(reference, text)
    return Table(acoustic, language, words, word_errors, char_errors, sum(len(r.split()) for r in references))


@dataclass(frozen=True)
class Choice:
    """The weights that make the fewest errors on dev."""

    alpha: float
    beta: float
    record: dict[str, Any]  # the grid and what was found on it, as the decode's record holds it
    warnings: list[str]


def grid(bounds: tuple[float, float], steps: int) -> list[float]:
    """Evenly spaced values, both ends included (for one step: the middle), rounded so that records stay legible."""
    low, high = bounds
    values = [(low + high) / 2] if steps == 1 else np.linspace(low, high, steps).tolist()
    return [round(value, 6) for value in values]


def best_point(table: Table, alphas: Sequence[float], betas: Sequence[float]) -> tuple[int, int, list[list[int]]]:
    """Indices of the best alpha and beta, and the word errors (A, B) of all points.

    Fewest word errors; then fewest character errors; then the smaller alpha, then the smaller beta.
    """
    errors = [[table.errors(alpha, beta) for beta in betas] for alpha in alphas]
    _, a, b = min((point, a, b) for a, row in enumerate(errors) for b, point in enumerate(row))
    return a, b, [[word for word, _ in row] for row in errors]


def tune(
    search: Callable[[float, float, int], list[list[Hypothesis]]],
    references: Sequence[str],
    spec: TuningSpec,
    alpha: float,
    beta: float,
) -> Choice:
    """Choose alpha and beta for `references` (dev), starting from the weights given.

    `search(alpha, beta, count)` gives the n-best lists of all dev utterances, in the order of `references`.
    """
    alphas, betas = grid(spec.alpha, spec.steps), grid(spec.beta, spec.steps)
    lists: Lists = [{} for _ in references]
    passes: list[dict[str, float]] = []
    while True:
        passes.append({"alpha": alpha, "beta": beta})
        for entries, found in zip(lists, search(alpha, beta, spec.nbest), strict=True):
            for hypothesis in found:
                entries.setdefault(hypothesis.text, hypothesis)
        table = tabulate(lists, references)
        a, b, word_errors = best_point(table, alphas, betas)
        alpha, beta = alphas[a], betas[b]
        settled = {"alpha": alpha, "beta": beta} in passes
        if settled or len(passes) == PASSES:
            break
    words = max(1, table.reference_words)
    record = {
        "alphas": alphas,
        "betas": betas,
        "wer": [[errors / words for errors in row] for row in word_errors],
        "alpha": alpha,
        "beta": beta,
        "dev_wer": word_errors[a][b] / words,
        "oracle_wer": table.oracle() / words,
        "nbest": spec.nbest,
        "passes": passes,
        "settled": settled,
        "utterances": len(references),
    }
    return Choice(alpha, beta, record, _edge_warnings(alphas, betas, a, b))


def _edge_warnings(alphas: Sequence[float], betas: Sequence[float], a: int, b: int) -> list[str]:
    warnings = []
    for name, values, index in (("alpha", alphas, a), ("beta", betas, b)):
        if len(values) > 1 and index in (0, len(values) - 1):
            warnings.append(f"the best {name}, {values[index]:g}, lies on the edge of the grid: widen tune.{name}")
    return warnings
