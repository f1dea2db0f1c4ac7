"""How far forced alignments are from the truth: the times that espeak-ng itself reports for its phonemes.

Run: python -m bench.alignment. Says sentences in some voices, with noise; bootstraps a GMM-HMM from audio, text and
lexicon alone; then aligns sentences of other voices, and recognises them with a trigram model. One process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from bench._verdict import verdict
from numpy.typing import NDArray

from thaw.alignment.frames import begins_at
from thaw.alignment.graph import make as make_graph
from thaw.alignment.lexicon import STRESS, by_espeak, write_lexicon
from thaw.alignment.making import GMM, make
from thaw.alignment.recognition import recognise
from thaw.alignment.states import Alignment, read_alignment
from thaw.audio.wav import SAMPLE_RATE, clip_digest, wav_header
from thaw.config.alignment import AlignmentSpec, SearchSpec
from thaw.config.decoders import LanguageModelSpec
from thaw.config.schema import Split, TextSpec
from thaw.corpora import espeak
from thaw.corpora.phrases import find_locale, sentences, vocabulary
from thaw.corpora.speakers import speakers
from thaw.corpora.voices import find_voice
from thaw.files import write_bytes, write_jsonl
from thaw.lm.build import Text
from thaw.randomness import rng
from thaw.scoring.edits import Edits, count_words
from thaw.text import normalise

Truth = dict[str, list[tuple[str, float]]]  # id -> phones without pauses, each with the second it begins at
PAD = 0.15  # seconds of noise before and after the words
SNR = (-6.0, 6.0)  # dB
NEAR = 0.05  # seconds
PEOPLE: dict[Split, int] = {"train": 8, "dev": 3, "test": 4}
LETTERS = " abcdefghijklmnopqrstuvwxyzáàâãäçéèêëíìîïñóòôõöúùûüșțăœæ'"
AIM_NEAR, AIM_MEDIAN = 90.0, 20.0  # per cent within NEAR; milliseconds


@dataclass(frozen=True)
class Spoken:
    """A split: its manifest, and when each phone begins."""

    manifest: Path
    truth: Truth


def speak(folder: Path, voice: str, split: Split, texts: list[str]) -> Spoken:
    """Say texts in the voices of a split, with white noise; write shard and manifest."""
    engine = espeak.Espeak(find_voice(voice))
    people = speakers(voice, split, PEOPLE[split], 1)
    rows, audio, truth, offset = [], [], {}, 0
    for number, text in enumerate(texts):
        id, who = f"{split}-{number:05d}", people[number % len(people)]
        sound, phones = engine.say_timed(text, who.manner)
        pcm = _heard(sound, rng("bench alignment", id))
        truth[id] = [(name.translate(STRESS), PAD + second) for name, second in phones if name]
        rows.append(
            {
                "id": id,
                "lang": voice,
                "speaker": who.client_id,
                "text": text,
                "text_raw": text,
                "audio_filepath": f"{split}.wav",
                "sampling_rate": SAMPLE_RATE,
                "digest": clip_digest(pcm),
                "offset_samples": offset,
                "samples": len(pcm),
            }
        )
        audio.append(pcm)
        offset += len(pcm)
    data = np.concatenate(audio).tobytes()
    write_bytes(folder / f"{split}.wav", wav_header(len(data)) + data)
    write_jsonl(folder / f"{split}.jsonl", rows)
    return Spoken(folder / f"{split}.jsonl", truth)


def _heard(sound: NDArray[np.int16], draw: np.random.Generator) -> NDArray[np.int16]:
    """Speech at 16 kHz between two pauses, with noise of a drawn power."""
    speech = soxr.resample(sound.astype(np.float64), espeak.SAMPLE_RATE, SAMPLE_RATE)
    power = float(np.mean(speech**2)) / 10 ** (draw.uniform(*SNR) / 10)
    padded = np.pad(speech, int(PAD * SAMPLE_RATE))
    noisy = padded + draw.normal(0.0, np.sqrt(power), len(padded))
    found: NDArray[np.int16] = (noisy * (12000 / np.abs(noisy).max())).astype(np.int16)
    return found


def errors(alignment: Alignment, truth: Truth) -> Iterator[tuple[float, bool]]:
    """For each phone, how many seconds too late it begins, and whether the lexicon calls it as espeak-ng does.

    Utterances with another number of phones (words that run into each other) are left out.
    """
    for id in alignment:
        found, frame = [], 0
        for phone, length in alignment.phones(id):
            found += [(phone, begins_at(frame))] if phone != "SIL" else []
            frame += length
        if len(found) == len(truth[id]):
            for (ours, here), (theirs, there) in zip(found, truth[id], strict=True):
                yield here - there, ours == theirs


def word_errors(folder: Path, spec: AlignmentSpec, texts: dict[Split, list[str]]) -> float:
    """WER of the GMM on test, its acoustic scale chosen on dev."""
    text = Text(texts["train"], 0, 0)
    graph = folder / "graph" / "graph.fst"
    make_graph(LanguageModelSpec(), text, [], folder / "out" / GMM, folder / "lexicon.txt", graph)
    rows, _ = recognise(SearchSpec(), folder / "out" / GMM, graph, folder / "test.jsonl", folder / "dev.jsonl")
    edits = sum((count_words(row["reference"], row["hypothesis"]) for row in rows), Edits())
    return edits.errors / edits.ref


def measure(folder: Path, voice: str, locale: str, counts: dict[Split, int], spec: AlignmentSpec) -> dict[str, Any]:
    """Everything, in a folder: boundary errors in seconds of test, the record of the alignment, WER, seconds."""
    phrases = vocabulary(str(find_locale(locale)), 200, 1)
    rules = TextSpec(alphabet=LETTERS, outside="delete")
    texts: dict[Split, list[str]] = {
        split: [normalise(one, rules) for one in sentences(phrases, split, count, (1, 3), 1)]
        for split, count in counts.items()
    }
    began = time.perf_counter()
    spoken = {split: speak(folder, voice, split, said) for split, said in texts.items()}
    said = time.perf_counter()
    write_lexicon(folder / "lexicon.txt", by_espeak((w for t in texts.values() for s in t for w in s.split()), voice))
    manifests: dict[str, Path] = {split: each.manifest for split, each in spoken.items()}
    record = make(spec, folder / "lexicon.txt", manifests, folder / "out", folder / "state")
    aligned = time.perf_counter()
    found = list(errors(read_alignment(folder / "out" / "test.safetensors"), spoken["test"].truth))
    wer = word_errors(folder, spec, texts)
    return {
        "late": np.array([late for late, _ in found]),
        "same_name": float(np.mean([same for _, same in found])),
        "phones": sum(map(len, spoken["test"].truth.values())),
        "record": record,
        "wer": wer,
        "seconds": {"synthesis": said - began, "alignment": aligned - said, "words": time.perf_counter() - aligned},
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description="forced alignments against the times that espeak-ng reports")
    parser.add_argument("--voice", default="es")
    parser.add_argument("--locale", default="es")
    parser.add_argument("--train", type=int, default=400, help="utterances")
    parser.add_argument("--test", type=int, default=80, help="utterances, of other voices")
    parser.add_argument("--leaves", type=int, default=200)
    parser.add_argument("--gaussians", type=int, default=800)
    arguments = parser.parse_args()
    spec = AlignmentSpec(
        mono_iterations=20,
        mono_gaussians=300,
        iterations=14,
        leaves=arguments.leaves,
        gaussians=arguments.gaussians,
    )
    counts: dict[Split, int] = {"train": arguments.train, "dev": max(1, arguments.test // 2), "test": arguments.test}
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), arguments.voice, arguments.locale, counts, spec)
    rows = found["record"]["iterations"]
    print(f"{counts['train']} utterances, {rows[-1]['frames']} frames, {rows[-1]['states']} tied states")
    falls = sum(
        later["log_likelihood"] <= before["log_likelihood"]
        for before, later in pairwise(rows)
        if before["stage"] == later["stage"]
    )
    for stage in ("monophone", "triphone"):
        own = [row["log_likelihood"] for row in rows if row["stage"] == stage]
        print(f"{stage}: {own[0]:.2f} to {own[-1]:.2f} nats a frame in {len(own)} iterations")
    late = found["late"]
    off = 1000 * np.abs(late)
    print(f"{len(late)} of {found['phones']} phones of test compared, {100 * found['same_name']:.1f} % of one name")
    print(f"begin {1000 * late.mean():+.1f} ms late on average; |error| mean {off.mean():.1f} ms")
    print("seconds: " + ", ".join(f"{what} {value:.1f}" for what, value in found["seconds"].items()))
    print(f"WER of the GMM: {100 * found['wer']:.1f} %")
    verdict("iterations at which the likelihood does not rise", falls, most=0)
    verdict("median boundary error, ms", float(np.median(off)), most=AIM_MEDIAN)
    verdict("boundaries within 50 ms, %", 100 * float(np.mean(off <= 1000 * NEAR)), least=AIM_NEAR)


if __name__ == "__main__":
    main()
