"""Beam search over a lexicon with a KenLM language model, by flashlight-text.

The score of a word sequence W, all logarithms natural:

    ln P(frames | W), summed over alignments  +  alpha · ln P(W </s>)  +  beta · (words in W)

alpha and beta mean what they mean in mozilla/DeepSpeech v0.7.4 native_client/ctcdecode, with these differences:
DeepSpeech does not score the sentence end, and prunes by other rules; flashlight looks ahead to the likeliest word
below a node of the lexicon. Alignments of one text are summed. Prefixes of other words stay apart, even where the
language model cannot tell them apart any more: flashlight's KenLM states are histories, not contexts.

Shapes: T frames, V classes (blank last).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flashlight.lib.text.decoder import (
    CriterionType,
    LexiconDecoder,
    LexiconDecoderOptions,
    SmearingMode,
    Trie,
)
from flashlight.lib.text.decoder.kenlm import KenLM
from flashlight.lib.text.dictionary import Dictionary
from numpy.typing import NDArray

from thaw.config.decoders import BeamSpec
from thaw.decoding.greedy import tidy
from thaw.errors import UserError
from thaw.files import verify
from thaw.lm.build import RESERVED, read_lexicon
from thaw.units import Alphabet, OutsideAlphabet

LN_10 = math.log(10.0)  # KenLM's scores are decimal logarithms
UNKNOWN = "<unk>"
UNFINISHED = -1000.0  # ln of what an unfinished last word costs: DeepSpeech's price of an unknown word
IMPOSSIBLE = -1e9


@dataclass(frozen=True)
class Hypothesis:
    """One entry of an n-best list; logarithms are natural."""

    text: str
    acoustic: float  # ln P(frames | text)
    language: float  # ln P(text </s>)
    words: int

    def score(self, alpha: float, beta: float) -> float:
        """What the search maximises."""
        return self.acoustic + alpha * self.language + beta * self.words


class BeamDecoder:
    """A lexicon and a language model, ready to search with any alpha and beta."""

    def __init__(self, spec: BeamSpec, alphabet: Alphabet, lm: Path, lexicon: Path) -> None:
        """Load both files; UserError where they cannot be read or are made for another alphabet."""
        self.spec = spec
        self.alphabet = alphabet
        self.space = alphabet.encode(" ")[0]
        spellings = read_lexicon(lexicon)
        self.vocabulary = frozenset(spellings)
        self.dictionary = Dictionary([*sorted(spellings), UNKNOWN])
        if not lm.is_file():
            raise UserError(f"{lm}: no such file")
        verify(lm)
        try:
            self.lm = KenLM(str(lm), self.dictionary)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{lm}: not a KenLM model ({error})") from error
        self.trie = self._trie(spellings, lexicon)

    def _trie(self, spellings: dict[str, list[str]], lexicon: Path) -> Trie:
        """The lexicon as a tree of classes, every word closed by a space; nodes know their best word's score."""
        trie = Trie(self.alphabet.classes, self.space)
        start = self.lm.start(False)
        for word, letters in spellings.items():
            try:
                path = [*self.alphabet.encode("".join(letters)), self.space]
            except OutsideAlphabet as error:
                raise UserError(
                    f"{lexicon}: the word {word!r} has characters that the model's alphabet lacks; "
                    "the language model was made for another language"
                ) from error
            if word in RESERVED:
                raise UserError(f"{lexicon}: {word} cannot be a word of the lexicon")
            index = self.dictionary.get_index(word)
            _, score = self.lm.score(start, index)
            trie.insert(path, index, score)
        trie.smear(SmearingMode.MAX)
        return trie

    def search(self, alpha: float, beta: float) -> Search:
        """The search with these weights."""
        return Search(self, alpha, beta)


class Search:
    """Beam search with fixed weights."""

    def __init__(self, decoder: BeamDecoder, alpha: float, beta: float) -> None:
        self.decoder = decoder
        self.alpha = alpha
        self.beta = beta
        spec = decoder.spec
        options = LexiconDecoderOptions(
            beam_size=spec.beam,
            beam_size_token=min(spec.tokens, decoder.alphabet.classes),
            beam_threshold=spec.beam_threshold,
            lm_weight=alpha * LN_10,
            word_score=beta,
            unk_score=-math.inf,  # the vocabulary is closed
            sil_score=0.0,
            log_add=True,  # sum over alignments, as DeepSpeech does: matters most where a model is unsure
            criterion_type=CriterionType.CTC,
        )
        unknown = decoder.dictionary.get_index(UNKNOWN)
        blank = decoder.alphabet.blank
        self._search = LexiconDecoder(options, decoder.trie, decoder.lm, decoder.space, blank, unknown, [], False)

    def nbest(self, log_probs: NDArray[np.float32], count: int = 1) -> list[Hypothesis]:
        """The best `count` texts of log-probabilities (T, V), best first; never empty."""
        closed = self._closed(log_probs)
        found: dict[str, Hypothesis] = {}
        for result in self._search.decode(closed.ctypes.data, *closed.shape):
            words = [self.decoder.dictionary.get_entry(word) for word in result.words if word >= 0]
            language = result.lmScore * LN_10
            # What flashlight keeps as acoustic score belongs to one alignment; the total belongs to their sum.
            acoustic = result.score - self.alpha * language - self.beta * len(words)
            hypothesis = Hypothesis(tidy(" ".join(words)), acoustic, language, len(words))
            found.setdefault(hypothesis.text, hypothesis)
            if len(found) == count:
                break
        return list(found.values()) or [Hypothesis("", 0.0, 0.0, 0)]

    def _closed(self, log_probs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, V) -> (T + 1, V): one more frame that holds a space for certain.

        flashlight counts a word when its space is read. The texts that models learn from end without one, so the last
        word gets its space here; whoever is inside a word that the lexicon does not end pays for it.
        """
        frames, classes = log_probs.shape
        closed = np.full((frames + 1, classes), IMPOSSIBLE, dtype=np.float32)
        closed[:frames] = log_probs
        closed[frames, self.decoder.space] = 0.0
        closed[frames, self.decoder.alphabet.blank] = UNFINISHED
        return closed
