"""What does it cost to name the dropout masks of a step? Keys of all places of a model, a batch of utterances.

    python -m bench.dropout --variant S --batch 256

A key is a hash of (seed, epoch, utterance, layer, place). *One by one* hashes each whole, as was done before utterances
were hashed once for all layers; both give the same keys, which is checked. Processor time of one thread, the best of
several rounds in turns; masks themselves are not made.
"""

from __future__ import annotations

import argparse
import time

import torch
from bench._verdict import verdict
from torch import Tensor

from thaw.config.conformer import ConformerSpec
from thaw.frontends import dimension
from thaw.models import build
from thaw.models.layered import Noise
from thaw.randomness import seed_of

AIM = 3.0
EPOCH = 1


def places_of(variant: str) -> list[tuple[str, int]]:
    """The dropout places of a Conformer in the order in which a forward pass comes to them."""
    spec = ConformerSpec.model_validate({"kind": "conformer", "variant": variant})
    model, found = build(spec, 30), list[tuple[str, int]]()
    model.initialise(1)
    x, lengths = torch.zeros(1, 16, dimension(spec.frontend)), torch.tensor([16])
    for name in model.trunk:
        calls = 0

        def drop(y: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return y

        x, lengths = model.layer(name)(x, lengths, drop)
        found += [(name, call) for call in range(calls)]
    return found


def by_utterance(ids: list[str], places: list[tuple[str, int]]) -> list[Tensor]:
    """The keys of each place, (B, 2), as a training makes them."""
    noise = Noise({"any": 0.1}, 1, EPOCH, ids)
    return [noise.keys(*place) for place in places]


def one_by_one(ids: list[str], places: list[tuple[str, int]]) -> list[Tensor]:
    """The same, each hashed whole."""
    found = []
    for layer, call in places:
        seeds = [seed_of(1, "dropout", EPOCH, name, layer, call) for name in ids]
        words = [((seed >> 32) - 2**30, (seed & 0xFFFFFFFF) - 2**31) for seed in seeds]
        found.append(torch.tensor(words).to(torch.int32))
    return found


def main() -> None:
    """Time both and compare."""
    parser = argparse.ArgumentParser(prog="python -m bench.dropout")
    parser.add_argument("--variant", default="S")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ids = [f"common_voice_en_{number:08d}.mp3" for number in range(arguments.batch)]
    places = places_of(arguments.variant)
    seconds: dict[str, list[float]] = {"one by one": [], "by utterance": []}
    for _ in range(arguments.rounds):
        made = []
        for name, make in (("one by one", one_by_one), ("by utterance", by_utterance)):
            began = time.process_time()
            made.append(make(ids, places))
            seconds[name].append(time.process_time() - began)
        assert all(torch.equal(*pair) for pair in zip(*made, strict=True))
    count = len(ids) * len(places)
    print(f"Conformer-{arguments.variant}, {len(ids)} utterances, {len(places)} dropout places: {count} keys a step\n")
    print("| keys | ms a step | µs a key |\n|---|---:|---:|")
    best = {name: min(times) for name, times in seconds.items()}
    for name, least in best.items():
        print(f"| {name} | {1000 * least:.1f} | {1e6 * least / count:.2f} |")
    print()
    verdict("keys of dropout, times as fast", best["one by one"] / best["by utterance"], least=AIM)


if __name__ == "__main__":
    main()
