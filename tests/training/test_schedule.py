"""Learning rates against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from thaw.config.schema import RecipeSpec
from thaw.training.schedule import rate


def rates(total: int, *steps: int, **recipe: Any) -> list[float]:
    spec = RecipeSpec(epochs=1, **recipe)
    return [rate(spec, step, total) for step in steps or range(1, total + 1)]


def test_constant_rises_linearly_then_stays() -> None:
    assert rates(99, 1, 2, 4, 5, 99, learning_rate=0.01, warmup_steps=4) == [0.0025, 0.005, 0.01, 0.01, 0.01]
    assert rates(99, 1, 99, learning_rate=0.01) == [0.01, 0.01]
    by_share = rates(50, learning_rate=0.01, warmup_ratio=0.1)
    assert by_share == rates(50, learning_rate=0.01, warmup_steps=5)


def test_cosine_has_golden_values() -> None:
    # 2 of 10 steps warm up: thirds of the full rate; then cosines of 0, 1/8, … 7/8 of a half turn.
    cosines = [1.0, 0.92387953, 0.70710678, 0.38268343, 0.0, -0.38268343, -0.70710678, -0.92387953]
    made = rates(10, learning_rate=0.012, min_learning_rate=0.001, schedule="cosine", warmup_steps=2)
    assert made == pytest.approx([0.004, 0.008, *(0.0065 + 0.0055 * cosine for cosine in cosines)], rel=1e-7)


def test_cosine_without_warmup_starts_at_the_full_rate_and_ends_above_the_least() -> None:
    made = rates(1000, learning_rate=0.01, schedule="cosine")
    assert made[0] == 0.01
    assert made[500] == pytest.approx(0.005)
    assert 0 < made[-1] < 1e-7
    assert made == sorted(made, reverse=True)


def test_warmup_is_a_share_of_all_steps_rounded_down() -> None:
    made = rates(109, learning_rate=0.01, schedule="cosine", warmup_ratio=0.12)  # 13.08 steps
    assert made == rates(109, learning_rate=0.01, schedule="cosine", warmup_steps=13)
    assert made[12] < made[13] == 0.01 > made[14]


def test_a_warmup_longer_than_the_training_never_ends() -> None:
    assert rates(3, learning_rate=0.01, schedule="cosine", warmup_steps=9) == pytest.approx([0.001, 0.002, 0.003])


def test_noam_has_golden_values() -> None:
    """Factor 5, width 256, 25,000 steps of warm-up, as ESPnet trained on Switchboard; 5 / 16 is 0.3125."""
    spec = {"schedule": "noam", "schedule_width": 256, "learning_rate": 5.0, "warmup_steps": 25_000}
    wanted = [7.9056942e-08, 7.9056942e-04, 1.9764235e-03, 9.8821177e-04]
    assert rates(200_000, 1, 10_000, 25_000, 100_000, **spec) == pytest.approx(wanted, rel=1e-7)


def test_noam_rises_then_falls_and_not_below_the_least() -> None:
    spec = {"schedule": "noam", "schedule_width": 16, "learning_rate": 1.0, "warmup_ratio": 0.1}
    made = rates(100, **spec)
    assert made.index(max(made)) == 9
    assert made[9] == pytest.approx(0.25 / 10**0.5)
    assert rates(100, min_learning_rate=0.05, **spec) == [
        max(rate, 0.05) if i > 9 else rate for i, rate in enumerate(made)
    ]


@pytest.mark.parametrize(
    "recipe",
    [
        {"schedule": "noam", "warmup_steps": 10},
        {"schedule": "noam", "schedule_width": 64},
        {"schedule": "cosine", "schedule_width": 64},
    ],
)
def test_noam_needs_a_width_and_a_warm_up(recipe: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"schedule_width: the schedule noam|needs warmup_steps"):
        RecipeSpec(epochs=1, **recipe)
