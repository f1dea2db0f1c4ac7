"""Languages in every batch, as often as their sizes and a temperature say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from thaw.config.schema import RecipeSpec
from thaw.training.data import epoch_batches
from thaw.training.mixing import mixed, shares

LANGS = ["aa"] * 60 + ["bb"] * 30 + ["cc"] * 10


def test_shares_go_from_sizes_to_equal_ones() -> None:
    sizes = {"aa": 600, "bb": 300, "cc": 100}
    assert shares(sizes, 1.0) == sizes
    assert shares(sizes, 1e6) == {"aa": 333, "bb": 333, "cc": 333}
    roots = {lang: np.sqrt(size) for lang, size in sizes.items()}
    assert shares(sizes, 2.0) == {lang: round(1000 * root / sum(roots.values())) for lang, root in roots.items()}
    assert shares({"aa": 10_000, "bb": 1}, 0.1)["bb"] == 1


def test_at_temperature_one_everyone_is_heard_once() -> None:
    assert sorted(mixed(LANGS, 1.0, 1, 1).tolist()) == list(range(100))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 1e6])
def test_every_batch_holds_every_language_as_often_as_its_share(temperature: float) -> None:
    wanted = shares(Counter(LANGS), temperature)
    batches = epoch_batches([1] * 100, 20, "mixed", False, 1, 1, LANGS, temperature)
    for batch in batches[:-1] if len(batches[-1]) < 20 else batches:
        counted = Counter(LANGS[index] for index in batch)
        assert all(abs(counted[lang] - wanted[lang] / 5) <= 1 for lang in wanted), counted


def test_scarce_languages_are_heard_more_than_once_and_evenly() -> None:
    times = Counter(mixed(LANGS, 1e6, 1, 1).tolist())
    assert {times[index] for index in range(90, 100)} <= {3, 4}
    assert {times[index] for index in range(60)} <= {0, 1}


def test_an_order_is_a_function_of_seed_and_epoch() -> None:
    orders = [mixed(LANGS, 2.0, seed, epoch).tolist() for seed, epoch in ((1, 1), (1, 1), (1, 2), (2, 1))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_a_temperature_needs_mixed_batches() -> None:
    with pytest.raises(ValueError, match="language_temperature: without order: mixed"):
        RecipeSpec(epochs=1, language_temperature=2.0)
