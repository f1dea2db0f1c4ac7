"""Figures: the data drawn, byte stability, colours, and what odd inputs do."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.exhibits.fakes import Fakes, keep_epoch
from tests.exhibits.test_tables import draw, rows_of
from thaw.errors import UserError
from thaw.exhibits.curves import CurvesFigure
from thaw.exhibits.style import COLOURS, broken, from_zero, looks
from thaw.exhibits.write import write_exhibit
from thaw.files import read_json, read_jsonl, write_jsonl


def colours_in(png: bytes) -> set[tuple[int, ...]]:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    found = image.getcolors(maxcolors=image.width * image.height)
    return {colour for _, colour in found or [] if isinstance(colour, tuple)}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


@pytest.mark.parametrize("name", ["figure2", "figure-wer", "figure-published"])
def test_figures_are_byte_stable_and_undated(fakes: Fakes, name: str) -> None:
    first, second = draw(fakes.spec(name)), draw(fakes.spec(name))
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    assert first["pdf"].startswith(b"%PDF")
    assert b"CreationDate" not in first["pdf"]
    assert b"matplotlib" not in first["png"].lower()


def test_bytes_do_not_depend_on_hash_seed_or_the_users_matplotlibrc(fakes: Fakes, tmp_path: Path) -> None:
    spec = fakes.spec("figure2")
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nlines.linewidth: 9\n")
    code = (
        "import sys; from pathlib import Path; from thaw.exhibits.spec import ExhibitSpec, parse;"
        "from thaw.exhibits.write import write_exhibit;"
        "write_exhibit(parse(ExhibitSpec, sys.argv[1], '--exhibit'), [Path('f.png'), Path('f.pdf')])"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    subprocess.run([sys.executable, "-c", code, spec.model_dump_json()], cwd=tmp_path, env=environment, check=True)
    drawn = draw(spec)
    assert (tmp_path / "f.png").read_bytes() == drawn["png"]
    assert (tmp_path / "f.pdf").read_bytes() == drawn["pdf"]


def test_every_treatment_is_drawn_in_its_colour(fakes: Fakes) -> None:
    found = colours_in(draw(fakes.spec("figure2"))["png"])
    # scratch, frozen-0, frozen-1, frozen-4 keep the colours they have among all eight treatments.
    for place in (0, 1, 2, 5):
        assert rgb(COLOURS[place]) in found
    for place in (3, 4, 6, 7):
        assert rgb(COLOURS[place]) not in found


def test_style_changes_colours_of_figures_alone(fakes: Fakes) -> None:
    changed = fakes.spec("figure2", style={"scratch": "#123456"})
    assert (0x12, 0x34, 0x56) in colours_in(draw(changed)["png"])
    assert fakes.spec("table2", style={"scratch": "#123456"}) == fakes.spec("table2")


def test_a_colour_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="style of scratch: 'blurple' is not a colour"):
        looks(["scratch"], (), {"scratch": "blurple"})


def test_many_series_look_different() -> None:
    found = looks([f"t{i}" for i in range(30)])
    assert len({(look.colour, look.marker) for look in found.values()}) == 30


def test_the_data_drawn_is_the_metrics(fakes: Fakes) -> None:
    for name, target in (("figure2", "german"), ("figure3", "spanish")):
        rows = rows_of(draw(fakes.spec(name)))
        assert {row["target"] for row in rows} == {target}
        run = next(run for run in fakes.runs if run["target"] == target and run["treatment"] == "frozen-1")
        metrics = read_jsonl(Path(run["metrics"]))
        drawn = [row for row in rows if row["run"] == run["id"]]
        assert [float(row["dev_loss"]) for row in drawn] == [row["dev_loss"] for row in metrics]
        assert [float(row["train_loss"]) for row in drawn] == [row["train_loss"] for row in metrics]
        best = read_json(Path(run["record"]))["best"]["epoch"]
        assert [int(row["epoch"]) for row in drawn if row["best"] == "1"] == [best]


def test_the_best_epoch_is_the_one_that_was_kept(tmp_path: Path) -> None:
    """What selects is the task's affair: where it is no loss, the lowest loss says nothing."""
    fakes = Fakes(tmp_path, treatments=("scratch",), targets={"german": "German"})
    keep_epoch(fakes.runs[0], 1)
    assert [row["epoch"] for row in rows_of(draw(fakes.spec("figure2"))) if row["best"] == "1"] == ["1"]
    keep_epoch(fakes.runs[0], 99)
    with pytest.raises(UserError, match="its best epoch, 99, is none of"):
        draw(fakes.spec("figure2"))


def test_error_rates_figure_draws_the_scores(fakes: Fakes) -> None:
    rows = rows_of(draw(fakes.spec("figure-wer")))
    assert len([row for row in rows if row["row"] == "treatment"]) == 2 * 4 * 2  # targets, treatments, decoders
    run = fakes.runs[0]
    scores = json.loads(Path(run["decodes"][1]["scores"]).read_text())
    row = next(r for r in rows if (r["target"], r["treatment"], r["decoder"]) == ("german", "scratch", "lm"))
    assert float(row["value"]) == pytest.approx(100 * scores["word"]["rate"], abs=1e-4)
    assert float(row["low"]) == pytest.approx(100 * scores["word"]["low"], abs=1e-4)


@pytest.mark.parametrize(("rate", "top"), [(100.0, 106.0), (250.0, 265.0), (0.0, 1.0)])
def test_there_is_room_above_the_highest_rate(rate: float, top: float) -> None:
    from matplotlib.figure import Figure

    first, second, empty = axes = Figure().subplots(1, 3, sharey=True)
    first.errorbar([0, 1], [rate, rate], yerr=([0, 0], [0, 0]))
    second.axhline(rate / 2)
    from_zero(axes)
    assert [axis.get_ylim() for axis in (first, second, empty)] == [(0, pytest.approx(top))] * 3


def test_long_notes_are_broken_at_semicolons() -> None:
    note = "mini scale: recorded speech; not comparable with the published numbers; bars: 95 % intervals"
    assert broken(note, 6) == note
    assert broken(note, 5) == note.replace("; bars", ";\nbars")
    assert broken(note, 1).count("\n") == 2
    assert broken(note, 1).replace("\n", " ") == note


def test_seeds_are_drawn_each_as_far_as_it_went(tmp_path: Path) -> None:
    study = Fakes(tmp_path, treatments=("scratch",), seeds=(1, 2), targets={"german": "German"})
    path = Path(study.runs[1]["metrics"])
    write_jsonl(path, read_jsonl(path)[:4])
    keep_epoch(study.runs[1], 3)
    drawn = draw(study.spec("figure2"))
    assert len(rows_of(drawn)) == 6 + 4
    assert drawn["png"]


def test_an_infinite_loss_is_drawn_around(tmp_path: Path) -> None:
    study = Fakes(tmp_path, treatments=("scratch", "frozen-0"), targets={"german": "German"})
    path = Path(study.runs[0]["metrics"])
    write_jsonl(path, [{"epoch": e, "train_loss": None, "dev_loss": None} for e in (1, 2)])
    keep_epoch(study.runs[0], 1)
    rows = rows_of(draw(study.spec("figure2")))
    assert rows[0]["dev_loss"] == ""


def test_metrics_of_another_shape_are_named(tmp_path: Path) -> None:
    study = Fakes(tmp_path, treatments=("scratch",), targets={"german": "German"})
    path = Path(study.runs[0]["metrics"])
    for text, message in (('{"epoch": 1}\n', "thaw train"), ("", "holds no epoch"), ("{", "not JSON")):
        path.write_text(text)
        with pytest.raises(UserError, match=rf"metrics\.jsonl.*{message}"):
            draw(study.spec("figure2"))


def test_a_spec_without_runs_is_refused(tmp_path: Path) -> None:
    study = Fakes(tmp_path, treatments=("scratch",), targets={"german": "German"})
    with pytest.raises(UserError, match="exhibit figure3: its spec names no run"):
        write_exhibit(study.spec("figure3"), [tmp_path / "figure3.png"])


def test_published_curves_are_the_papers(fakes: Fakes) -> None:
    rows = list(csv.DictReader(io.StringIO(draw(fakes.spec("figure-published"))["csv"].decode())))
    run = [r for r in rows if (r["target"], r["treatment"]) == ("german", "frozen-3")]
    assert len(run) == 30
    assert [r["epoch"] for r in run if r["best"] == "1"] == ["7"]
    assert run[6]["dev_loss"] == "41.461611"
    assert {r["scale"] for r in rows} == {"paper"}


def test_curves_of_a_perplexity_are_drawn_as_they_are(fakes: Fakes) -> None:
    spec = fakes.spec("figure2")
    for run in spec.runs:
        path = Path(run.metrics)
        write_jsonl(path, [row | {"dev_perplexity": 60.0 + row["epoch"]} for row in read_jsonl(path)], sealed=False)
    drawn = CurvesFigure("Perplexity", solid="dev_perplexity", dashed="", unit="token").draw(spec)
    values = {(row["epoch"], row["dev_perplexity"]) for row in rows_of(drawn)}
    assert ("1", "61.0") in values
    assert drawn["png"] != CurvesFigure("Perplexity", solid="dev_loss", dashed="", unit="token").draw(spec)["png"]
