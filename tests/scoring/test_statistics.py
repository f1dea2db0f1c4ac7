"""Estimates and comparisons of treatments: by hand, at the edges, and as often right as they say, by simulation."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from tests.scoring.simulated import Simulated
from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.scoring.counts import UtteranceCounts
from thaw.scoring.edits import Edits
from thaw.scoring.measures import Counts
from thaw.scoring.statistics import (
    UNKNOWN,
    Sample,
    SeedNoise,
    difference,
    estimate,
    family_text,
    holm,
    seed_noise,
)

SPEC = ScoringSpec()


def sample(errors: Sequence[float], seed: int = 1, total: float = 10, speakers: Sequence[str] = ()) -> Sample:
    names = speakers or [f"s{i:02}" for i in range(len(errors))]
    pairs = zip(names, errors, strict=True)
    rows = [UtteranceCounts(f"u{i:03}", name, {"word": Counts(e, total)}) for i, (name, e) in enumerate(pairs)]
    return Sample(seed, tuple(rows))


# --- by hand --------------------------------------------------------------------------------------


def test_one_model_is_the_t_test_over_speakers() -> None:
    """Equal speakers, one seed each, no seed noise known: mean, standard error and degrees of the one-sample t."""
    errors = np.array([1, 3, 2, 5, 4, 3])
    found = estimate([sample(errors)], "word", SPEC, UNKNOWN)
    assert found.rate == pytest.approx(0.3)
    assert found.error == pytest.approx(stats.sem(errors / 10))
    assert found.degrees == pytest.approx(5)
    assert (found.scope, found.unit, found.speakers, found.seeds) == ("these trained models", "speaker", 6, 1)
    assert found.sd_seeds is None
    assert found.low is not None
    assert found.high is not None
    theirs = stats.t.interval(0.95, 5, loc=0.3, scale=stats.sem(errors / 10))
    assert found.high - found.low == pytest.approx(theirs[1] - theirs[0], rel=0.02)
    assert found.low > theirs[0]  # bent at 0
    assert found.high > theirs[1]


def test_a_difference_is_the_paired_t_test_over_speakers() -> None:
    first, second = np.array([4, 5, 6, 5, 7]), np.array([3, 5, 4, 4, 4])
    found = difference([sample(first)], [sample(second)], "word", SPEC, UNKNOWN)
    theirs = stats.ttest_rel(second, first)
    assert found.difference == pytest.approx((second - first).mean() / 10)
    assert found.difference / found.error == pytest.approx(theirs.statistic)
    interval = theirs.confidence_interval(0.95)
    assert found.low == pytest.approx(interval.low / 10)
    assert found.high == pytest.approx(interval.high / 10)
    assert (found.p, found.smallest, found.scope) == (None, None, "these trained models")


def test_seeds_alone_are_the_t_test_of_rates() -> None:
    """Where speakers do not differ in what a treatment does to them, only seeds are left."""
    shapes = np.array([2, 3, 4, 5, 6])
    first = [sample(shapes + k, seed) for seed, k in enumerate((0, 1, 2, 1))]
    second = [sample(shapes + k, seed) for seed, k in enumerate((3, 2, 4, 4))]
    noise = seed_noise([first, second], "word")
    assert (noise.sd, noise.degrees) == (pytest.approx(np.sqrt((2 / 3 + 2.75 / 3) / 2) / 10), 6)
    assert noise.within == pytest.approx(0, abs=1e-12)
    found = difference(first, second, "word", SPEC, noise)
    theirs = stats.ttest_ind([3, 2, 4, 4], [0, 1, 2, 1], equal_var=False)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-6)
    assert found.degrees == pytest.approx(theirs.df)


def test_few_seeds_take_the_noise_of_the_pool_and_their_variances_add() -> None:
    errors = np.array([1, 3, 2, 5, 4, 3])
    noise = SeedNoise(0.06, 8)
    found = estimate([sample(errors, 1), sample(errors, 2)], "word", SPEC, noise)
    units, seeds = stats.sem(errors / 10) ** 2, 0.06**2 / 2
    assert found.error == pytest.approx(np.sqrt(units + seeds))
    assert found.degrees == pytest.approx((units + seeds) ** 2 / (units**2 / 5 + seeds**2 / 8))
    assert (found.scope, found.sd_seeds) == ("treatment", 0.0)


def test_what_single_speakers_explain_is_not_counted_twice() -> None:
    errors = np.array([1, 3, 2, 5, 4, 3])
    alone, shared = (estimate([sample(errors)], "word", SPEC, SeedNoise(0.06, 8, w)) for w in (0.0, 0.05))
    assert shared.error**2 == pytest.approx(alone.error**2 - 0.05**2)


def test_a_treatment_noisier_than_the_pool_shows_its_own_noise() -> None:
    quiet = [[sample([4, 5, 6, 5, 4], 1), sample([4, 5, 6, 5, 5], 2)] for _ in range(8)]
    loud = [sample([2, 2, 3, 2, 2], 1), sample([8, 7, 8, 8, 9], 2)]
    noise = seed_noise([*quiet, loud], "word")
    found = estimate(loud, "word", SPEC, noise)
    assert found.sd_seeds is not None
    assert found.error >= found.sd_seeds / np.sqrt(2) * 0.99
    assert found.sd_seeds > 2 * noise.sd


def test_unequal_speakers_have_fewer_degrees_and_no_bias() -> None:
    """The variance of simulated ratios is what is estimated on average, where all speakers vary alike."""
    random = np.random.default_rng(4)
    totals = np.array([400, 100, 100, 200, 50, 100])
    rates = 0.4 + 0.1 * random.standard_normal((4000, 6))
    ratios = (rates * totals).sum(axis=1) / totals.sum()
    rows = [
        Sample(1, tuple(UtteranceCounts(str(i), f"s{i}", {"word": Counts(e, w)}) for i, (e, w) in enumerate(pairs)))
        for pairs in (zip(row * totals, totals.tolist(), strict=True) for row in rates[:1000])
    ]
    found = [estimate([row], "word", SPEC, UNKNOWN) for row in rows]
    assert np.mean([one.error**2 for one in found]) == pytest.approx(ratios.var(), rel=0.06)
    variances = np.array([one.error**2 for one in found])
    assert found[0].degrees == pytest.approx(2 * variances.mean() ** 2 / variances.var(), rel=0.15)
    assert found[0].degrees < 3


# --- at the edges ---------------------------------------------------------------------------------


def test_no_error_at_all_is_not_known_to_be_zero() -> None:
    found = estimate([sample([0] * 6, total=50)], "word", SPEC, UNKNOWN)
    assert (found.rate, found.low) == (0.0, 0.0)
    assert found.high is not None
    assert 3 / 300 < found.high < 8 / 300  # three errors: the rule of three


def test_all_wrong_is_not_known_to_be_certain() -> None:
    found = estimate([sample([50] * 6, total=50)], "word", SPEC, UNKNOWN)
    assert found.low is not None
    assert found.low < 1 - 3 / 300
    assert found.high == 1.0


def test_rates_above_one_are_as_they_are() -> None:
    found = estimate([sample([14, 15, 12, 16, 13])], "word", SPEC, UNKNOWN)
    assert found.rate == pytest.approx(1.4)
    assert found.high is not None
    assert found.high > 1.5


def test_five_speakers_that_all_agree_show_a_difference() -> None:
    """What a permutation test over five speakers cannot: its smallest p is 1/16."""
    first = [sample([30, 35, 32, 28, 33], seed, total=60) for seed in (1, 2)]
    second = [sample([20, 24, 23, 19, 22], seed, total=60) for seed in (1, 2)]
    noise = SeedNoise(0.01, 4)
    found = difference(first, second, "word", SPEC, noise)
    assert found.p is not None
    assert found.smallest is not None
    assert found.p < 0.01
    assert found.smallest < abs(found.difference)


def test_identical_treatments_and_mirrored_ones() -> None:
    one, two = [sample([1, 2, 3, 4, 5])], [sample([2, 2, 5, 4, 7])]
    noise = SeedNoise(0.02, 3)
    same = difference(one, one, "word", SPEC, noise)
    assert (same.difference, same.p) == (0.0, 1.0)
    there, back = difference(one, two, "word", SPEC, noise), difference(two, one, "word", SPEC, noise)
    assert there.difference == -back.difference
    assert there.p == back.p
    assert there.low is not None
    assert back.high is not None
    assert there.low == pytest.approx(-back.high)


def test_a_p_is_never_zero() -> None:
    first, second = [sample([0] * 400, total=1000)], [sample([1000] * 400, total=1000)]
    found = difference(first, second, "word", SPEC, SeedNoise(0.0, 200))
    assert found.p is not None
    assert 0 < found.p < 1e-200


def test_too_few_speakers_are_counted_by_utterance() -> None:
    names = ["a", "b", "c"] * 8
    found = estimate([sample([3, 1, 4, 2] * 6, speakers=names)], "word", SPEC, UNKNOWN)
    assert (found.unit, found.note, found.speakers) == ("utterance", "3 speakers", 3)
    assert found.degrees == pytest.approx(23)
    compared = difference(
        [sample([3, 1, 4, 2] * 6, speakers=names)], [sample([2, 1, 4, 1] * 6, speakers=names)], "word", SPEC, UNKNOWN
    )
    assert (compared.unit, compared.note) == ("utterance", "3 speakers")


def test_one_utterance_has_neither_interval_nor_p() -> None:
    noise = SeedNoise(0.05, 3)
    found = estimate([sample([3])], "word", SPEC, noise)
    assert (found.rate, found.low, found.high, found.unit) == (0.3, None, None, "none")
    compared = difference([sample([3])], [sample([4])], "word", SPEC, noise)
    assert (compared.low, compared.high, compared.p, compared.smallest) == (None, None, None, None)


def test_no_seed_repeated_says_so() -> None:
    groups = [[sample([1, 2, 3, 4, 5])], [sample([2, 2, 5, 4, 7])]]
    assert seed_noise(groups, "word") == UNKNOWN
    assert seed_noise([], "word") == UNKNOWN


def test_what_cannot_be_compared_is_refused() -> None:
    first = sample([1, 2, 3, 4, 5])
    with pytest.raises(UserError, match="same utterances"):
        difference([first], [sample([1, 2, 3, 4])], "word", SPEC, UNKNOWN)
    with pytest.raises(UserError, match="same references"):
        difference([first], [sample([1, 2, 3, 4, 5], total=9)], "word", SPEC, UNKNOWN)
    with pytest.raises(UserError, match="same utterances"):
        estimate([first, sample([1, 2, 3, 4], 2)], "word", SPEC, UNKNOWN)
    with pytest.raises(UserError, match="one draw, not two"):
        estimate([first, first], "word", SPEC, UNKNOWN)
    with pytest.raises(UserError, match="no counts of 'char'"):
        estimate([first], "char", SPEC, UNKNOWN)
    with pytest.raises(UserError, match="references are empty"):
        estimate([sample([0, 0], total=0)], "word", SPEC, UNKNOWN)
    with pytest.raises(UserError, match="no runs"):
        estimate([], "word", SPEC, UNKNOWN)


def test_order_of_utterances_does_not_matter() -> None:
    one = sample([1, 2, 3, 4, 5])
    other = Sample(2, one.counts[::-1])
    assert difference([one], [other], "word", SPEC, UNKNOWN).difference == 0.0


def test_words_and_characters_have_the_same_units() -> None:
    rows = [
        UtteranceCounts(str(i), f"s{i}", {"word": Edits(sub=1, ref=10), "char": Edits(sub=2, ref=r)})
        for i, r in enumerate((900, 5, 5, 5, 5))
    ]
    assert {estimate([Sample(1, tuple(rows))], m, SPEC, UNKNOWN).unit for m in ("word", "char")} == {"speaker"}


def test_folds_are_seeds_of_the_whole() -> None:
    """Each seed is five trainings, each tested on two of ten speakers: seeds are known by their union."""
    random = np.random.default_rng(6)
    groups = []
    for _ in range(4):
        folds = np.repeat(random.normal(0, 8, (3, 5)), 2, axis=1)
        errors = np.clip(40 + folds + random.normal(0, 3, (3, 10)), 0, 100)
        groups.append([sample(row, seed, total=100) for seed, row in enumerate(errors)])
    noise = seed_noise(groups, "word")
    assert noise.degrees == 8
    assert 0.015 < noise.sd < 0.06  # 8 points / √5
    found = estimate(groups[0], "word", SPEC, noise)
    assert (found.seeds, found.speakers, found.unit) == (3, 10, "speaker")


# --- families -------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_smallest_difference_grows_with_the_family() -> None:
    found = difference([sample([1, 2, 3, 4, 5])], [sample([2, 2, 5, 4, 7])], "word", SPEC, SeedNoise(0.02, 6))
    assert found.smallest is not None
    sizes = [found.smallest_of(tests) for tests in (1, 2, 6)]
    assert sizes[0] == found.smallest
    assert sizes == sorted(sizes, key=lambda size: size or 0)
    assert "6 tests" in family_text(6)
    assert "no correction" in family_text(1)


def test_the_smallest_difference_is_shown_in_four_of_five_studies() -> None:
    """Treatments are moved apart by it, in studies of its own size."""
    random = np.random.default_rng(12)
    world = Simulated(12, treatment=0.2, seed=0.2)
    sizes = []
    for _ in range(150):
        groups = world.treatments(random, [3] * 6)
        noise = seed_noise(groups, "word")
        sizes += [difference(a, b, "word", SPEC, noise).smallest or 0.0 for a, b in itertools.pairwise(groups)]
    size = float(np.median(sizes))
    shown = []
    for _ in range(150):
        groups = world.treatments(random, [3] * 6)
        noise = seed_noise(groups, "word")
        for a, b in zip(groups[::2], groups[1::2], strict=True):
            found = difference(a, b, "word", SPEC, noise)
            assert found.p is not None
            change = found.difference + size
            shown.append(2 * stats.t.sf(abs(change) / found.error, found.degrees) < 0.05)
    assert 0.7 < np.mean(shown) < 0.9


# --- as often right as they say -------------------------------------------------------------------

SIZES = [  # speakers, seeds
    *((4, 2), (4, 3), (5, 1), (5, 2), (5, 5), (6, 3), (8, 2), (8, 4)),
    *((10, 1), (10, 3), (16, 2), (16, 5), (50, 1), (50, 3)),
]


def covered(world: Simulated, seeds: Sequence[int], trials: int, known: bool = True) -> float:
    """The share of 95 % intervals that hold the true rate."""
    random = np.random.default_rng([world.speakers, len(seeds), *seeds])
    truth, inside = world.truth, []
    for _ in range(trials):
        groups = world.treatments(random, seeds)
        noise = seed_noise(groups, "word") if known else UNKNOWN
        for group in groups:
            found = estimate(group, "word", SPEC, noise)
            assert found.low is not None
            assert found.high is not None
            inside.append(found.low <= truth <= found.high)
    return float(np.mean(inside))


@pytest.mark.parametrize("unequal", [False, True])
@pytest.mark.parametrize(("speakers", "seeds"), SIZES)
def test_intervals_cover_what_they_say(speakers: int, seeds: int, unequal: bool) -> None:
    """Four treatments of a study; with one seed each, two more have three, and lend them their noise."""
    plan = [seeds] * 4 if seeds > 1 else [1, 1, 1, 3, 3]
    assert 0.92 <= covered(Simulated(speakers, unequal=unequal), plan, 150) <= 0.99


@pytest.mark.parametrize("middle", [-2.5, 2.0])
@pytest.mark.parametrize("speakers", [5, 10])
def test_intervals_cover_close_to_the_bounds(speakers: int, middle: float) -> None:
    assert 0.91 <= covered(Simulated(speakers, middle=middle), [3] * 4, 150) <= 0.99


@pytest.mark.parametrize("speakers", [4, 5, 6, 8, 10, 16, 50])
def test_intervals_of_one_model_cover_other_speakers(speakers: int) -> None:
    """Without a repeated seed: of treatments that have no seed noise, since these are the models spoken of."""
    world = Simulated(speakers, treatment=0.0, seed=0.0, both=0.0)
    assert 0.92 <= covered(world, [1], 500, known=False) <= 0.985


def rejected(world: Simulated, seeds: int, trials: int, noise_by: Sequence[float] = ()) -> float:
    """How often two groups of seeds of one treatment are called different at 5 %, in studies of three such pairs."""
    random = np.random.default_rng([7, world.speakers, seeds])
    called = []
    for _ in range(trials):
        groups = world.treatments(random, [seeds] * 6, copies=2, noise=noise_by)
        noise = seed_noise(groups, "word")
        for one, two in zip(groups[::2], groups[1::2], strict=True):
            found = difference(one, two, "word", SPEC, noise)
            assert found.p is not None
            called.append(found.p < 0.05)
    return float(np.mean(called))


@pytest.mark.parametrize(("speakers", "seeds"), [size for size in SIZES if size[1] > 1])
def test_two_groups_of_seeds_of_one_treatment_are_called_different_one_time_in_twenty(
    speakers: int, seeds: int
) -> None:
    assert 0.015 <= rejected(Simulated(speakers), seeds, 250) <= 0.07


@pytest.mark.parametrize("speakers", [5, 16])
def test_seeds_without_an_effect_are_not_called_different_more_often(speakers: int) -> None:
    assert rejected(Simulated(speakers, seed=0.0), 3, 200) <= 0.07


def test_seeds_that_speak_for_themselves_need_no_equal_noise() -> None:
    """From four seeds on, noise that differs ninefold between treatments is no error of the quiet nor of the noisy."""
    by = [0.33, 0.33, 1, 1, 3, 3]
    assert 0.02 <= rejected(Simulated(16, seed=0.25), 4, 250, by) <= 0.07


def test_a_table_of_two_hundred_cells_takes_seconds() -> None:
    random = np.random.default_rng(3)
    world = Simulated(200)
    groups = world.treatments(random, [3] * 8)
    begun = time.process_time()
    noise = seed_noise(groups, "word")
    for _ in range(25):
        for group in groups:
            estimate(group, "word", SPEC, noise)
            difference(groups[0], group, "word", SPEC, noise)
    assert time.process_time() - begun < 2
