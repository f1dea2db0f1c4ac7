"""From a plan to exhibits: what rows say of runs, and which edits reach which exhibits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.planning.test_plan import CONFIG
from thaw.config.load import merged, validate
from thaw.exhibits.spec import EXHIBIT_VERSION
from thaw.planning.plan import Plan, resolve
from thaw.planning.showing import exhibits, report_spec

GERMAN = CONFIG["corpora"]["german"]
FINETUNED = {"start": "source", "reset": ["output"]}
SECOND: dict[str, Any] = {
    "corpora": {
        "russian": {**GERMAN, "label": "Russian"},
        "spanish": {**GERMAN, "label": "Spanish"},
        "french": {**GERMAN, "label": "French"},
    },
    "models": {
        "quartznet": {"kind": "quartznet", "variant": "mini-5x2"},
        "small": {"kind": "quartznet", "variant": "mini-3x1"},
    },
    "treatments": {
        "scratch-small": {"model": "small"},
        "finetuned": FINETUNED,
        "lr-10": {**FINETUNED, "recipe": {"learning_rate": 0.01}},
        "shared-letters": {**FINETUNED, "output_rows": "shared"},
        "decoder-only": {**FINETUNED, "freeze": ["first-8"]},
        "last-2": {**FINETUNED, "freeze": ["conv_2", "conv_3"]},
    },
    "studies": {
        "crosslingual": {
            "kind": "crosslingual",
            "source": {"corpus": "english", "model": "quartznet", "recipe": "pretrain"},
            "targets": ["russian", "spanish"],
            "model": "quartznet",
            "recipe": "finetune",
            "treatments": [
                *("scratch", "scratch-small", "finetuned", "lr-10", "shared-letters", "decoder-only", "last-2"),
            ],
            "baseline": "scratch",
            "reference": "finetuned",
            "decoders": ["greedy", "lm"],
        }
    },
}


def plan(over: dict[str, Any] | None = None) -> Plan:
    return resolve(validate(merged(merged(CONFIG, SECOND), over or {})))


BASE = exhibits(plan())


def redrawn(over: dict[str, Any]) -> set[tuple[str, str]]:
    """The exhibits that an edit draws anew or for the first time."""
    found = exhibits(plan(over))
    return {key for key, one in found.items() if key not in BASE or one.spec_json != BASE[key].spec_json}


def test_rows_say_how_runs_were_trained() -> None:
    rows = {run.treatment: run for run in report_spec(plan()).runs if run.target == "russian"}
    shown = {
        name: (run.model, run.source_label, run.scratch, run.new_output, run.frozen, run.frozen_first, run.layers)
        for name, run in rows.items()
    }
    assert shown == {
        "scratch": ("quartznet", "English", True, False, 0, True, 9),
        "scratch-small": ("small", "English", True, False, 0, True, 7),
        "finetuned": ("quartznet", "English", False, True, 0, True, 9),
        "lr-10": ("quartznet", "English", False, True, 0, True, 9),
        "shared-letters": ("quartznet", "English", False, True, 0, True, 9),
        "decoder-only": ("quartznet", "English", False, True, 8, True, 9),
        "last-2": ("quartznet", "English", False, True, 2, False, 9),
    }
    assert (rows["finetuned"].learning_rate, rows["lr-10"].learning_rate) == (0.001, 0.01)
    assert rows["finetuned"].alike == rows["lr-10"].alike
    assert len({run.alike for run in rows.values()}) == len(rows) - 1


def test_a_checkpoint_as_the_source_is_shown_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "english.nemo"
    file.write_bytes(b"")
    released = {"kind": "nemo", "path": str(file), "language": "en"}
    study = {"source": {"corpus": None, "recipe": None, "checkpoint": "released"}}
    found = plan({"checkpoints": {"released": released}, "studies": {"crosslingual": study}})
    rows = [run for run in report_spec(found).runs if run.target == "russian"]
    assert {run.source_label for run in rows} == {"released"}


def test_every_study_and_all_together_have_their_exhibits() -> None:
    assert {name for study, name in BASE if study == "all"} == {"figure-depth", "table-depth"}
    assert BASE["all", "table-depth"].outputs[0] == "results/all/golden/table-depth.csv"
    assert ("crosslingual", "figure6") in BASE
    assert ("freezing", "figure3") not in BASE  # one target
    assert not any(study == "all" for study, _ in exhibits(resolve(validate(CONFIG))))


def test_a_new_language_leaves_the_figures_of_the_others() -> None:
    touched = redrawn({"studies": {"crosslingual": {"targets": ["russian", "spanish", "french"]}}})
    assert touched == {
        ("crosslingual", "findings"),
        ("crosslingual", "table-corpora"),
        ("crosslingual", "table-wer"),
        ("crosslingual", "figure-learning-rate"),
        ("all", "figure-depth"),
        ("all", "table-depth"),
    }
    touched = redrawn({"studies": {"freezing": {"targets": ["german", "spanish"]}}})
    assert ("freezing", "figure3") in touched
    assert ("freezing", "figure2") not in touched


def test_a_language_models_order_leaves_greedy_figures() -> None:
    touched = redrawn({"decoders": {"lm": {"language_model": {"order": 4}}}})
    assert ("crosslingual", "table-wer") in touched
    assert not touched & {("crosslingual", f"figure{name}") for name in ("3", "4", "5", "6", "-learning-rate")}


def test_a_source_corpus_that_is_renamed_leaves_curves() -> None:
    touched = redrawn({"corpora": {"english": {"label": "US English"}}})
    assert ("all", "figure-depth") in touched
    assert not {name for _, name in touched} & {"figure2", "figure3", "figure4", "figure-wer"}


def test_the_report_has_every_exhibit_and_credit_and_tells_filters_apart() -> None:
    spec = report_spec(plan())
    assert [(row.study, row.name) for row in spec.exhibits] == list(BASE)
    assert set(spec.credits) == {"freezing", "crosslingual"}
    assert {(row.label, row.models) for row in spec.corpora} == {
        ("English", "deepspeech"),
        ("English", "quartznet"),
        ("German", ""),
        ("Russian", ""),
        ("Spanish", ""),
    }


def test_runs_of_one_recipe_differ_in_seeds_alone() -> None:
    """Also in the draw that is free with a seed, and where a run starts from another with its own seed."""
    chained = {"start": "finetuned@best", "reset": ["output"]}
    study = {"seeds": [1, 2], "treatments": ["scratch", "finetuned", "lr-10", "chained"]}
    found = report_spec(plan({"treatments": {"chained": chained}, "studies": {"crosslingual": study}}))
    rows = [run for run in found.runs if run.target == "russian"]
    recipes = {
        treatment: {run.recipe for run in rows if run.treatment == treatment} for treatment in study["treatments"]
    }
    assert all(len(recipe) == 1 for recipe in recipes.values())
    assert len({next(iter(recipe)) for recipe in recipes.values()}) == 4
    assert len({run.id for run in rows}) == 8


def test_two_studies_of_one_name_and_another_recipe_are_told_apart() -> None:
    longer = {**SECOND["studies"]["crosslingual"], "recipe": "longer"}
    recipe = {**CONFIG["recipes"]["finetune"], "epochs": 99}
    found = exhibits(plan({"recipes": {"longer": recipe}, "studies": {"longer": longer}}))
    rows = [run for run in found["all", "table-depth"].spec.runs if (run.target, run.frozen) == ("russian", 8)]
    assert [run.label for run in rows] == ["decoder-only (crosslingual)", "decoder-only (longer)"]
    assert len({run.recipe for run in rows}) == 2


def test_every_exhibit_is_drawn_anew_where_drawing_changed_its_meaning() -> None:
    assert all(f'"version":{EXHIBIT_VERSION}' in one.spec_json for one in BASE.values())
