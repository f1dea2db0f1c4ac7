"""What do probes cost? Every layer of a QuartzNet reset in turn, in one job, beside a decode and plain forward passes.

    python -m bench.probing                                   # 5x3 on a processor, one thread
    python -m bench.probing --variant 15x5 --device cuda --minutes 60

The measure is what a job of n probes takes over (one decode + n forward passes of the same batches): 1 where features
are made once and resets, checks and putting weights back cost nothing; less, since layers below the reset one are
computed once. The aim is at most 2. Utterances are noise.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import soundfile
import torch
from bench._verdict import verdict

from thaw.audio.wav import clip_digest
from thaw.config.decoders import GreedySpec
from thaw.config.models import QuartzNetSpec
from thaw.config.probes import ProbeSpec, each_layer
from thaw.decoding.decode import decode
from thaw.decoding.emissions import load_recogniser, read_features
from thaw.decoding.rows import read_utterances
from thaw.files import write_jsonl
from thaw.models import build, save_model
from thaw.probing.probe import probe

ALPHABET = " abcdefghijklmnopqrstuvwxyz'"
SECONDS = (2.0, 12.0)  # of an utterance


def write_noise(folder: Path, minutes: float) -> Path:
    """One shard of noise and its manifest."""
    random = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    clips, offset = [], 0
    while offset < 60 * 16000 * minutes:
        samples = int(16000 * random.uniform(*SECONDS))
        clips.append(random.integers(-8000, 8000, samples).astype(np.int16))
        row = {"id": f"u{len(rows):05d}", "audio_filepath": "0.wav", "offset_samples": offset, "samples": samples}
        row |= {"sampling_rate": 16000, "lang": "en", "speaker": "noise", "text": "a", "text_raw": "a"}
        rows.append(row | {"offset": offset / 16000, "duration": samples / 16000, "digest": clip_digest(clips[-1])})
        offset += samples
    soundfile.write(folder / "0.wav", np.concatenate(clips), 16000, subtype="PCM_16")
    write_jsonl(folder / "test.jsonl", rows)
    return folder / "test.jsonl"


def write_model(folder: Path, spec: QuartzNetSpec) -> Path:
    """An untrained model, moved a little from its first weights."""
    model = build(spec, len(ALPHABET) + 1)
    model.initialise(1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(0.01)
    run = {"seed": 1, "start": "scratch"}
    meta = {"model": spec.model_dump(mode="json"), "alphabet": ALPHABET, "run": run}
    save_model(folder / "model.safetensors", model, meta)
    return folder / "model.safetensors"


def forward_seconds(model: Path, manifest: Path, device: str, clock: Callable[[], float]) -> float:
    """A forward pass of all batches, features made before."""
    recogniser = load_recogniser(model, device)
    read = list(read_features(recogniser, read_utterances(manifest)))
    recogniser.scores(read[0][1])
    began = clock()
    for _, batch in read:
        recogniser.scores(batch)
    return clock() - began


def main() -> None:
    """Print the times and their ratio."""
    parser = argparse.ArgumentParser(description="time of probes of every layer in one job")
    parser.add_argument("--variant", default="5x3")
    parser.add_argument("--minutes", type=float, default=1.0, help="of audio")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    clock = process_time if arguments.device == "cpu" else perf_counter  # others may be at work on a processor
    spec = QuartzNetSpec.model_validate({"kind": "quartznet", "variant": arguments.variant})
    probes = ProbeSpec(operations={"none": (), **each_layer(spec.layer_names, "draw", [101])})
    with tempfile.TemporaryDirectory() as name:
        manifest, model = write_noise(Path(name), arguments.minutes), write_model(Path(name), spec)
        forward = forward_seconds(model, manifest, arguments.device, clock)
        began = clock()
        rows, _ = decode(GreedySpec(kind="greedy"), model, manifest, device=arguments.device)
        decoded = clock()
        probed = probe(probes, model, [manifest], device=arguments.device)
        ended = clock()
    count = len(probed.rows)
    texts = [row["hypothesis"] for row in probed.hypotheses if row["name"] == "none"]
    assert texts == [row["hypothesis"] for row in rows]
    allowed = decoded - began + count * forward
    print(f"QuartzNet {arguments.variant}, {arguments.device}, {arguments.minutes:g} min of audio, {count} probes")
    print(f"decode {decoded - began:.2f} s, forward pass {forward:.2f} s, probes {ended - decoded:.2f} s in one job")
    verdict(f"probes over a decode and {count} forward passes", (ended - decoded) / allowed, most=2)


if __name__ == "__main__":
    main()
