"""Studies drawn at random, whose truth is known: treatments that differ in nothing, seeds, speakers.

The chance of an error is logistic(middle + speaker + treatment at speaker + seed + seed at speaker), each a normal
deviate; errors are binomial in a speaker's words. Treatments share speakers, seeds are their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.measures import Counts
from thaw.scoring.statistics import Sample


@dataclass(frozen=True)
class Simulated:
    """Standard deviations are in logits: 0.3 about 40 % are 7 points."""

    speakers: int
    middle: float = -0.4  # 40 %
    speaker: float = 0.6
    treatment: float = 0.2  # at a speaker
    seed: float = 0.3
    both: float = 0.2  # a seed at a speaker
    unequal: bool = False  # whether speakers say unequal numbers of words
    words: int = 60

    @property
    def totals(self) -> NDArray[np.int64]:
        """(S,) words of the speakers."""
        if not self.unequal:
            return np.full(self.speakers, self.words)
        quantiles = (np.arange(self.speakers) + 0.5) / self.speakers
        return np.round(self.words * np.exp(0.5 * ndtri(quantiles))).astype(np.int64)

    @property
    def truth(self) -> float:
        """The rate over all speakers and seeds."""
        points, weights = np.polynomial.hermite_e.hermegauss(60)
        spread = np.sqrt(self.speaker**2 + self.treatment**2 + self.seed**2 + self.both**2)
        return float((weights * expit(self.middle + spread * points)).sum() / weights.sum())

    def treatments(
        self, random: np.random.Generator, seeds: Sequence[int], copies: int = 1, noise: Sequence[float] = ()
    ) -> list[list[Sample]]:
        """One treatment with so many seeds each; the first `copies` of them, the next, … are one treatment drawn again.

        `noise` are factors of the seeds' spread by treatment.
        """
        people = self.speaker * random.standard_normal(self.speakers)
        own = self.treatment * random.standard_normal((-(-len(seeds) // copies), self.speakers))
        found = []
        for place, count in enumerate(seeds):
            sd = self.seed * (noise[place] if noise else 1.0)
            logits = self.middle + people + own[place // copies] + sd * random.standard_normal((count, 1))
            logits = logits + self.both * random.standard_normal((count, self.speakers))
            errors = random.binomial(self.totals, expit(logits))
            found.append([self.sample(seed, row) for seed, row in enumerate(errors)])
        return found

    def sample(self, seed: int, errors: NDArray[np.int64]) -> Sample:
        """Errors by speaker as those of one run."""
        pairs = zip(errors.tolist(), self.totals.tolist(), strict=True)
        rows = [UtteranceCounts(f"{i:03}", f"s{i:03}", {"word": Counts(*pair)}) for i, pair in enumerate(pairs)]
        return Sample(seed, tuple(rows))
