"""Over all studies: frozen layers x model x pair of languages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.exhibits.fakes import Fakes
from tests.exhibits.test_tables import draw, grid_of, rows_of, texts
from thaw.exhibits.depth import read_pairs
from thaw.exhibits.spec import ExhibitSpec, drawable
from thaw.exhibits.together import exhibits, together

BOTH = [("deepspeech", "German"), ("deepspeech", "Spanish"), ("quartznet", "Russian"), ("quartznet", "Spanish")]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fakes, Fakes]:
    folder: Path = tmp_path_factory.mktemp("depth")
    treatments = ("scratch", "frozen-0", "frozen-3", "frozen-4", "frozen-3-5")
    pair = {"russian": "Russian", "spanish": "Spanish"}
    return Fakes(folder / "first", treatments), Fakes(folder / "second", targets=pair, kind="crosslingual")


def spec_of(studies: tuple[Fakes, ...], name: str) -> ExhibitSpec:
    return drawable(exhibits("all"), together([study.whole() for study in studies]))[name].trimmed(("scores", "setup"))


def test_each_pair_has_the_runs_that_show_what_freezing_does(studies: tuple[Fakes, Fakes]) -> None:
    pairs = read_pairs(spec_of(studies, "figure-depth"))
    assert [pair.label for pair in pairs] == [f"{model}, English → {target}" for model, target in BOTH]
    first, second = ([one.run.treatment for one in pairs[place].treated] for place in (0, 2))
    assert first == ["frozen-0", "frozen-3", "frozen-4", "frozen-3-5"]
    # Other learning rates and output rows with nothing frozen, and another model from scratch, are not shown.
    assert second == ["finetuned", "first-7", "decoder-only", "decoder-bn"]
    assert all(pair.scratch and pair.scratch.run.treatment == "scratch" for pair in pairs)
    # The line goes through the first treatment at each depth that freezes the first layers.
    assert [one.run.treatment for one in pairs[0].line] == ["frozen-0", "frozen-3", "frozen-4"]
    assert [one.run.treatment for one in pairs[2].line] == ["finetuned", "first-7", "decoder-only"]
    assert [round(one.share, 1) for one in pairs[2].line] == [0.0, 36.8, 94.7]


def test_equal_names_in_two_studies_are_not_mixed(studies: tuple[Fakes, Fakes]) -> None:
    rows = rows_of(draw(spec_of(studies, "table-depth")))
    for fakes, model in zip(studies, ("deepspeech", "quartznet"), strict=True):
        run = next(r for r in fakes.runs if (r["target"], r["treatment"]) == ("spanish", "scratch"))
        scores = json.loads(Path(run["decodes"][1]["scores"]).read_text())["word"]
        [row] = [r for r in rows if (r["runs"], r["decoder"]) == (run["id"], "lm")]
        assert (row["model"], row["source"], row["target"], row["scratch"]) == (model, "English", "spanish", "1")
        shown = [float(row[key]) for key in ("wer_percent", "low", "high")]
        assert shown == pytest.approx([100 * scores[key] for key in ("rate", "low", "high")], abs=1e-4)


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
    found = exhibits("all")
    assert set(drawable(found, together([studies[0].whole()]))) == set(found)
    one = [run for run in studies[0].runs if run["target"] == "german"]
    assert drawable(found, together([studies[0].whole(runs=one)])) == {}
    unfrozen = [run for run in studies[0].runs if run["treatment"] in ("scratch", "frozen-0")]
    assert drawable(found, together([studies[0].whole(runs=unfrozen)])) == {}
