"""The published numbers in config/published: the table and the curves are of the same runs."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from tests.exhibits.fakes import ROOT, TREATMENTS, Fakes
from thaw.errors import UserError
from thaw.exhibits.published import read_rates
from thaw.studies.freezing import REMARKS
from thaw.studies.freezing import TREATMENTS as ORDER

FOLDER = ROOT / "config/published"


def rows() -> list[dict[str, str]]:
    with (FOLDER / "freezing.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_treatment_is_there_for_both_targets() -> None:
    found = [(row["target"], row["treatment"], row["label"]) for row in rows()]
    assert found == [(target, *item) for target in ("german", "swiss-german") for item in TREATMENTS.items()]
    assert tuple(TREATMENTS) == ORDER


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["curve"])
def test_best_epoch_and_dev_loss_are_the_minimum_of_the_curve(row: dict[str, str]) -> None:
    dev = json.loads((FOLDER / "deepspeech-paper-curves.json").read_text())[row["curve"]]["val"]
    assert min(dev) == dev[int(row["best_epoch"]) - 1]
    assert float(row["dev_loss"]) == pytest.approx(min(dev), abs=0.005)
    assert int(row["epochs"]) == len(dev)


def test_rows_with_a_remark_are_those_where_text_and_logs_disagree() -> None:
    differ = {row["treatment"] for row in rows() if row["frozen_as_described"] != row["frozen_as_logged"]}
    assert differ == set(REMARKS)


def test_a_spec_without_the_file_is_refused(fakes: Fakes) -> None:
    with pytest.raises(UserError, match=r"names no path for the published file freezing\.csv"):
        read_rates(fakes.spec("table2", published={}), "freezing.csv")


def test_a_published_perplexity_is_printed_as_it_is(fakes: Fakes, tmp_path: Path) -> None:
    path = tmp_path / "perplexity.csv"
    path.write_text("treatment,label,target,target_label,perplexity\nscratch,Baseline,wiki,WikiText-2,65.6\n")
    [rate] = read_rates(fakes.spec("table2", published={"perplexity.csv": str(path)}), "perplexity.csv")
    assert rate.rates["token"] == pytest.approx(math.log(65.6))  # nats over tokens, as ours
    assert rate.text("token") == "65.6"
