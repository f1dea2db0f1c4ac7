"""The second study: the post's numbers kept apart, curves by step, the comparison of learning rates."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.exhibits.fakes import CROSSLINGUAL, ROOT, Fakes, keep_epoch
from tests.exhibits.test_figures import colours_in, rgb
from tests.exhibits.test_tables import draw, grid_of, rows_of, texts
from thaw.errors import UserError
from thaw.exhibits.curves import best_epoch, read_epochs
from thaw.exhibits.published import read_rates
from thaw.exhibits.spec import drawable
from thaw.exhibits.style import TARGET_COLOURS
from thaw.exhibits.together import exhibits
from thaw.files import read_jsonl, write_jsonl
from thaw.studies.crosslingual import RATES

TARGETS = {"russian": "Russian", "spanish": "Spanish"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Fakes:
    return Fakes(tmp_path_factory.mktemp("crosslingual"), targets=TARGETS, kind="crosslingual")


def test_published_numbers_are_the_posts() -> None:
    with (ROOT / "config/published" / RATES).open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["target"], row["treatment"], row["printed"], row["hours"]) for row in rows] == [
        ("russian", "scratch", "59.5", "16"),
        ("russian", "scratch-small", "> 42", "16"),
        ("russian", "finetuned", "32.2", "16"),
        ("spanish", "scratch", "19.82", "96"),
        ("spanish", "finetuned", "14.96", "96"),
    ]
    for row in rows:
        assert float(row["wer"]) == pytest.approx(float(row["printed"].removeprefix("> ")) / 100)
        assert (row["split"], row["decoder"]) == ("dev", "greedy")
        assert CROSSLINGUAL[row["treatment"]]["label"] == row["label"]


def test_a_bound_is_told_from_a_rate(study: Fakes) -> None:
    rates = read_rates(study.spec("table-wer"), RATES)
    assert [rate.bound for rate in rates] == [False, True, False, False, False]
    assert all("char" not in rate.rates and rate.text("char") == "" for rate in rates)


def test_rows_of_the_table_name_their_model(study: Fakes) -> None:
    greedy, beam = grid_of(draw(study.spec("table-wer")))["blocks"]
    for block in (greedy, beam):
        assert block["stub"] == "Treatment"
        assert [row[1] for row in texts(block)][:3] == ["quartznet", "quartznet-small", "quartznet"]
    scores = json.loads(Path(study.runs[2]["decodes"][0]["scores"]).read_text())["word"]
    cell = "{rate:.1f} [{low:.1f}, {high:.1f}]".format(**{k: 100 * scores[k] for k in ("rate", "low", "high")})
    assert texts(greedy)[2][2] == cell


@pytest.mark.parametrize(("scale", "speech"), [("mini", "synthesised"), ("mini", "recorded"), ("paper", "synthesised")])
def test_published_numbers_stay_out_of_our_columns(study: Fakes, scale: str, speech: str) -> None:
    drawn = draw(study.spec("table-wer", scale=scale, speech=speech))
    grid = grid_of(drawn)
    assert "ublished" not in json.dumps([grid["blocks"], grid["more"]])
    [published] = grid["apart"]
    assert texts(published) == [
        ["From scratch", "59.5", "19.82"],
        ["From scratch, 5x3", "> 42", "–"],
        ["Fine-tuned", "32.2", "14.96"],
    ]
    assert [cell["bold"] for cell in published["rows"][2]] == [False, True, True]
    assert not any(row["published"] for row in rows_of(drawn) if row["row"] != "published")
    found = [(row["published"], row["remark"]) for row in rows_of(drawn) if row["row"] == "published"]
    assert found[:2] == [("59.5", ""), ("42.0", "published as > 42")]


def test_paper_scale_shows_published_numbers_beside_our_greedy_rates_on_dev(study: Fakes) -> None:
    runs = json.loads(json.dumps(study.runs))
    for run in runs:
        run["decodes"].append(run["decodes"][0] | {"split": "dev"})
    drawn = draw(study.spec("table-wer", scale="paper", speech="recorded", runs=runs))
    grid = grid_of(drawn)
    *tests, dev = grid["blocks"]
    assert grid["apart"] == []
    assert not any("published" in column["group"] for block in tests for column in block["columns"])
    assert dev["title"] == "Word and character error rates: greedy, dev"
    assert any(note.startswith("On dev a training chose its best epoch") for note in dev["notes"])
    groups = [column["group"] for column in dev["columns"]]
    assert groups == ["", "Russian", "Russian", "Russian, published", "Spanish", "Spanish", "Spanish, published"]
    assert [row[4]["text"] for row in dev["rows"]][:4] == ["59.5", "> 42", "32.2", "–"]
    rows = [row for row in rows_of(drawn) if row["published"] and row["row"] == "treatment"]
    assert {(row["split"], row["decoder"], row["measure"]) for row in rows} == {("dev", "greedy", "WER %")}
    assert [row["published"] for row in rows] == ["59.5", "42.0", "32.2", "19.82", "14.96"]
    assert rows[1]["remark"] == "published as > 42"


def test_corpora_stand_beside_the_posts_hours(study: Fakes) -> None:
    [published] = grid_of(draw(study.spec("table-corpora")))["apart"]
    assert texts(published) == [["Russian", "train", "16"], ["Spanish", "train", "96"]]
    assert "paper scale" in published["title"]


@pytest.mark.parametrize(
    ("name", "target", "column"),
    [
        ("figure3", "russian", "train_loss"),
        ("figure4", "russian", "dev_wer"),
        ("figure5", "spanish", "train_loss"),
        ("figure6", "spanish", "dev_wer"),
    ],
)
def test_curves_by_step_are_the_metrics_of_two_treatments(study: Fakes, name: str, target: str, column: str) -> None:
    spec = study.spec(name)
    rows = rows_of(draw(spec))
    assert {(row["target"], row["treatment"]) for row in rows} == {(target, "scratch"), (target, "finetuned")}
    run = next(run for run in study.runs if (run["target"], run["treatment"]) == (target, "finetuned"))
    metrics = read_jsonl(Path(run["metrics"]))
    drawn = [row for row in rows if row["run"] == run["id"]]
    assert [int(row["step"]) for row in drawn] == [row["step"] for row in metrics]
    assert [float(row[column]) for row in drawn] == [row[column] for row in metrics]
    assert len([row for row in drawn if row["best"] == "1"]) == 1


def test_curves_of_a_target_do_not_see_another_or_the_other_treatments(study: Fakes) -> None:
    alone = [run for run in study.runs if run["target"] == "russian" and run["treatment"] in ("scratch", "finetuned")]
    for name in ("figure3", "figure4"):
        assert study.spec(name, runs=alone) == study.spec(name)


def test_curves_are_byte_stable_and_coloured(study: Fakes) -> None:
    first, second = draw(study.spec("figure4")), draw(study.spec("figure4"))
    assert first == second
    assert {rgb(colour) for colour in TARGET_COLOURS[:2]} <= colours_in(first["png"])
    style = {"finetuned": "#123456"}
    assert rgb("#123456") in colours_in(draw(study.spec("figure4", style=style))["png"])


def test_losses_that_are_not_finite_are_drawn_around(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, ("scratch", "finetuned"), (1, 2), {"russian": "Russian"}, kind="crosslingual")
    path = Path(fakes.runs[0]["metrics"])
    rows = read_jsonl(path)
    write_jsonl(path, [rows[0] | {"train_loss": None, "dev_loss": None}, *rows[1:4]])
    keep_epoch(fakes.runs[0], 2)
    unrecorded = fakes.spec("figure3").runs[0].model_copy(update={"record": ""})
    assert best_epoch(unrecorded, read_epochs(unrecorded, "train_loss")).epoch > 1
    for name in ("figure3", "figure4"):
        assert draw(fakes.spec(name))["png"]
    assert rows_of(draw(fakes.spec("figure3")))[0]["train_loss"] == ""


def test_metrics_without_a_dev_wer_are_named(tmp_path: Path) -> None:
    fakes = Fakes(tmp_path, ("scratch",), targets={"russian": "Russian"}, kind="crosslingual")
    path = Path(fakes.runs[0]["metrics"])
    write_jsonl(path, [{k: v for k, v in row.items() if k != "dev_wer"} for row in read_jsonl(path)])
    with pytest.raises(UserError, match=r"metrics\.jsonl: not the metrics that `thaw train` writes.*dev_wer"):
        draw(fakes.spec("figure4"))


def test_learning_rates_compare_runs_that_differ_in_nothing_else(study: Fakes) -> None:
    spec = study.spec("figure-learning-rate")
    assert list(spec.treatments) == ["finetuned", "lr-10", "lr-3", "scratch"]
    assert list(spec.decoders) == ["greedy"]
    drawn = draw(spec)
    assert drawn == draw(spec)
    rows = [row for row in rows_of(drawn) if row["row"] == "treatment"]
    assert len(rows) == 2 * 4
    run = next(run for run in study.runs if (run["target"], run["treatment"]) == ("spanish", "lr-3"))
    row = next(row for row in rows if (row["target"], row["treatment"]) == ("spanish", "lr-3"))
    scores = json.loads(Path(run["decodes"][0]["scores"]).read_text())["word"]
    assert (row["learning_rate"], row["scratch"], row["run"]) == ("0.003", "0", run["id"])
    shown = [float(row[key]) for key in ("value", "low", "high")]
    assert shown == pytest.approx([100 * scores[key] for key in ("rate", "low", "high")], abs=1e-4)


def test_exhibits_without_anything_to_show_are_not_drawn(study: Fakes) -> None:
    found = exhibits("crosslingual")
    assert set(drawable(found, study.whole())) == set(found)
    one_rate = [run for run in study.runs if run["target"] == "russian" and not run["treatment"].startswith("lr")]
    left = drawable(found, study.whole(runs=one_rate))
    assert set(found) - set(left) == {"figure5", "figure6", "figure-learning-rate"}
