"""A toy language (four words of three letters), its language model, and a reference prefix beam search over it."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.lm.build import lexicon_line

CHARACTERS = " abc"
SPACE, BLANK = 0, 4
WORDS = ("a", "ab", "bb", "c")
START, END = "<s>", "</s>"
LN_10 = math.log(10)

Grams = dict[tuple[str, ...], tuple[float, float]]  # n-gram -> log10 probability, log10 backoff


def make_grams(seed: int = 0) -> Grams:
    """A trigram model with random weights: all unigrams and bigrams, some trigrams."""
    random = np.random.default_rng(seed)
    grams: Grams = {("<unk>",): (-5.0, 0.0), (START,): (-99.0, -0.3), (END,): (-1.0, 0.0)}
    for word in WORDS:
        grams[(word,)] = (-random.uniform(0.4, 1.5), -random.uniform(0.1, 0.6))
    for first, second in itertools.product((START, *WORDS), (*WORDS, END)):
        grams[(first, second)] = (-random.uniform(0.2, 1.5), 0.0 if second == END else -random.uniform(0.1, 0.6))
    for gram in itertools.product((START, *WORDS), WORDS, (*WORDS, END)):
        if random.random() < 0.5:
            grams[gram] = (-random.uniform(0.1, 1.5), 0.0)
    return grams


def write_arpa(path: Path, grams: Grams) -> None:
    """The model as an ARPA file, which KenLM reads as it is."""
    orders = {order: [g for g in grams if len(g) == order] for order in (1, 2, 3)}
    lines = ["\\data\\", *(f"ngram {order}={len(found)}" for order, found in orders.items())]
    for order, found in orders.items():
        lines += ["", f"\\{order}-grams:"]
        for gram in found:
            probability, backoff = grams[gram]
            lines.append(f"{probability:.6f}\t{' '.join(gram)}" + (f"\t{backoff:.6f}" if order < 3 else ""))
    path.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")


def write_lexicon(path: Path) -> None:
    path.write_text("".join(f"{lexicon_line(word)}\n" for word in WORDS), encoding="utf-8")


def ln_probability(grams: Grams, words: tuple[str, ...], word: str) -> float:
    """ln P(word | sentence start, words), with backoff."""
    context = (START, *words)[-2:]
    backoff = 0.0
    while (*context, word) not in grams:
        backoff += grams[context][1] if context in grams else 0.0
        context = context[1:]
    return LN_10 * (backoff + grams[(*context, word)][0])


def random_emissions(frames: int, seed: int, scale: float = 2.0) -> NDArray[np.float32]:
    """Log-probabilities (T, V) of a model that is unsure."""
    logits = np.random.default_rng(seed).normal(size=(frames, 5)) * scale
    scores: NDArray[np.float32] = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    return scores


def prefix_search(log_probs: NDArray[np.float32], grams: Grams, alpha: float, beta: float) -> dict[str, float]:
    """CTC prefix search that prunes nothing: each text that the lexicon spells, with its score in nats.

    A prefix is its finished words and the letters of the next; spaces around words and between them are free in number.
    For each, two masses: of alignments that end in blank, and that end in the prefix's last symbol.
    """
    prefixes = {word[:end] for word in WORDS for end in range(len(word) + 1)}
    mass: dict[tuple[tuple[str, ...], str], NDArray[np.float64]] = {((), ""): np.array([1.0, 0.0])}
    for frame in np.exp(log_probs.astype(np.float64)):
        after: dict[tuple[tuple[str, ...], str], NDArray[np.float64]] = defaultdict(lambda: np.zeros(2))
        for (words, letters), (blank, symbol) in mass.items():
            after[words, letters][0] += (blank + symbol) * frame[BLANK]
            if letters == "":  # at the start or after a space: more spaces change nothing
                after[words, ""][1] += (blank + symbol) * frame[SPACE]
            else:
                after[words, letters][1] += symbol * frame[CHARACTERS.index(letters[-1])]
                if letters in WORDS:
                    after[(*words, letters), ""][1] += (blank + symbol) * frame[SPACE]
            for letter in CHARACTERS[1:]:
                if letters + letter in prefixes:
                    free = blank if letters.endswith(letter) else blank + symbol
                    after[words, letters + letter][1] += free * frame[CHARACTERS.index(letter)]
        mass = after
    totals: dict[tuple[str, ...], float] = defaultdict(float)
    for (words, letters), masses in mass.items():
        if letters == "" or letters in WORDS:
            totals[(*words, letters) if letters else words] += float(masses.sum())
    scores = {}
    for words, total in totals.items():
        if total > 0:
            sentence = (*words, END)
            language = sum(ln_probability(grams, sentence[:place], word) for place, word in enumerate(sentence))
            scores[" ".join(words)] = math.log(total) + alpha * language + beta * len(words)
    return scores
