"""How fast features are made and masked: by threads of the host, and of whole batches where a model is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from bench.augment import LETTERS, noise

from thaw.config.schema import AugmentationSpec, SpecAugmentSpec
from thaw.frontends import frames
from thaw.frontends.on_device import front_end
from thaw.tasks import Ctc
from thaw.training.augment import Augment
from thaw.training.data import Batch, Examples
from thaw.units import EVERY, Alphabet

NAMES = ("deepspeech", "nemo-v1.0", "nemo-80", "log-mel-80", "fbank")


class Speeds(NamedTuple):
    """Audio seconds a second."""

    alone: float  # features, by one thread of the host
    threads: float  # by all of them
    samples: float  # batches of samples for the device, by one thread
    device: float  # features of such batches, the copy of samples included


def speeds(name: str, folder: Path, batch: int, seconds: float, threads: int, device: torch.device) -> Speeds:
    """Of a front end on batches of noise, with the masks of SpecAugment; nothing is kept from batch to batch."""
    utterances = noise(folder, 2 * batch, seconds)
    task = {EVERY: Ctc(Alphabet(LETTERS))}
    host, sounding = (Examples(utterances, task, name, cache_bytes=0) for _ in range(2))
    sounding.front_end = front_end(name, device)
    spec = AugmentationSpec(spec_augment=SpecAugmentSpec())
    augment = Augment(spec, lambda samples: frames(name, samples), seed=1, epoch=1)
    work = [list(range(first, first + batch)) for first in (0, batch)] * threads
    heard = sum(map(host.seconds, work))

    def rate(make: Callable[[Sequence[int]], Batch], count: int) -> float:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(make, work[:count]))  # warms up
            began = time.perf_counter()
            list(pool.map(make, work))
            return heard / (time.perf_counter() - began)

    def by_host(indices: Sequence[int]) -> Batch:
        return host.batch(indices, augment)

    def samples_of(indices: Sequence[int]) -> Batch:
        made = sounding.batch(indices, augment)
        return made.pinned() if device.type == "cuda" else made

    return Speeds(rate(by_host, 1), rate(by_host, threads), rate(samples_of, 1), on(device, samples_of, work, heard))


def on(
    device: torch.device, samples_of: Callable[[Sequence[int]], Batch], work: Sequence[Sequence[int]], heard: float
) -> float:
    """The speed of a device with batches that wait for it."""
    ready = [samples_of(indices) for indices in work[:2]]
    best = 0.0
    for _ in range(3):  # the first warms up
        wait(device)
        began = time.perf_counter()
        for number in range(len(work)):
            ready[number % 2].to(device)
        wait(device)
        best = max(best, heard / (time.perf_counter() - began))
    return best


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize()
