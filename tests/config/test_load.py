"""Every mistake in a config is found before anything runs, in one line that says where and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thaw.config.load import load, merged, read_yaml, validate, with_includes
from thaw.errors import UserError

DEFAULT = Path("config/config.yaml")


def changed(**over: Any) -> dict[str, Any]:
    return merged(read_yaml(DEFAULT), over)


def test_the_default_config_is_valid() -> None:
    config = load([DEFAULT])
    assert config.scale == "mini"
    assert len(config.studies["freezing"].treatments) == 8


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"corpora": {"german": {"sourc": 1}}}, ["corpora.german.sourc", "unknown key", "'source'"]),
        ({"corpora": {"german": {"source": {"voicee": 1}}}}, ["corpora.german.source", "voicee", "'voice'"]),
        ({"corpora": {"german": {"source": {"kind": "tape"}}}}, ["corpora.german.source", "synthetic"]),
        ({"corpora": {"german": {"language": "gr"}}}, ["corpora.german.language", "'gr'", "de"]),
        ({"models": {"deepspeech": {"kind": "tape"}}}, ["models.deepspeech", "'tape'", "deepspeech"]),
        ({"recipes": {"finetune": {"epochs": -1}}}, ["recipes.finetune.epochs", "-1"]),
        ({"treatments": {"frozen-1": {"freeze": ["layer1"]}}}, ["frozen-1.freeze", "'layer1'", "'layer_1'", "lstm"]),
        (
            {"treatments": {"frozen-1": {"recipe": {"learning_rat": 1}}}},
            ["frozen-1.recipe.learning_rat", "'learning_rate'"],
        ),
        ({"treatments": {"frozen-1": {"freeze": ["first-7"]}}}, ["frozen-1.freeze", "'first-7'", "first-N"]),
        ({"treatments": {"frozen-1": {"freeze": ["last-1"]}}}, ["frozen-1", "both reset and frozen", "layer_6"]),
        ({"treatments": {"frozen-1": {"freeze": ["first-6"], "reset": []}}}, ["frozen-1.freeze", "nothing is left"]),
        ({"treatments": {"frozen-1": {"model": "deepspeech"}}}, ["frozen-1", "study's model only"]),
        ({"treatments": {"scratch": {"model": "quartz"}}}, ["scratch.model", "'quartz'"]),
        ({"treatments": {"frozen-0": {"output_rows": "shared", "reset": ["lstm"]}}}, ["frozen-0", "reset layer_6"]),
        ({"treatments": {"frozen-0": {"letters": {"ä": "a"}}}}, ["frozen-0", "output_rows: shared"]),
        ({"recipes": {"finetune": {"weight_decay": 0.1}}}, ["recipes.finetune", "adam-tf has none"]),
        ({"recipes": {"finetune": {"warmup_steps": 1, "warmup_ratio": 0.1}}}, ["recipes.finetune", "not both"]),
        (
            {"treatments": {"frozen-0": {"optimizer_state": "transferred", "recipe": {"optimizer": "novograd"}}}},
            ["frozen-0.optimizer_state", "adam-tf", "novograd"],
        ),
        (
            {"treatments": {"frozen-0": {"recipe": {"min_learning_rate": 0.1}}}},
            ["frozen-0.recipe", "constant schedule"],
        ),
        ({"treatments": {"scratch": {"freeze": ["lstm"]}}}, ["treatments.scratch", "scratch leaves nothing"]),
        ({"treatments": {"frozen-1": {"reset": ["layer_1"]}}}, ["frozen-1", "both reset and frozen"]),
        (
            {"studies": {"freezing": {"treatments": ["scratch", "frozen-0", "frozn-1"]}}},
            ["freezing.treatments", "'frozn-1'", "'frozen-1'"],
        ),
        ({"studies": {"freezing": {"targets": ["german", "german"]}}}, ["freezing.targets", "twice"]),
        ({"studies": {"freezing": {"target_recipes": {"grman": {}}}}}, ["target_recipes", "'grman'", "'german'"]),
        (
            {"studies": {"freezing": {"target_recipes": {"german": {"epoch": 3}}}}},
            ["freezing.target_recipes.german.epoch", "'epochs'"],
        ),
        ({"studies": {"freezing": {"decoders": ["viterbi"]}}}, ["freezing.decoders", "'viterbi'", "greedy"]),
        ({"studies": {"freezing": {"kind": "melting"}}}, ["freezing.kind", "freezing"]),
        ({"languages": {"de": {"alphabet": "abc"}}}, ["languages.de.alphabet", "space"]),
        ({"languages": {"de": {"alphabet": " aab"}}}, ["languages.de.alphabet", "twice"]),
        ({"studies": {"freezing": {"baseline": "scrach"}}}, ["freezing.baseline", "'scratch'"]),
        ({"name": "Mini Scale"}, ["name"]),
        ({"studies": {"all": read_yaml(DEFAULT)["studies"]["freezing"]}}, ["studies.all", "taken"]),
        ({"execution": {"state": "../elsewhere"}}, ["execution.state", ".."]),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(over: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        validate(changed(**over))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for part in said:
        assert part in message


def test_a_corpus_folder_that_is_not_there_is_named() -> None:
    source = {"kind": "commonvoice", "path": "nowhere/de"}
    raw = changed()
    raw["corpora"]["german"]["source"] = source
    with pytest.raises(UserError, match=r"corpora\.german\.source\.path: nowhere/de: no such"):
        validate(raw)


def test_several_mistakes_are_all_reported() -> None:
    over = {"recipes": {"finetune": {"epochs": 0}, "pretrain": {"batch_size": 0}}}
    with pytest.raises(UserError) as caught:
        validate(changed(**over))
    assert len(str(caught.value).splitlines()) == 2


def test_broken_yaml_and_missing_files_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1")
    with pytest.raises(UserError, match=r"broken\.yaml: not YAML"):
        read_yaml(broken)
    with pytest.raises(UserError, match=r"absent\.yaml: no such config"):
        read_yaml(tmp_path / "absent.yaml")


def test_includes_lie_beneath(tmp_path: Path) -> None:
    under = tmp_path / "under.yaml"
    under.write_text("a: {x: 1, y: 2}\nb: 3\n")
    assert with_includes({"include": [str(under)], "a": {"x": 9}}) == {"a": {"x": 9, "y": 2}, "b": 3}
    assert with_includes({"include": [str(under)], "a": {"x": None}, "b": None}) == {"a": {"y": 2}}
