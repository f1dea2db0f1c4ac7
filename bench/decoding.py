"""How fast log-probabilities become text: greedy, and beam search with a trigram model, in multiples of real time.

Run: python -m bench.decoding. Speaks sentences of a made-up language (3,000 words, Zipf's law) as noisy emissions of
20 ms, on which greedy decoding gets about half of the words wrong. One thread, processor time; then, by the clock, one
process beside two, which must find the same. Needs KenLM's programs (make setup).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from bench._verdict import verdict
from numpy.typing import NDArray

from thaw.config.decoders import BeamSpec, LanguageModelSpec
from thaw.config.schema import TextSpec
from thaw.decoding.beam import BeamDecoder, Search
from thaw.decoding.greedy import greedy
from thaw.decoding.spread import spread
from thaw.files import write_jsonl
from thaw.lm.build import make
from thaw.randomness import rng
from thaw.scoring.edits import Edits, count_words
from thaw.units import Alphabet

ALPHABET = Alphabet(" abcdefghijklmnopqrstuvwxyz'")
WORDS = 3000
AIM = 100.0  # times real time, with a beam of 100
SHARED = 0.65  # of the clock's time of one process, that two take
ROUNDS = 3
SECONDS_PER_FRAME = 0.02
NOISE = 1.7  # standard deviation of the logits; the right class stands 7 above the others
BEAMS = (25, 50, 100, 500)


def make_sentences(count: int) -> list[str]:
    """Sentences of 4 to 12 words."""
    random = rng("bench decoding", "text")
    letters = list(ALPHABET.characters[1:])
    words = ["".join(random.choice(letters, random.integers(2, 10))) for _ in range(WORDS)]
    weights = 1 / np.arange(1, WORDS + 1)
    draws = random.choice(WORDS, (count, 12), p=weights / weights.sum())
    return [" ".join(words[i] for i in row[: random.integers(4, 13)]) for row in draws]


def speak(text: str, number: int) -> NDArray[np.float32]:
    """Log-probabilities (T, V) of `text`: each character on one or two frames, one to four blanks after it."""
    random = rng("bench decoding", "speech", number)
    path: list[int] = []
    for label in ALPHABET.encode(text):
        path += [label] * random.integers(1, 3) + [ALPHABET.blank] * random.integers(1, 5)
    logits = random.normal(0, NOISE, (len(path), ALPHABET.classes))
    logits[np.arange(len(path)), path] += 7
    scores: NDArray[np.float32] = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
    return scores


def measure(
    decode: Callable[[NDArray[np.float32]], str], speech: list[tuple[str, NDArray[np.float32]]]
) -> tuple[float, float]:
    """Multiples of real time, and the word error rate."""
    began = time.process_time()
    texts = [decode(scores) for _, scores in speech]
    took = time.process_time() - began
    seconds = sum(len(scores) for _, scores in speech) * SECONDS_PER_FRAME
    edits = sum((count_words(said, text) for (said, _), text in zip(speech, texts, strict=True)), Edits())
    return seconds / took, edits.errors / edits.ref


def show(name: str, found: tuple[float, float]) -> None:
    """One line of the table."""
    print(f"{name:<22}{found[0]:>12,.0f}  {found[1]:>6.3f}", flush=True)


def best_text(search: Search, scores: NDArray[np.float32]) -> str:
    """The most likely text of a beam search."""
    return search.nbest(scores)[0].text


def shared(search: Search, speech: list[tuple[str, NDArray[np.float32]]]) -> float:
    """The clock's time of two processes over that of one, the best of a few rounds in turns."""
    scores = [scores for _, scores in speech]
    took: dict[int, list[float]] = {1: [], 2: []}
    texts = []
    for _ in range(ROUNDS):
        for processes, times in took.items():
            began = time.perf_counter()
            texts.append(spread(partial(best_text, search), scores, processes))
            times.append(time.perf_counter() - began)
    assert all(found == texts[0] for found in texts)
    return min(took[2]) / min(took[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="how fast log-probabilities become text")
    parser.add_argument("--utterances", type=int, default=60)
    parser.add_argument("--sentences", type=int, default=20000, help="of the language model's text")
    arguments = parser.parse_args()
    count = arguments.utterances
    sentences = make_sentences(count + arguments.sentences)
    speech = [(text, speak(text, number)) for number, text in enumerate(sentences[:count])]
    seconds = sum(len(scores) for _, scores in speech) * SECONDS_PER_FRAME
    print(f"{count} utterances, {seconds:.0f} s, {ALPHABET.classes} classes, {WORDS} words")
    print(f"{'decoder':<22}{'x real time':>12}  {'WER':>6}")
    show("greedy", measure(lambda scores: greedy(scores, ALPHABET), speech))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(folder / "train.jsonl", ({"text": text} for text in sentences[count:]))
        lm, lexicon = folder / "lm.binary", folder / "lexicon.txt"
        make(
            LanguageModelSpec(order=3),
            TextSpec(alphabet=ALPHABET.characters),
            [folder / "train.jsonl"],
            [],
            lm,
            lexicon,
        )
        speed, share = 0.0, 0.0
        for beam in BEAMS:
            spec = BeamSpec(kind="beam", beam=beam)
            search = BeamDecoder(spec, ALPHABET, lm, lexicon).search(spec.alpha, spec.beta)
            found = measure(partial(best_text, search), speech)
            show(f"beam {beam} + trigrams", found)
            if beam == 100:
                speed, share = found[0], shared(search, speech)
    verdict("beam 100 with trigrams, times real time", speed, least=AIM)
    verdict("beam 100 by two processes, time over that of one", share, most=SHARED)


if __name__ == "__main__":
    main()
