"""A tiny corpus whose letters are tones: small enough to train on in a second, easy enough to be learnt."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thaw.audio.wav import clip_digest, wav_header
from thaw.canonical import canonical_json
from thaw.cli import main
from thaw.config.run import TRAIN_VERSION, RunRecipe
from thaw.files import write_bytes, write_jsonl
from thaw.randomness import rng
from thaw.tasks import Ctc
from thaw.units import EVERY, Alphabet

ALPHABET = " abcd"
TASKS = {EVERY: Ctc(Alphabet(ALPHABET))}
SECONDS = {" ": 0.08, **dict.fromkeys("abcd", 0.12)}


def spoken(text: str, place: str) -> NDArray[np.int16]:
    """One tone per letter, silence for a space, a little noise over all."""
    parts = [np.zeros(int(16000 * SECONDS[letter])) for letter in text]
    for part, letter in zip(parts, text, strict=True):
        if letter != " ":
            hertz = 300.0 * 2 ** "abcd".index(letter)
            part += np.sin(2 * np.pi * hertz * np.arange(len(part)) / 16000)
    edge = np.zeros(800)
    wave = np.concatenate([edge, *parts, edge])
    wave += rng(1, "noise", place).normal(0, 0.01, len(wave))
    return (wave * 8000).astype(np.int16)


def sentence(place: str) -> str:
    """A few letters; equal neighbours are avoided so that a tone never stands for two."""
    generator = rng(1, "text", place)
    letters = [str(letter) for letter in generator.choice(list("abcd"), int(generator.integers(3, 9)))]
    return "".join(a for a, b in zip(letters, [*letters[1:], ""], strict=True) if a != b)


def write_split(folder: Path, name: str, texts: dict[str, str]) -> Path:
    """A manifest and its shard."""
    offset, rows, audio = 0, [], []
    for identity, text in sorted(texts.items()):
        pcm = spoken(text, identity)
        place = {"offset_samples": offset, "samples": len(pcm), "offset": offset / 16000, "duration": len(pcm) / 16000}
        words = {"id": identity, "lang": "xx", "speaker": identity[-1], "text": text, "text_raw": text}
        rows.append(
            {"audio_filepath": f"{name}.wav", "sampling_rate": 16000, "digest": clip_digest(pcm), **place, **words}
        )
        audio.append(pcm)
        offset += len(pcm)
    data = np.concatenate(audio).tobytes()
    write_bytes(folder / f"{name}.wav", wav_header(len(data)) + data)
    path = folder / f"{name}.jsonl"
    write_jsonl(path, rows)
    return path


@dataclass
class Bench:
    """A folder with a corpus, and `thaw train` in it as a process of its own."""

    folder: Path
    train: Path
    dev: Path
    recipe: dict[str, Any] = field(default_factory=dict)

    def with_recipe(self, **changes: Any) -> Bench:
        """The same corpus and a changed recipe: keys of RunRecipe, or of its `recipe` part."""
        new = json.loads(json.dumps(self.recipe))
        for key, value in changes.items():
            (new if key in RunRecipe.model_fields else new["recipe"])[key] = value
        return Bench(self.folder, self.train, self.dev, new)

    def outputs(self, out: str) -> dict[str, Path]:
        names = {"model": "model.safetensors", "optimizer": "optimizer.safetensors"}
        names |= {"record": "run.json", "metrics": "metrics.jsonl"}
        return {option: self.folder / out / name for option, name in names.items()}

    def arguments(self, out: str, *extra: str, state: str = "state") -> list[str]:
        """The command line, without a device and checkpoints but at the ends of epochs; outputs go to folder `out`."""
        places = [part for option, path in self.outputs(out).items() for part in (f"--{option}", str(path))]
        words = ["train", "--recipe", canonical_json(self.recipe), "--state", str(self.folder / state)]
        words += ["--train", str(self.train), "--dev", str(self.dev), "--device", "cpu"]
        return [*words, "--checkpoint-seconds", "1e9", *places, *extra]

    def start(
        self,
        out: str,
        *extra: str,
        state: str = "state",
        stderr: str = "stderr",
        environment: Mapping[str, str] | None = None,
    ) -> Command:
        """Start the command as a process of its own."""
        return Command(self.arguments(out, *extra, state=state), self.folder / stderr, environment or {})

    def run(self, out: str, *extra: str, state: str = "state") -> tuple[int, str]:
        """Run the command to its end: exit status and stderr."""
        return self.start(out, *extra, state=state).wait()

    def state_folder(self, state: str = "state") -> Path:
        """The one training's state below `state`."""
        (folder,) = (self.folder / state).iterdir()
        return folder


class Command:
    """`thaw` in a process of its own, forked from a server that has torch loaded: starts at once, can be killed."""

    def __init__(self, arguments: list[str], stderr: Path, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["thaw.training.session"])
        self.stderr = stderr
        stderr.touch()
        self.process = context.Process(target=call_thaw, args=(arguments, stderr, environment))
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def ended(self) -> bool:
        return self.process.exitcode is not None

    def wait(self) -> tuple[int, str]:
        """Exit status (negative: a signal) and what it wrote to stderr."""
        self.process.join(60)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            raise TimeoutError(self.stderr.read_text())
        return code, self.stderr.read_text()

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds, while the process lives."""
        while not condition():
            assert not self.ended, self.stderr.read_text()
            time.sleep(0.001)


def call_thaw(arguments: list[str], stderr: Path, environment: Mapping[str, str]) -> None:
    """The command line, as its own process sees it."""
    os.environ.update(environment)
    with stderr.open("w") as stream, contextlib.redirect_stderr(stream):
        sys.exit(main(arguments))


def make_recipe(**recipe: Any) -> dict[str, Any]:
    """A RunRecipe as plain types; keywords change its `recipe` part."""
    return {
        "version": TRAIN_VERSION,
        "model": {"kind": "deepspeech", "hidden": 16, "context": 2},
        "alphabet": ALPHABET,
        "corpora": ["toy"],
        "seed": 1,
        "recipe": {"epochs": 4, "batch_size": 8, "learning_rate": 0.01, "dropout": 0.05, **recipe},
    }


def sentences(split: str, count: int) -> dict[str, str]:
    return {f"{split}-{number:03d}": sentence(f"{split}-{number}") for number in range(count)}


def make_bench(folder: Path) -> Bench:
    """40 utterances to train on, 12 for dev."""
    paths = [write_split(folder, name, sentences(name, count)) for name, count in (("train", 40), ("dev", 12))]
    return Bench(folder, *paths, make_recipe())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A corpus and a recipe, nothing trained yet."""
    return make_bench(tmp_path)


def same_but_for_time(a: Sequence[dict[str, Any]], b: Sequence[dict[str, Any]]) -> bool:
    """Whether rows of metrics are equal in all that is not wall clock."""
    clocks = ("audio_seconds_per_second", "units_per_second", "step_seconds", "data_seconds")
    strip = [[{k: v for k, v in row.items() if k not in clocks} for row in rows] for rows in (a, b)]
    return strip[0] == strip[1]
