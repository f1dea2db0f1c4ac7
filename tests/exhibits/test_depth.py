"""Over all studies: frozen layers x model x pair of languages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.exhibits.fakes import Fakes
from tests.exhibits.test_tables import draw, grid_of, rows_of, texts
from thaw.exhibits.depth import kinds, pair_label, share
from thaw.exhibits.frame import grouped, read_frame
from thaw.exhibits.spec import ExhibitSpec, drawable
from thaw.exhibits.together import TOGETHER, exhibits, together

BOTH = [("deepspeech", "German"), ("deepspeech", "Spanish"), ("quartznet", "Russian"), ("quartznet", "Spanish")]
NAMES = [f"{model}, English → {target}" for model, target in BOTH]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fakes, Fakes]:
    folder: Path = tmp_path_factory.mktemp("depth")
    treatments = ("scratch", "frozen-0", "frozen-3", "frozen-4", "frozen-3-5")
    pair = {"russian": "Russian", "spanish": "Spanish"}
    return Fakes(folder / "first", treatments), Fakes(folder / "second", targets=pair, kind="crosslingual")


def spec_of(studies: tuple[Fakes, ...], name: str) -> ExhibitSpec:
    whole = together([study.whole() for study in studies])
    return drawable(exhibits(TOGETHER), whole)[name].trimmed(("scores", "setup"))


def test_each_pair_has_the_runs_that_show_what_freezing_does(studies: tuple[Fakes, Fakes]) -> None:
    frame = read_frame(spec_of(studies, "figure-depth"), ["word"])
    pairs = grouped((cell for cell in frame if cell.decode.decoder == "lm"), pair_label)
    assert [*pairs] == [f"{model}, English → {target}" for model, target in BOTH]
    first, second = ([cell.run.treatment for cell in cells] for cells in (pairs[NAMES[0]], pairs[NAMES[2]]))
    assert first == ["scratch", "frozen-0", "frozen-3", "frozen-4", "frozen-3-5"]
    # Other learning rates and output rows with nothing frozen, and another model from scratch, are not shown.
    assert second == ["scratch", "finetuned", "first-7", "decoder-only", "decoder-bn"]
    # The line goes through the first treatment at each depth that freezes the first layers.
    assert kinds(pairs[NAMES[0]]) == ["level", "line", "line", "line", "other"]
    assert kinds(pairs[NAMES[2]]) == ["level", "line", "line", "line", "other"]
    assert [round(share(cell), 1) for cell in pairs[NAMES[2]]][1:4] == [0.0, 36.8, 94.7]


def test_equal_names_in_two_studies_are_not_mixed(studies: tuple[Fakes, Fakes]) -> None:
    rows = rows_of(draw(spec_of(studies, "table-depth")))
    for fakes, model in zip(studies, ("deepspeech", "quartznet"), strict=True):
        run = next(r for r in fakes.runs if (r["target"], r["treatment"]) == ("spanish", "scratch"))
        scores = json.loads(Path(run["decodes"][1]["scores"]).read_text())["word"]
        [row] = [r for r in rows if (r["run"], r["decoder"], r["row"]) == (run["id"], "lm", "treatment")]
        assert (row["model"], row["source"], row["target"], row["scratch"]) == (model, "English", "spanish", "1")
        shown = [float(row[key]) for key in ("value", "low", "high")]
        assert shown == pytest.approx([100 * scores[key] for key in ("rate", "low", "high")], abs=1e-4)


def test_one_name_for_two_recipes_on_the_same_languages_is_told_apart(tmp_path: Path) -> None:
    treatments = ("scratch", "frozen-0", "frozen-1")
    first, second = (Fakes(tmp_path / name, treatments, seeds=(seed,)) for name, seed in (("a", 1), ("b", 2)))
    other = [run | {"recipe": "longer" if run["treatment"] == "frozen-1" else run["recipe"]} for run in second.runs]
    studies = [first.whole(), second.whole(study="longer", runs=other)]
    spec = drawable(exhibits(TOGETHER), together(studies))["table-depth"].trimmed(("scores", "setup"))
    drawn = draw(spec)
    rows = [r for r in rows_of(drawn) if (r["target"], r["decoder"], r["row"]) == ("german", "lm", "treatment")]
    # Two seeds of one recipe are one treatment, though two studies bring them; two recipes are two, of one seed each.
    assert {r["label"]: r["seeds"] for r in rows} == {
        "Baseline": "2",
        "0": "2",
        "1 (freezing)": "1",
        "1 (longer)": "1",
    }
    labels = [row[0] for row in texts(grid_of(drawn)["blocks"][0])]
    assert labels == ["Baseline", "0", "1 (freezing)", "1 (longer)"]


def test_table_has_a_block_for_each_pair_sorted_by_depth(studies: tuple[Fakes, Fakes]) -> None:
    drawn = draw(spec_of(studies, "table-depth"))
    blocks = grid_of(drawn)["blocks"]
    assert [block["title"] for block in blocks] == [f"{model}, English → {target}" for model, target in BOTH]
    assert [row[:2] for row in texts(blocks[3])] == [
        ["From scratch", "–"],
        ["Fine-tuned", "0 of 19"],
        ["First 7 frozen", "7 of 19"],
        ["Decoder only", "18 of 19"],
        ["Decoder and norms", "18 of 19"],
    ]
    assert r"English $\rightarrow$ German" in drawn["tex"].decode()
    for form in ("md", "tex", "csv"):
        assert "mini scale: synthesised speech" in drawn[form].decode()


def test_figure_is_byte_stable_and_has_the_tables_data(studies: tuple[Fakes, Fakes]) -> None:
    first, second = draw(spec_of(studies, "figure-depth")), draw(spec_of(studies, "figure-depth"))
    assert first == second
    assert first["csv"] == draw(spec_of(studies, "table-depth"))["csv"]


def test_a_run_of_two_studies_is_shown_once(studies: tuple[Fakes, Fakes]) -> None:
    whole = studies[0].whole()
    again = whole.model_copy(update={"study": "again"})
    assert together([whole, again]).runs == together([whole]).runs


def test_drawn_only_where_there_is_something_to_compare(studies: tuple[Fakes, Fakes], tmp_path: Path) -> None:
    found = exhibits(TOGETHER)
    assert set(drawable(found, together([studies[0].whole()]))) == set(found)
    one = [run for run in studies[0].runs if run["target"] == "german"]
    assert drawable(found, together([studies[0].whole(runs=one)])) == {}
    unfrozen = [run for run in studies[0].runs if run["treatment"] in ("scratch", "frozen-0")]
    assert drawable(found, together([studies[0].whole(runs=unfrozen)])) == {}
