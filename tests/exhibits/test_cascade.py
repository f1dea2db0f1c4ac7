"""The break rule of Algorithm 1, and where it ends with each seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exhibits.fakes import counts_of
from thaw.config.schema import ScoringSpec
from thaw.errors import UserError
from thaw.exhibits.cascade import outcome, steps, verdicts
from thaw.exhibits.frame import read_judged
from thaw.exhibits.spec import DecodeRow, Place, RunRow
from thaw.files import write_json, write_jsonl
from thaw.scoring.scores import score

CASES = {
    "down all the way": ([0.4, 0.3, 0.2, 0.1], ["start", "accepted", "accepted", "accepted"]),
    "a tie goes on": ([0.4, 0.4, 0.3], ["start", "accepted", "accepted"]),
    "up is the end": ([0.4, 0.3, 0.31, 0.1], ["start", "accepted", "rejected", "never reached"]),
    "at once": ([0.4, 0.5, 0.3, 0.2], ["start", "rejected", "never reached", "never reached"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_stage_is_rejected_only_where_the_dev_error_rises(name: str) -> None:
    errors, expected = CASES[name]
    assert verdicts(errors) == expected


def row(folder: Path, role: str, at: int, seed: int, errors: list[float], best: int) -> RunRow:
    """A run whose dev CER was `errors`, epoch by epoch."""
    where = folder / f"{role}-{at}-{seed}"
    write_json(where / "run.json", {"best": {"epoch": best}, "epochs": len(errors)}, sealed=False)
    epochs = [{"epoch": n, "dev_loss": 1.0, "dev_cer": error} for n, error in enumerate(errors, start=1)]
    write_jsonl(where / "metrics.jsonl", epochs, sealed=False)
    place = Place(group="ctc", label="CTC", role=role, at=at, judge="cer", exhibit="table2")
    files = {"record": str(where / "run.json"), "metrics": str(where / "metrics.jsonl")}
    treatment = "ctc-baseline" if role == "baseline" else f"ctc-stage-{at}"
    return RunRow(id=where.name, treatment=treatment, label=treatment, target="english", target_label="English",
                  seed=seed, recipe=treatment, place=place, **files)  # fmt: skip


def test_each_seed_ends_where_its_own_dev_errors_say(tmp_path: Path) -> None:
    runs = [
        row(tmp_path, "baseline", 0, 1, [0.9, 0.5, 0.2], best=2),  # 0.5 counts: its weights are kept, by dev loss
        row(tmp_path, "stage", 1, 1, [0.4], best=1),
        row(tmp_path, "stage", 2, 1, [0.6], best=1),
        row(tmp_path, "baseline", 0, 2, [0.5], best=1),
        row(tmp_path, "stage", 1, 2, [0.6], best=1),
        row(tmp_path, "stage", 2, 2, [0.1], best=1),
    ]
    ends = outcome(runs, "ctc-top-down", "Top-down")
    assert [(run.seed, run.id) for run in ends] == [(1, "stage-1-1"), (2, "baseline-0-2")]
    assert {(run.treatment, run.recipe) for run in ends} == {("ctc-top-down", "ctc-top-down")}
    assert [step.so_far for step in steps(runs)[1]] == [3, 4, 5]


def test_one_baseline_may_stand_for_all_seeds(tmp_path: Path) -> None:
    runs = [row(tmp_path, "baseline", 0, 1, [0.5], 1), row(tmp_path, "stage", 1, 2, [0.4], 1)]
    [chain] = steps(runs).values()
    assert [step.trained.run.seed for step in chain] == [1, 2]
    assert outcome(runs, "x", "X")[0].seed == 2


def test_metrics_without_the_measure_are_told(tmp_path: Path) -> None:
    one = row(tmp_path, "baseline", 0, 1, [0.5], 1)
    assert one.place is not None
    other = one.model_copy(update={"place": one.place.model_copy(update={"judge": "wer"})})
    with pytest.raises(UserError, match="no dev_wer of its best epoch"):
        steps([other, row(tmp_path, "stage", 1, 1, [0.4], 1)])


def test_a_part_of_the_test_set_is_counted_by_itself(tmp_path: Path) -> None:
    counts = counts_of({"sw-1": (2, 4), "sw-2": (0, 0), "en-1": (9, 30)})
    write_json(tmp_path / "scores.json", score(counts, ScoringSpec()), sealed=False)
    write_jsonl(tmp_path / "counts.jsonl", [one.row() for one in counts], sealed=False)
    files = {"scores": str(tmp_path / "scores.json"), "counts": str(tmp_path / "counts.jsonl")}
    run = row(tmp_path, "baseline", 0, 1, [0.5], 1)
    whole, part, none = (DecodeRow(id="d", decoder="greedy", label="greedy", ids=ids, **files)
                         for ids in ("", "clip-sw*", "clip-zz*"))  # fmt: skip
    assert read_judged(run, whole).scores["word"]["rate"] == 11 / 30
    assert read_judged(run, part).scores["word"]["rate"] == 2 / 20
    with pytest.raises(UserError, match=r"no utterance of it is called clip-zz\*"):
        read_judged(run, none)
