"""How often is a 95 % interval right, and how often are two groups of seeds of one treatment called different at 5 %?

    python -m bench.coverage --trials 2000

Studies of six treatments are drawn at random (tests/scoring/simulated.py). *Before* is what thaw had: the percentile
bootstrap over speakers, of all seeds' edits together, and the sign-flip test over speakers. With one seed
each, two more treatments of the study have three and lend them their noise.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from bench._verdict import verdict
from tests.scoring.simulated import Simulated

from thaw.config.schema import ScoringSpec
from thaw.scoring.statistics import Sample, difference, estimate, seed_noise

SPEC = ScoringSpec()
RESAMPLES = 400
SPEAKERS = (4, 5, 6, 8, 10, 16, 50)


def speakers_of(samples: Sequence[Sample]) -> np.ndarray:
    """(S, 2) errors and totals by speaker, of all seeds together."""
    counts: np.ndarray = np.sum([sample.column("word") for sample in samples], axis=0)
    return counts


def percentile_interval(samples: Sequence[Sample], random: np.random.Generator) -> tuple[float, float]:
    """Before: speakers drawn with replacement, seeds not."""
    counts = speakers_of(samples)
    sums = counts[random.integers(len(counts), size=(RESAMPLES, len(counts)))].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return float(low), float(high)


def sign_flip_p(first: Sequence[Sample], second: Sequence[Sample], random: np.random.Generator) -> float:
    """Before: how often speakers' differences with random signs reach their sum; all signs up to twelve speakers."""
    change = speakers_of(second)[:, 0] - speakers_of(first)[:, 0]
    size = len(change)
    signs = (
        np.array([*itertools.product((-1, 1), repeat=size)])
        if size <= 12
        else random.choice((-1, 1), size=(4000, size))
    )
    return float((np.abs(signs @ change) >= abs(change.sum())).mean())


def row(world: Simulated, seeds: int, trials: int) -> tuple[float, ...]:
    """Coverage before and now, rejections before and now, in per cent."""
    random = np.random.default_rng([world.speakers, seeds, 1])
    plan = [seeds] * 6 if seeds > 1 else [1, 1, 1, 1, 3, 3]
    truth = world.truth
    covered: list[tuple[bool, bool]] = []
    called: list[tuple[bool, bool]] = []
    for _ in range(trials):
        groups = world.treatments(random, plan)
        noise = seed_noise(groups, "word")
        for group in groups[:4]:
            old, now = percentile_interval(group, random), estimate(group, "word", SPEC, noise)
            assert now.low is not None
            assert now.high is not None
            covered.append((old[0] <= truth <= old[1], now.low <= truth <= now.high))
        groups = world.treatments(random, plan, copies=2)
        noise = seed_noise(groups, "word")
        for one, two in ((groups[0], groups[1]), (groups[2], groups[3])):
            p = difference(one, two, "word", SPEC, noise).p
            assert p is not None
            called.append((sign_flip_p(one, two, random) < 0.05, p < 0.05))
    return tuple(100 * np.mean([*covered], axis=0)) + tuple(100 * np.mean([*called], axis=0))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500, help="studies for each row (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    cases = [(speakers, False, -0.4, seeds) for speakers in SPEAKERS for seeds in (1, 2, 3, 5)]
    cases += [(speakers, True, -0.4, seeds) for speakers in SPEAKERS for seeds in (2, 4)]
    cases += [(speakers, False, middle, 3) for middle in (-2.5, 2.0) for speakers in SPEAKERS]
    worlds = [Simulated(speakers, unequal=unequal, middle=middle) for speakers, unequal, middle, _ in cases]
    print("speakers  words    rate  seeds | interval covers: before  now | called different: before  now")
    with ProcessPoolExecutor(args.jobs) as pool:
        rows = pool.map(row, worlds, [seeds for *_, seeds in cases], [args.trials] * len(cases))
        worst, most_called = 100.0, 0.0
        for (speakers, unequal, _, seeds), world, found in zip(cases, worlds, rows, strict=True):
            words = "unequal" if unequal else "equal"
            print(
                f"{speakers:8}  {words:7} {100 * world.truth:4.0f} %  {seeds:5} | "
                f"{found[0]:23.1f} {found[1]:5.1f} | {found[2]:24.1f} {found[3]:5.1f}",
                flush=True,
            )
            worst, most_called = min(worst, found[1]), max(most_called, found[3])
    verdict("the rarest of the 95 % intervals hold the truth so often, %", worst, least=92)
    verdict("one treatment is called two so often at most, %", most_called, most=8)


if __name__ == "__main__":
    main()
