"""Every model of the house with a recipe that ships with it, and trainings of it on noise, to measure speeds on.

Models and recipes are those of config/, at the size `mini` (config/config.yaml) or `published` (config/paper-*.yaml):
what is measured is what runs. A third size, `toy`, only shows that a bench runs. Classes are single characters, however
many a head has: a file of byte pairs or words would say nothing of speed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from thaw.alignment.frames import frames_of
from thaw.alignment.states import Aligned, Inventory, write_alignment
from thaw.audio.wav import SAMPLE_RATE, clip_digest, wav_header
from thaw.config.config import Config
from thaw.config.load import read_yaml, with_includes
from thaw.config.models import layer_names
from thaw.config.run import TRAIN_VERSION, RunRecipe
from thaw.corpora.manifest import read_manifest
from thaw.files import write_bytes, write_jsonl
from thaw.training.begin import Job

CONFIGS = Path(__file__).resolve().parents[1] / "config"
Size = Literal["toy", "mini", "published"]
SIZES: tuple[Size, ...] = get_args(Size)
SECONDS: dict[Size, float] = {"toy": 1.0, "mini": 3.0, "published": 8.0}  # of the longest utterance
TOY = {"batch_size": 2, "precision": "fp32"}
OUTPUTS = ("model.safetensors", "optimizer.safetensors", "run.json", "metrics.jsonl")


class Shipped(NamedTuple):
    """A model and a recipe of a file in config/, how many classes a head has there, and how many are said a second."""

    file: str
    model: str
    recipe: str
    classes: int
    rate: float


@dataclass(frozen=True)
class Case:
    """A model, where its sizes come from, and what makes it small enough for a test (`toy`)."""

    mini: Shipped
    published: Shipped
    toy: Mapping[str, Any]
    changes: Mapping[str, Any] = field(default_factory=dict)  # of the model, at every size
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def model(self, size: Size) -> dict[str, Any]:
        """The model's specification, plain."""
        shipped = self.published if size == "published" else self.mini
        plain = config(shipped.file).models[shipped.model].model_dump(mode="json", exclude_unset=True)
        return {**plain, **self.changes, **(self.toy if size == "toy" else {})}

    def shipped(self, size: Size) -> Shipped:
        """Where the size comes from."""
        return self.published if size == "published" else self.mini


def mini(model: str, recipe: str, classes: int = 27, rate: float = 12.0) -> Shipped:
    """Of the mini studies: letters, unless it says otherwise."""
    return Shipped("config", model, recipe, classes, rate)


PAPER, TOPDOWN, AMBIENT = "paper", "paper-topdown", "paper-ambient"
_ATTENTION = {"cells": 8, "projection": 8, "decoder": {"width": 8, "attention": 8, "channels": 2, "reach": 2}}
_RNNT = {"head": "rnnt"}
_PIECES = (1024, 4.0)  # byte pairs
CASES: dict[str, Case] = {
    "deepspeech": Case(
        mini("deepspeech", "finetune"), Shipped(PAPER, "deepspeech", "finetune", 30, 12.0), {"hidden": 8, "context": 2}
    ),
    "quartznet": Case(
        mini("quartznet", "finetune-quartznet"),
        Shipped("paper-crosslingual", "quartznet", "post", 34, 12.0),
        {"variant": "mini-3x1"},
    ),
    "blstm": Case(
        mini("blstm", "topdown"),
        Shipped(TOPDOWN, "blstm", "wsj", 50, 14.0),
        {"layers": 2, "cells": 8, "projection": 8},
    ),
    "blstm-attention": Case(
        mini("blstm-attention", "topdown-attention"),
        Shipped(TOPDOWN, "blstm-attention", "wsj-attention", 50, 14.0),
        {"layers": 1, **_ATTENTION},
    ),
    "vgg-attention": Case(
        mini("vgg-attention", "topdown-attention"),
        Shipped(TOPDOWN, "vgg-attention", "wsj-attention", 50, 14.0),
        {"layers": 1, "vgg": [2, 2], **_ATTENTION},
    ),
    "transformer": Case(
        mini("transformer", "topdown-transformer"),
        Shipped(TOPDOWN, "transformer", "switchboard", 2000, 4.0),
        {"width": 8, "inner": 8, "encoder_layers": 1, "decoder_layers": 1},
    ),
    "awd-lstm": Case(
        mini("awd-lstm", "topdown-text", 600),
        Shipped(TOPDOWN, "awd-lstm", "wikitext", 33278, 0.0),
        {"embedding": 8, "hidden": 8, "lstms": 2},
    ),
    "conformer": Case(
        mini("conformer-l-batch", "conformer"),
        Shipped(AMBIENT, "conformer-l-batch", "conformer", *_PIECES),
        {"variant": "mini-S"},
        {"head": "ctc"},
        {"task": {"kind": "ctc"}},
    ),
    "conformer-rnnt": Case(
        mini("conformer-l", "conformer"),
        Shipped(AMBIENT, "conformer-l", "conformer", *_PIECES),
        {"variant": "mini-S"},
        _RNNT,
        {"task": {"kind": "rnnt"}},
    ),
    "conformer-streaming": Case(
        mini("conformer-l-streaming", "conformer"),
        Shipped(AMBIENT, "conformer-l-streaming", "conformer", *_PIECES),
        {"variant": "mini-S"},
        _RNNT,
        {"task": {"kind": "rnnt"}},
    ),
    "dnn": Case(mini("dnn", "frames", 120), Shipped("paper-multilingual", "dnn", "frames", 7000, 12.0), {"hidden": 8}),
}


@functools.cache
def config(name: str) -> Config:
    """A file of config/ with what it includes; the data that it names need not be there."""
    return Config.model_validate(with_includes(read_yaml(CONFIGS / f"{name}.yaml")))


def letters(classes: int) -> str:
    """So many characters, a space among them."""
    return " " + "".join(chr(0x4E00 + number) for number in range(classes - 1))


def recipe_of(
    name: str,
    size: Size,
    epochs: int,
    changes: Mapping[str, Any],
    freeze: Sequence[str] = (),
    start: str = "scratch",
) -> RunRecipe:
    """The recipe of a run; it ends after `epochs`, and keeps its best one alone.

    Frozen layers stand still: no dropout in them.
    """
    case = CASES[name]
    shipped = case.shipped(size)
    recipe = config(shipped.file).recipes[shipped.recipe].model_dump(mode="json", exclude_unset=True)
    for key in ("units", "early_stop_epochs", "snapshots", "averaging_patience"):
        recipe.pop(key, None)
    recipe |= {"epochs": epochs, **case.recipe, **(TOY if size == "toy" else {}), **changes}
    frames = recipe.get("task", {}).get("kind") == "frames"
    return RunRecipe.model_validate(
        {
            "version": TRAIN_VERSION,
            "model": case.model(size),
            "alphabet": letters(shipped.classes),
            "corpora": ["noise"],
            "alignments": ["noise"] if frames else [],
            "seed": 1,
            "recipe": recipe,
            "start": start,
            "freeze": list(freeze),
            **({"frozen": {"dropout": "off"}} if freeze else {}),
        }
    )


def lower_half(name: str, size: Size) -> tuple[str, ...]:
    """The first half of a model's layers, input side first."""
    names = layer_names(recipe_of(name, size, 1, {}).model)
    return names[: len(names) // 2]


def job_of(name: str, size: Size, run: RunRecipe, folder: Path, batches: int, seconds: float, device: str) -> Job:
    """A training on so many batches of noise, and a dev split of one; its files are made in `folder`."""
    shipped, batch = CASES[name].shipped(size), run.recipe.batch_size
    splits = (("train", batch * batches), ("dev", batch))
    if run.recipe.task.kind == "language-model":
        units = run.recipe.task.bptt
        paths = [write_text(folder, split, run.alphabet, count * units) for split, count in splits]
    else:
        paths = [write_speech(folder, split, run.alphabet, count, seconds, shipped.rate) for split, count in splits]
    states = shipped.classes if run.alignments else 0
    return Job(
        recipe=run,
        train=paths[:1],
        dev=paths[1:],
        outputs={output: folder / "out" / output for output in OUTPUTS},
        state=folder / "state",
        alignments=[write_states(path, states) for path in paths] if states else (),
        checkpoint_seconds=1e9,
        device=device,
    )


def write_speech(folder: Path, split: str, alphabet: str, count: int, seconds: float, rate: float) -> Path:
    """A shard and a manifest of noise, 80 to 100 % of `seconds` each, `rate` characters a second said in them."""
    random = np.random.default_rng([1, len(split)])
    noise = random.normal(0, 1000, int(SAMPLE_RATE * (seconds + 1))).astype(np.int16)  # clips begin within a second
    rows: list[dict[str, Any]] = []
    clips, offset = [], 0
    for number in range(count):
        samples = int(SAMPLE_RATE * seconds * random.uniform(0.8, 1.0))
        begin = int(random.integers(SAMPLE_RATE))
        clips.append(noise[begin : begin + samples])
        text = drawn(random, alphabet, max(1, int(rate * samples / SAMPLE_RATE)))
        names = {"id": f"{split}-{number:05d}", "lang": "en", "speaker": "noise", "text": text, "text_raw": text}
        place = {"offset_samples": offset, "samples": samples, "offset": offset / SAMPLE_RATE}
        about = {"duration": samples / SAMPLE_RATE, "digest": clip_digest(clips[-1])}
        rows.append({"audio_filepath": f"{split}.wav", "sampling_rate": SAMPLE_RATE, **names, **place, **about})
        offset += samples
    data = np.concatenate(clips).tobytes()
    write_bytes(folder / f"{split}.wav", wav_header(len(data)) + data)
    write_jsonl(folder / f"{split}.jsonl", rows)
    return folder / f"{split}.jsonl"


def drawn(random: np.random.Generator, alphabet: str, count: int) -> str:
    """So many letters, no space among them."""
    return "".join(alphabet[number] for number in random.integers(1, len(alphabet), count).tolist())


def write_states(manifest: Path, states: int) -> Path:
    """An alignment of a manifest with states of about five frames, drawn."""
    random = np.random.default_rng(1)
    rows = []
    for utterance in read_manifest(manifest):
        frames = frames_of(utterance.samples)
        cuts = [*range(0, frames, 5), frames]
        runs = [(int(random.integers(states)), stop - start) for start, stop in pairwise(cuts)]
        rows.append((utterance.id, Aligned(tuple(runs))))
    path = manifest.with_suffix(".ali.safetensors")
    write_alignment(path, rows, Inventory(states), manifest, {"gmm_sha256": ""})
    return path


def write_text(folder: Path, split: str, alphabet: str, units: int) -> Path:
    """A manifest of text: lines of 20 characters, in all so many."""
    random = np.random.default_rng([1, len(split)])
    lines = [drawn(random, alphabet, 19) for _ in range(-(-units // 20) + 1)]
    rows = [
        {"id": f"{split}-{number:06d}", "lang": "en", "speaker": "noise", "text": line, "text_raw": line}
        for number, line in enumerate(lines)
    ]
    write_jsonl(folder / f"{split}.jsonl", rows)
    return folder / f"{split}.jsonl"
