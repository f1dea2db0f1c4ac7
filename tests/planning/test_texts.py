"""Configs of text: what goes into ids, and mistakes that are found before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from thaw.config.load import merged, validate
from thaw.errors import UserError
from thaw.planning import layout
from thaw.planning.plan import Plan, resolve

TOY = yaml.safe_load((Path(__file__).parents[1] / "workflow" / "language.yaml").read_text())
SPEECH: dict[str, Any] = {
    "corpora": {"english": {"label": "E", "language": "en", "source": {"kind": "prompts", "voice": "en"}}},
    "models": {"blstm": {"kind": "blstm"}},
    "recipes": {"ctc": {"epochs": 1}},
    "decoders": {"greedy": {"kind": "greedy"}},
}


def planned(tmp_path: Path, **over: Any) -> Plan:
    """The plan of the toy study, its text in a folder."""
    (tmp_path / "text").mkdir(exist_ok=True)
    (tmp_path / "text" / "a.txt").write_text("some words\n")
    config = merged(TOY, {"corpora": {"prose": {"source": {"path": str(tmp_path / "text")}}}})
    return resolve(validate(merged(config, over)))


def test_units_are_made_of_the_targets_text_and_part_of_ids(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    (units,) = plan.units.values()
    runs = list(plan.runs.values())
    assert len(runs) == 3
    assert all(run.recipe.units == units.hash for run in runs)
    assert layout.units(units, "units.json") == f"results/units/prose-words-{units.hash}/units.json"
    assert not any(corpus.shards for corpus in plan.audio.values())
    other = planned(tmp_path, recipes={"words": {"units": {"min_count": 3}}})
    assert {run.hash for run in other.runs.values()}.isdisjoint(run.hash for run in runs)
    assert other.manifests.keys() == plan.manifests.keys()


def test_an_edit_of_the_text_is_another_corpus_and_a_moved_vocabulary_is_the_same(tmp_path: Path) -> None:
    before = planned(tmp_path)
    ids = []
    for name in ("one.txt", "two.txt"):
        path = tmp_path / name
        path.write_text("<unk>\nwords\n")
        ids.append(sorted(planned(tmp_path, recipes={"words": {"units": {"file": str(path)}}}).runs))
    assert ids[0] == ids[1] != sorted(before.runs)
    path.write_text("<unk>\nother\n")
    assert sorted(planned(tmp_path, recipes={"words": {"units": {"file": str(path)}}}).runs) != ids[1]
    (tmp_path / "text" / "b.txt").write_text("more\n")
    config = merged(TOY, {"corpora": {"prose": {"source": {"path": str(tmp_path / "text")}}}})
    assert resolve(validate(config)).sources.keys() != before.sources.keys()


LM = "lm"


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"studies": {"topdown": {"cascades": {LM: {"stages": [["decoder"]]}}}}}, "share their weights: name all"),
        ({"studies": {"topdown": {"cascades": {LM: {"decoders": ["greedy"]}}}}}, "greedy does not judge a language"),
        ({"studies": {"topdown": {"cascades": {LM: {"corpus": "english"}}}}}, ""),
        ({"studies": {"topdown": {"cascades": {LM: {"model": "blstm", "stages": "all"}}}}}, "a blstm learns from"),
        ({"studies": {"topdown": {"cascades": {LM: {"recipe": "ctc"}}}}}, "a awd-lstm learns language-model, not ctc"),
        (
            {"studies": {"topdown": {"cascades": {LM: {"recipe": "ctc", "model": "blstm", "decoders": ["greedy"],
                                                       "stages": "all"}}}}},
            "corpora.prose is text without audio",
        ),
        ({"recipes": {"words": {"schedule": "cosine"}}}, "take constant"),
        ({"corpora": {"prose": {"source": {"splits": {"train": "x"}}}}}, "not both"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_each(tmp_path: Path, over: dict[str, Any], said: str) -> None:
    if not said:  # the transcripts of speech are text
        assert planned(tmp_path, **merged(SPEECH, over)).units
        return
    with pytest.raises(UserError, match=said):
        planned(tmp_path, **merged(SPEECH, over))
