"""The estimate: sums of counts, and rates of a calibration that is written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.planning.test_plan import plan, run
from thaw.config.models import DeepSpeechSpec, QuartzNetSpec
from thaw.config.schema import SyntheticSource
from thaw.models import build
from thaw.planning.amounts import Amount, Part, Quantity, amount, synthetic_amount, total
from thaw.planning.calibration import Calibration, Setting, Timing, freeze_key
from thaw.planning.estimate import (
    BEAM_SPEED,
    PCM_RATE,
    WEIGHT,
    Line,
    calibrated_sets,
    estimate,
    gone_through,
    in_all,
    layer_parameters,
    run_bytes,
    train_hours,
    trained_hours,
)
from thaw.planning.plan import Plan

PLAN = plan()
HELD = Amount({"train": Part(1000, 10.0), "dev": Part(100, 2.0), "test": Part(100, 1.0)}, "a test")
AMOUNTS = dict.fromkeys(PLAN.manifests, HELD)
STEPS = {"none": 0.01, "layer_1,layer_2": 0.005}
SMALL = DeepSpeechSpec(kind="deepspeech", hidden=8)


def calibration(steps: dict[str, float] = STEPS, batch_size: int = 24, **over: str) -> Calibration:
    timing = Timing(
        model=SMALL, batch_size=batch_size, precision="fp32", clip_seconds=1.0, steps=dict(steps), forward=0.001
    )
    return Calibration(**{"device": "a GPU", "unit": "GPU-hours", "torch": "2", "timings": (timing,), **over})


def lines(of: Plan = PLAN, amounts: dict[str, Amount | None] | None = None, known: bool = True) -> dict[str, Line]:
    found = estimate(of, amounts or dict(AMOUNTS), ["table1", "figure2", "figure3"], calibration() if known else None)
    return {line.rule: line for line in found}


@pytest.mark.parametrize("classes", [3, 29])
@pytest.mark.parametrize("spec", [SMALL, QuartzNetSpec(kind="quartznet", variant="mini-3x1")])
def test_parameters_are_those_of_the_model(spec: DeepSpeechSpec | QuartzNetSpec, classes: int) -> None:
    model = build(spec, classes)
    counted = {name: sum(p.numel() for p in model.layer(name).parameters()) for name in model.layers}
    assert layer_parameters(spec, classes) == counted


@pytest.mark.parametrize(("classes", "parameters"), [(29, 47_224_861), (32, 47_231_008), (42, 47_251_498)])
def test_parameters_at_the_published_size(classes: int, parameters: int) -> None:
    assert sum(layer_parameters(DeepSpeechSpec(kind="deepspeech"), classes).values()) == parameters


def test_sums_say_what_they_lack() -> None:
    assert total([1.0, 2.5]) == Quantity(3.5, 2, 0)
    assert total([]).shown(str) == "-"
    assert total([None]).shown(str) == "unknown"
    assert (total([1.0]) + total([None])).shown(str) == "at least 1.0"
    assert total([0.0]).shown(str) == "0.0"


def test_every_rule_is_counted() -> None:
    """2 corpora of one shard each; a source and three treatments; two decoders; a language model of each corpus."""
    jobs = {rule: line.jobs for rule, line in lines().items()}
    wanted = {"fetch": 2, "audio": 2, "manifest": 2, "lm": 2, "train": 4, "emit": 4, "search": 8, "score": 8}
    assert jobs == wanted | {"table": 1, "figure": 2, "report": 1}
    assert in_all(lines().values()).jobs == sum(jobs.values())


def test_audio_takes_its_length_on_disk() -> None:
    line = lines()["audio"]
    assert line.audio.value == 2 * 13.0
    assert 2 * 13 * 3600 * PCM_RATE < line.disk.value < 1.01 * 2 * 13 * 3600 * PCM_RATE


def test_training_hours() -> None:
    """Three epochs of ten hours of training and two of dev each."""
    assert train_hours(run(PLAN, "scratch"), HELD, calibration()) == pytest.approx(3 * (10 * 0.01 + 2 * 0.001))
    assert train_hours(run(PLAN, "frozen-2"), HELD, calibration()) == pytest.approx(3 * (10 * 0.005 + 2 * 0.001))


def test_a_federation_trains_on_its_cohorts() -> None:
    """4 of 20 speakers in each of 2 rounds an epoch: two fifths of the training split, and all of dev."""
    learner = {"kind": "federated", "clients": 4, "rounds": 2}
    adam = {"finetune": {"optimizer": "adam", "learner": learner}}
    one = run(plan({"recipes": adam}), "scratch")
    assert gone_through(one, HELD) == pytest.approx(3 * (0.4 * 10 + 2))
    assert trained_hours(run(PLAN, "scratch"), HELD) == pytest.approx(3 * 10)
    assert train_hours(one, HELD, calibration()) is None  # nobody timed a step of adam


def test_no_training_hours_without_the_numbers() -> None:
    frozen = run(PLAN, "frozen-2")
    assert train_hours(frozen, HELD, None) is None
    assert train_hours(frozen, None, calibration()) is None
    assert train_hours(frozen, HELD, calibration({"none": 0.01})) is None
    assert train_hours(frozen, HELD, calibration(batch_size=12)) is None
    assert lines(known=False)["train"].device_hours.shown(str) == "unknown"


def test_hours_of_all_trainings() -> None:
    """The source has two epochs; it, `scratch` and `frozen-0` freeze nothing."""
    line = lines()["train"]
    assert line.audio.value == 12.0 * (2 + 3 + 3 + 3)
    assert line.device_hours.value == pytest.approx((2 + 3 + 3) * 0.1 + 3 * 0.05 + 11 * 0.002)


def test_a_tuned_decoder_goes_through_dev_too() -> None:
    line = lines()["search"]
    assert line.audio.value == 4 * 1.0 + 4 * 3.0
    assert line.cpu_hours.value == pytest.approx(4 * 3.0 * 100 / BEAM_SPEED)
    assert line.device_hours.known == 0


def test_two_decoders_cost_one_pass_over_each_split() -> None:
    """Of four models over an hour of test, and two of dev, on which one decoder is tuned; 50 frames a second."""
    line = lines()["emit"]
    assert line.audio.value == 4 * 3.0
    assert line.device_hours.value == pytest.approx(4 * 3.0 * 0.001)
    english, german = (len(one.recipe.alphabet) + 1 for one in (run(PLAN, "source"), run(PLAN, "scratch")))
    assert line.disk.value == pytest.approx(3 * 3600 * 50 * 4 * (english + 3 * german), rel=0.01)


def test_an_unknown_corpus_leaves_the_rest_known() -> None:
    first, second = AMOUNTS
    line = lines(amounts={first: HELD, second: None})["audio"]
    assert (line.disk.known, line.disk.unknown) == (1, 1)
    assert line.audio.value == 13.0


def test_frozen_layers_have_no_moments() -> None:
    scratch, frozen = run(PLAN, "scratch"), run(PLAN, "frozen-2")
    layers = layer_parameters(SMALL, 6)
    assert run_bytes(scratch) == 2 * (WEIGHT + 8) * sum(layers.values())
    assert run_bytes(scratch) - run_bytes(frozen) == 2 * 8 * (layers["layer_1"] + layers["layer_2"])


def test_novograd_leaves_half_as_many_moments() -> None:
    scratch = run(PLAN, "scratch")
    recipe = scratch.recipe.recipe.model_copy(update={"optimizer": "novograd"})
    other = replace(scratch, recipe=scratch.recipe.model_copy(update={"recipe": recipe}))
    assert run_bytes(other) == 2 * (WEIGHT + 4) * sum(layer_parameters(SMALL, 6).values())
    assert train_hours(other, HELD, calibration()) is None  # it was Adam that was timed


def test_what_is_to_be_calibrated() -> None:
    setting = Setting(model=SMALL, batch_size=24, precision="fp32")
    assert calibrated_sets(PLAN) == {setting: {"none", "layer_1,layer_2"}}
    assert calibration().timings[0].setting == setting
    assert freeze_key(("lstm", "layer_1")) == "layer_1,lstm"


def test_calibrations_of_one_device_are_joined() -> None:
    old = calibration({"none": 9.0, "lstm": 2.0})
    new = calibration({"none": 1.0})
    joined = new.joined(old)
    assert joined.timings[0].steps == {"none": 1.0, "lstm": 2.0}
    assert len(calibration(batch_size=7).joined(old).timings) == 2
    assert new.joined(old.model_copy(update={"device": "another"})) == new
    assert new.joined(None) == new


def test_covers() -> None:
    assert calibration().covers(run(PLAN, "frozen-2"))
    assert not calibration({"none": 1.0}).covers(run(PLAN, "frozen-2"))
    assert not calibration(batch_size=7).covers(run(PLAN, "scratch"))


def test_amounts() -> None:
    counts = {"train": 20, "dev": 4, "test": 4}
    source = SyntheticSource.model_validate(
        {"kind": "synthetic", "voice": "de", "locale": "de", "utterances": counts, "speakers": counts}
    )
    made = synthetic_amount(source)
    assert made.utterances == 28
    assert made.hours == pytest.approx(28 * 2 / 3600)
    both = made + amount({"train": 3600}, 2.0, "a test")
    assert both.parts["train"].hours == pytest.approx(2 + 40 / 3600)
    assert both.parts["test"].utterances == 4
    assert "a test" in both.origin
