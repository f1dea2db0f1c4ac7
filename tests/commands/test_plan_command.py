"""`thaw plan`: where its counts come from, what it prints, and what a calibration leaves."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from tests.commands.project import config_file, put
from tests.commands.project import plan as planned
from thaw.commands import plan
from thaw.config.models import QuartzNetSpec
from thaw.config.sources import Source
from thaw.errors import UserError
from thaw.planning import layout
from thaw.planning.amounts import Amount
from thaw.planning.calibration import Setting
from thaw.planning.estimate import calibrated_sets

PLAN = planned()
GERMAN = next(m for m in PLAN.manifests.values() if m.corpus.name == "german")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return config_file(tmp_path / "config.yaml")


def told(capsys: pytest.CaptureFixture[str], here: Path) -> str:
    plan.run(argparse.Namespace(config=[here], calibrate=False, calibration=plan.CALIBRATION))
    return capsys.readouterr().out


def row(shown: str, rule: str) -> list[str]:
    """The cells of one rule's line."""
    line = next(line for line in shown.splitlines() if line.startswith(rule + " "))
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def held(source: dict[str, Any]) -> Amount | None:
    checked: Source = TypeAdapter[Source](Source).validate_python(source)
    return plan.source_amount(checked, "de")


def utterances(found: Amount | None) -> dict[str, int]:
    assert found is not None
    return {split: part.utterances for split, part in found.parts.items()}


def table(path: str, rows: int) -> Path:
    """A table of so many rows under a heading."""
    return put(path, "client_id\tpath\tsentence\n" + "s\tc\tx\n" * rows)


# --- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "lines"), [("", 0), ("a", 1), ("a\n", 1), ("a\nb", 2), ("\n\n", 2)])
def test_lines(tmp_path: Path, text: str, lines: int) -> None:
    assert plan.count_lines(put(tmp_path / "table", text)) == lines


def test_manifests_win_over_the_listing_and_that_over_the_config() -> None:
    assert utterances(plan.amount_of(GERMAN)) == {"train": 20, "dev": 4, "test": 4}
    put(Path(layout.utterances(GERMAN.corpus)).with_name("source.json"), {"splits": {"train": 19, "dev": 4, "test": 3}})
    listed = plan.amount_of(GERMAN)
    assert utterances(listed) == {"train": 19, "dev": 4, "test": 3}
    counts = {split: {"utterances": 2, "hours": 1.5} for split in ("train", "dev", "test")}
    put(layout.manifest(GERMAN, "counts.json"), counts)
    counted = plan.amount_of(GERMAN)
    assert counted is not None
    assert (counted.utterances, counted.hours) == (6, 4.5)


def test_rows_of_a_release() -> None:
    for split, rows in {"train": 900, "dev": 50, "test": 40}.items():
        table(f"cv/de/{split}.tsv", rows)
    source = {"kind": "commonvoice", "path": "cv"}
    assert held(source) is None  # no folder of clips
    Path("cv/de/clips").mkdir()
    found = held(source)
    assert utterances(found) == {"train": 900, "dev": 50, "test": 40}
    assert found is not None
    assert "assumed" in found.origin
    assert found.hours == pytest.approx(990 * 4.2 / 3600)


def test_durations_of_a_newer_release() -> None:
    for split in ("train", "dev", "test"):
        table(f"cv/{split}.tsv", 100)
    Path("cv/clips").mkdir()
    put("cv/clip_durations.tsv", "clip\tduration[ms]\na.mp3\t5000\nb.mp3\t7000\n")
    found = held({"kind": "commonvoice", "path": "cv"})
    assert found is not None
    assert found.hours == pytest.approx(300 * 6 / 3600)


def test_own_tables_and_manifests() -> None:
    table("own.tsv", 100)
    source = {"kind": "table", "path": "own.tsv", "held_out": {"dev": 0.1, "test": 0.2}}
    assert utterances(held(source)) == {"train": 70, "dev": 10, "test": 20}
    put("train.jsonl", "{}\n" * 50)
    put("test.jsonl", "{}\n" * 5)
    source = {"kind": "manifest", "splits": {"train": "train.jsonl", "test": "test.jsonl"}}
    assert utterances(held(source)) == {"train": 45, "dev": 5, "test": 5}


def test_named_speakers_and_a_column_of_splits_are_counted() -> None:
    put("own.tsv", "path\ttext\tspeaker\tset\n" + "".join(f"{n}\tx\ts{n % 10}\ttrain\n" for n in range(100)))
    named = {"kind": "table", "path": "own.tsv", "speakers": {"dev": ["s0"], "test": ["s1", "s2", "s3"]}}
    assert utterances(held(named)) == {"train": 60, "dev": 10, "test": 30}
    with pytest.raises(UserError, match="speakers: nobody: not there"):
        held({**named, "speakers": {"dev": ["nobody"]}})
    put("own.tsv", "path\ttext\tspeaker\tset\na\tx\ts\ttrain\nb\tx\ts\tval\nc\tx\ts\ttest\nd\tx\ts\ttest\n")
    own = {"kind": "table", "path": "own.tsv", "columns": {"split": "set"}}
    assert utterances(held(own)) == {"train": 1, "dev": 1, "test": 2}
    put("own.jsonl", "".join(f'{{"audio_filepath": "{n}", "text": "x", "speaker": "s{n % 5}"}}\n' for n in range(50)))
    own = {"kind": "manifest", "path": "own.jsonl", "speakers": {"dev": ["s0"], "test": ["s1"]}}
    assert utterances(held(own)) == {"train": 30, "dev": 10, "test": 10}


def test_a_union_is_known_when_its_parts_are() -> None:
    table("own.tsv", 100)
    own = {"kind": "table", "path": "own.tsv"}
    both = {"kind": "union", "parts": {"a": own, "b": own}}
    assert utterances(held(both)) == {"train": 140, "dev": 20, "test": 40}
    both["parts"]["b"] = {"kind": "librispeech"}  # type: ignore[index]
    assert held(both) is None


def test_what_is_not_here_is_unknown() -> None:
    assert held({"kind": "commonvoice", "dataset": "abc"}) is None
    assert held({"kind": "table", "path": "nowhere.tsv"}) is None
    assert held({"kind": "mls", "language": "german"}) is None


# --- the page ---------------------------------------------------------------------------------------------------------


def test_without_a_calibration(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, here)
    assert "german: train 20, dev 4, test 4 utterances" in shown
    assert f"no calibration: run thaw plan --calibrate --config {here}" in shown
    assert "GPU-hours" not in shown
    assert row(shown, "train")[-1] == "-"
    assert row(shown, "train")[-3] != "-"  # its disk


def calibration(unit: str, sets: tuple[str, ...] = ("none", "layer_1,layer_2"), rate: float = 3600.0) -> dict[str, Any]:
    timing = {
        "model": {"kind": "deepspeech", "hidden": 8},
        "batch_size": 24,
        "precision": "fp32",
        "clip_seconds": 1.0,
        "steps": dict.fromkeys(sets, rate),
        "forward": rate,
    }
    return {"device": "H200", "unit": unit, "torch": "2.11.0", "timings": [timing]}


def test_hours_of_a_gpu_have_their_column(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(plan.CALIBRATION, calibration("GPU-hours"))
    shown = told(capsys, here)
    audio = 24 * 2 * (2 + 3 * 3)  # seconds of train and dev, through 2 epochs of the source and 3 of three treatments
    assert row(shown, "train")[-1] == f"{audio}"
    assert row(shown, "train")[-2] == "-"
    assert "calibrated on H200, torch 2.11.0" in shown


def test_hours_of_a_cpu_are_added_to_the_others(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(plan.CALIBRATION, calibration("CPU-hours"))
    shown = told(capsys, here)
    assert "GPU-hours" not in shown
    assert row(shown, "train")[-1] == "528"


def test_a_calibration_of_other_layers_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(plan.CALIBRATION, calibration("GPU-hours", ("none",)))
    shown = told(capsys, here)
    assert "the calibration lacks" in shown
    assert row(shown, "train")[-1].startswith("at least")


def test_a_broken_calibration_says_what_to_do() -> None:
    put(plan.CALIBRATION, {"device": "H200"})
    with pytest.raises(UserError, match="run thaw plan --calibrate again"):
        plan.read_calibration(plan.CALIBRATION)


def test_calibrating(here: Path) -> None:
    """In a process of its own, since it changes how torch computes."""
    code = (
        "from pathlib import Path; from thaw.commands import plan; from thaw.config.load import load;"
        "from thaw.planning.plan import resolve;"
        "plan.calibrate(resolve(load([Path('config.yaml')])), 'cpu', 1, Path('c.json'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found = plan.read_calibration(Path("c.json"))
    assert found is not None
    assert found.unit == "CPU-hours"
    assert all(found.covers(run) for run in PLAN.runs.values())
    assert {timing.setting: set(timing.steps) for timing in found.timings} == calibrated_sets(PLAN)
    assert all(rate > 0 for t in found.timings for rate in (*t.steps.values(), t.forward))
    assert "CPU" in found.device
    assert platform.node() not in found.device.split()


def test_a_step_of_a_model_that_halves_its_frames() -> None:
    model = QuartzNetSpec(kind="quartznet", variant="mini-3x1")
    setting = Setting(model=model, batch_size=2, precision="fp32", optimizer="novograd", dropout=True)
    train, forward = plan.steps_on_noise(setting, "conv_1,block_1", torch.device("cpu"))
    train()
    forward()


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (3e12, "3.0 TB")]
)
def test_sizes(value: float, shown: str) -> None:
    assert plan.size(value) == shown
