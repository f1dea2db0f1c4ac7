"""Identity: what an edit changes, what it leaves alone, and hashes that must not move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thaw.config.load import merged, read_yaml, validate, with_includes
from thaw.planning.artifacts import Run
from thaw.planning.plan import Plan, resolve

SYNTHETIC = {"kind": "synthetic", "voice": "de", "locale": "de"}
COUNTS = {"train": 20, "dev": 4, "test": 4}
CONFIG: dict[str, Any] = {
    "name": "golden",
    "scale": "mini",
    "languages": {"en": {"alphabet": " abc"}, "de": {"alphabet": " abcß"}},
    "corpora": {
        "english": {
            "label": "English",
            "language": "en",
            "source": {**SYNTHETIC, "voice": "en-us", "locale": "en", "utterances": COUNTS, "speakers": COUNTS},
        },
        "german": {
            "label": "German",
            "language": "de",
            "source": {**SYNTHETIC, "utterances": COUNTS, "speakers": COUNTS},
        },
    },
    "models": {"deepspeech": {"kind": "deepspeech", "hidden": 8}},
    "recipes": {"pretrain": {"epochs": 2}, "finetune": {"epochs": 3, "learning_rate": 0.001}},
    "treatments": {
        "scratch": {},
        "frozen-0": {"start": "source", "reset": ["layer_6"]},
        "frozen-2": {"start": "source", "reset": ["layer_6"], "freeze": ["layer_1", "layer_2"]},
    },
    "decoders": {"greedy": {"kind": "greedy"}, "lm": {"kind": "beam", "tune": {}}},
    "studies": {
        "freezing": {
            "kind": "freezing",
            "source": {"corpus": "english", "model": "deepspeech", "recipe": "pretrain"},
            "targets": ["german"],
            "model": "deepspeech",
            "recipe": "finetune",
            "treatments": ["scratch", "frozen-0", "frozen-2"],
            "baseline": "scratch",
            "decoders": ["greedy", "lm"],
        }
    },
}


def plan(over: dict[str, Any] | None = None) -> Plan:
    return resolve(validate(merged(CONFIG, over or {})))


BASE = plan()


def run(of: Plan, treatment: str) -> Run:
    return next(run for run in of.runs.values() if run.treatment == treatment)


def test_golden_hashes() -> None:
    """A change here would retrain everybody's runs. Where meaning changed, raise a version instead, on purpose.

    frozen-0 and frozen-2 were a551364dee and b655f3d4b6 when a reset layer still took its donor's draw (draw: 0).
    """
    assert {r.treatment: r.hash for r in BASE.runs.values()} == {
        "source": "6bfd7363ee",
        "scratch": "c41e2a17a8",
        "frozen-0": "84c8342fa7",
        "frozen-2": "da736fe6a6",
    }
    assert sorted(BASE.decodes)[0] == "english-deepspeech-source-s1-greedy-74ed1b6367"


def made(of: Plan) -> set[str]:
    """Every id of a plan."""
    return {*of.sources, *of.audio, *of.manifests, *of.lms, *of.runs, *of.decodes}


def touched(over: dict[str, Any]) -> set[str]:
    """Names, without hashes, of what an edit makes anew."""
    return {name.rsplit("-", 1)[0] for name in made(plan(over)) - made(BASE)}


RUN = "german-deepspeech-{}-s1"


def and_decodes(*runs: str) -> set[str]:
    return {*runs, *(f"{name}-greedy" for name in runs), *(f"{name}-lm" for name in runs)}


ALL_GERMAN = and_decodes(*(RUN.format(t) for t in ("scratch", "frozen-0", "frozen-2")))
SOURCE = and_decodes("english-deepspeech-source-s1")
TRANSFERRED = and_decodes(*(RUN.format(t) for t in ("frozen-0", "frozen-2")))


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        # nothing: not part of any result
        ({"execution": {"threads": 2, "device": "cpu", "runtime_minutes": 9}}, set()),
        ({"scoring": {"level": 0.9}}, set()),
        ({"treatments": {"frozen-2": {"label": "one and two"}}}, set()),
        ({"decoders": {"lm": {"label": "KenLM"}}}, set()),
        ({"corpora": {"german": {"label": "Deutsch", "licence": "CC0"}}}, set()),
        ({"name": "renamed"}, set()),
        ({"studies": {"freezing": {"style": {"scratch": "#000000"}}}}, set()),
        # nothing: a default written out
        ({"recipes": {"finetune": {"batch_size": 24, "order": "bucketed"}}}, set()),
        ({"models": {"deepspeech": {"context": 9}}}, set()),
        ({"treatments": {"frozen-2": {"freeze": ["layer_2", "layer_1"]}}}, set()),
        # one treatment
        ({"treatments": {"frozen-2": {"recipe": {"learning_rate": 0.002}}}}, and_decodes(RUN.format("frozen-2"))),
        ({"treatments": {"frozen-2": {"freeze": ["layer_1"]}}}, and_decodes(RUN.format("frozen-2"))),
        ({"treatments": {"frozen-2": {"frozen": {"dropout": "off"}}}}, and_decodes(RUN.format("frozen-2"))),
        # a recipe
        ({"recipes": {"finetune": {"epochs": 4}}}, ALL_GERMAN),
        ({"recipes": {"pretrain": {"epochs": 4}}}, SOURCE | TRANSFERRED),
        # decoding
        (
            {"decoders": {"lm": {"tune": {"alpha": [0.0, 2.0]}}}},
            {name for name in ALL_GERMAN | SOURCE if name.endswith("-lm")},
        ),
        (
            {"decoders": {"lm": {"language_model": {"order": 2}}}},
            {"english-2gram", "german-2gram"} | {name for name in ALL_GERMAN | SOURCE if name.endswith("-lm")},
        ),
        # text, audio, source
        ({"languages": {"de": {"replace": {"ß": "ss"}}}}, {"german-deepspeech", "german-3gram"} | ALL_GERMAN),
        (
            {"corpora": {"german": {"audio": {"backend": "sox"}}}},
            {"german", "german-deepspeech", "german-3gram"} | ALL_GERMAN,
        ),
        (
            {"models": {"deepspeech": {"hidden": 9}}},
            SOURCE | ALL_GERMAN,
        ),
    ],
)
def test_an_edit_makes_exactly_what_it_touches(over: dict[str, Any], expected: set[str]) -> None:
    assert touched(over) == expected


def table(shards: int) -> dict[str, Any]:
    return {"kind": "table", "path": "README.md", "shards": shards}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"source": table(4)}, {"source": table(5)}),
        (
            {"source": {"kind": "union", "parts": {"a": table(4), "b": table(4)}}},
            {"source": {"kind": "union", "parts": {"a": table(4), "b": table(1)}}},
        ),
        ({"audio": {"backend": "sox"}}, {"audio": {"backend": "sox", "clips_per_job": 7}}),  # 28 clips
    ],
    ids=["shards", "shards of a part", "clips a job"],
)
def test_how_audio_is_cut_makes_other_files_of_the_same_utterances(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    """Neither is the corpus got again, nor is any training, language model or decode another one."""
    plans = []
    for german in (before, after):
        config = merged(CONFIG, {})
        config["corpora"] = {**CONFIG["corpora"], "german": {**CONFIG["corpora"]["german"], **german}}
        plans.append(resolve(validate(config)))
    assert {name.rsplit("-", 1)[0] for name in made(plans[1]) - made(plans[0])} == {"german", "german-deepspeech"}
    assert plans[1].sources.keys() == plans[0].sources.keys()
    assert plans[1].audio.keys() != plans[0].audio.keys()


def test_a_new_language_leaves_the_others_alone() -> None:
    over = {
        "corpora": {"dutch": {**CONFIG["corpora"]["german"], "label": "Dutch"}},
        "studies": {"freezing": {"targets": ["german", "dutch"]}},
    }
    now = plan(over)
    assert made(BASE) <= made(now)
    assert all(name.startswith("dutch") for name in made(now) - made(BASE))
    assert len([run for run in now.runs.values() if run.name.startswith("dutch")]) == 3


def test_seeds_make_runs_and_share_the_source() -> None:
    now = plan({"studies": {"freezing": {"seeds": [1, 2]}}})
    assert len(now.runs) == 1 + 2 * 3
    starts = {r.start.id for r in now.runs.values() if r.start}
    assert starts == {run(BASE, "source").id}


def test_two_plans_of_one_config_are_equal() -> None:
    assert made(plan()) == made(BASE)
    assert [d.id for d in plan().study("freezing").decodes] == [d.id for d in BASE.study("freezing").decodes]


def test_as_logged_and_as_described_are_two_freeze_lists() -> None:
    """The paper's logs show that the LSTM of "1-4" learnt: both readings can be run, as treatments."""
    described = {"start": "source", "reset": ["layer_6"], "freeze": ["layer_1", "layer_2", "layer_3", "lstm"]}
    logged = {**described, "freeze": ["layer_1", "layer_2", "layer_3"]}
    over = {
        "treatments": {"described": described, "logged": logged},
        "studies": {"freezing": {"treatments": ["scratch", "described", "logged"]}},
    }
    now = plan(over)
    assert run(now, "described").recipe.freeze == ("layer_1", "layer_2", "layer_3", "lstm")
    assert run(now, "logged").hash != run(now, "described").hash


def test_a_target_changes_its_recipe_before_a_treatment_does() -> None:
    raw = merged(
        with_includes(read_yaml(Path("config/config.yaml"))),
        {
            "treatments": {"frozen-1": {"recipe": {"learning_rate": 0.5}}},
            "studies": {
                "freezing": {
                    "targets": ["german", "spanish"],
                    "target_recipes": {"german": {"epochs": 3, "learning_rate": 0.1}},
                }
            },
        },
    )
    runs = resolve(validate(raw)).study("freezing").runs
    recipes = {(run.manifest.corpus.name, run.treatment): run.recipe.recipe for run in runs}
    assert (recipes["german", "frozen-0"].epochs, recipes["german", "frozen-0"].learning_rate) == (3, 0.1)
    assert (recipes["german", "frozen-1"].epochs, recipes["german", "frozen-1"].learning_rate) == (3, 0.5)
    assert recipes["spanish", "frozen-0"].epochs != 3
