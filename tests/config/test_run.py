"""Versions: only the runs whose numbers were wrong have a new one."""

from __future__ import annotations

from typing import Any

import pytest

from thaw.config.models import DeepSpeechSpec, QuartzNetSpec
from thaw.config.run import PADDED_VERSION, TRAIN_VERSION, train_version
from thaw.config.schema import FrozenSpec, RecipeSpec

QUARTZNET = QuartzNetSpec(kind="quartznet", variant="mini-3x1")
LOWER = QUARTZNET.layer_names[:3]


@pytest.mark.parametrize(
    ("freeze", "recipe", "frozen", "version"),
    [
        (LOWER, {}, {}, PADDED_VERSION),
        (LOWER, {"dropout": 0.1}, {"dropout": "off"}, PADDED_VERSION),
        (LOWER, {"dropout": 0.1}, {}, TRAIN_VERSION),  # nothing is kept
        (LOWER, {"augmentation": {"speed": [0.9, 1.1]}}, {}, TRAIN_VERSION),
        (LOWER, {}, {"norm": "learn"}, TRAIN_VERSION),
        (LOWER[1:], {}, {}, TRAIN_VERSION),
        (QUARTZNET.layer_names[:-1], {}, {}, TRAIN_VERSION),  # no norm behind what is kept
        ((), {}, {}, TRAIN_VERSION),
    ],
)
def test_kept_activations_before_norms_that_move(
    freeze: tuple[str, ...], recipe: dict[str, Any], frozen: dict[str, Any], version: int
) -> None:
    how = (RecipeSpec.model_validate({"epochs": 1, **recipe}), freeze, FrozenSpec.model_validate(frozen))
    assert train_version(QUARTZNET, QUARTZNET.layer_names, *how) == version
    deepspeech = DeepSpeechSpec(kind="deepspeech")
    assert (
        train_version(deepspeech, deepspeech.layer_names, how[0], deepspeech.layer_names[:2], how[2]) == TRAIN_VERSION
    )
