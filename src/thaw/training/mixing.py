"""Several languages in every batch: how often each is heard in an epoch, and in which order.

Heigold et al. (2013) name no weights: each language's replicas push what they have, so each weighs as its workers are
fast. Here the shares are a choice: of N utterances, n_l of language l, an epoch hears l about

    N · n_l^(1/T) / Σ n_k^(1/T)

times. T = 1 is every utterance once; the larger T, the more alike languages count, as in multilingual BERT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from thaw.randomness import rng


def shares(sizes: Mapping[str, int], temperature: float) -> dict[str, int]:
    """How many utterances of each language an epoch hears, as many in all as there are; at least one of each."""
    total = sum(sizes.values())
    weights = {lang: size ** (1.0 / temperature) for lang, size in sizes.items()}
    whole = sum(weights.values())
    return {lang: max(1, round(total * weight / whole)) for lang, weight in weights.items()}


def mixed(langs: Sequence[str], temperature: float, seed: int, epoch: int) -> NDArray[np.int64]:
    """Indices into `langs` (the language of each utterance) in the order of an epoch.

    Every language is spread evenly over it, beginning at a place of its own, so that any stretch holds each as often as
    the whole does. Which utterances come how often, and their order within a language, are drawn from (seed, epoch).
    """
    generator = rng(seed, "mixing", epoch)
    places: list[NDArray[np.float64]] = []
    chosen: list[NDArray[np.int64]] = []
    own = {lang: np.flatnonzero(np.asarray(langs) == lang) for lang in sorted(set(langs))}
    for lang, count in shares({lang: len(each) for lang, each in own.items()}, temperature).items():
        rounds = [generator.permutation(own[lang]) for _ in range(-(-count // len(own[lang])))]
        chosen.append(np.concatenate(rounds)[:count])
        places.append((np.arange(count) + generator.uniform()) / count)
    order = np.argsort(np.concatenate(places), kind="stable")
    found: NDArray[np.int64] = np.concatenate(chosen)[order]
    return found
