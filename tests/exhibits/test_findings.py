"""Findings: sentences that say no more than the numbers and their noise allow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.exhibits.fakes import SETUPS, Fakes
from tests.exhibits.test_tables import Hand, draw
from thaw.files import read_json, write_json
from thaw.studies import study_module


def found(drawn: dict[str, bytes]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(drawn["json"])
    return data


def findings(hand: Hand) -> dict[str, Any]:
    return found(draw(hand.fakes.spec("findings", runs=hand.runs)))


def test_what_differs_and_what_cannot_be_told_apart(tmp_path: Path) -> None:
    errors = {"scratch": (8, 8), "frozen-0": (5, 5), "frozen-1": (3, 3), "frozen-2": (5, 6), "frozen-3": (9, 9)}
    hand = Hand(tmp_path, {(name, seed): wrong for name, both in errors.items() for seed, wrong in enumerate(both)})
    data = findings(hand)
    assert data["general"][0].startswith("Of ")  # the paper has numbers for these, on German
    [part] = data["parts"]
    assert part["title"] == "German: beam + LM"
    lowest, lower, higher, *to_reference = part["sentences"]
    assert lowest.startswith("Lowest WER: “<frozen-1>” (30.0 [")
    assert lower.startswith("Lower than “<scratch>” (80.0 [")
    assert lower.endswith("“<frozen-0>” (−30.0), “<frozen-1>” (−50.0), “<frozen-2>” (−25.0).")
    assert higher.startswith("Higher than “<scratch>”")
    assert higher.endswith("beyond noise (p < 0.05, Holm): “<frozen-3>” (+10.0).")
    assert to_reference[-1].startswith(
        "Cannot be told apart from “<frozen-0>” at this size (smallest difference that could have been shown: German"
    )
    assert to_reference[-1].endswith("“<frozen-2>” (+5.0).")
    assert not any("“<scratch>” (+30.0)" in sentence for sentence in to_reference)  # said above


def test_trained_models_are_not_called_treatments(tmp_path: Path) -> None:
    data = findings(Hand(tmp_path, {("scratch", 1): 8, ("frozen-0", 1): 5, ("frozen-1", 1): 5}))
    assert data["general"] == [
        "No random seed is repeated: what follows is true of these trained models, and says nothing of what the same "
        "treatments would give in another training."
    ]
    text = json.dumps(data["parts"], ensure_ascii=False)
    assert "p <" not in text
    assert "by more than other speakers would change" in text
    assert "Cannot be told apart from “<frozen-0>” at this size: “<frozen-1>” (+0.0)." in text


def test_trainings_that_were_stopped_are_counted(tmp_path: Path) -> None:
    study = Fakes(tmp_path, ("scratch", "frozen-0"), targets={"german": "German"})
    path = Path(study.runs[0]["record"])
    write_json(path, read_json(path) | {"best": {"epoch": 6, "dev_loss": 14.0}}, sealed=False)
    assert any(
        sentence.startswith("1 of 2 trainings had their best epoch at their end: they were stopped, not finished")
        for sentence in found(draw(study.spec("findings")))["general"]
    )


@pytest.mark.parametrize("kind", SETUPS)
def test_the_papers_own_finding_stands_beside(kind: str, tmp_path: Path) -> None:
    target = {"spanish": "Spanish"}
    study = Fakes(tmp_path, ("scratch",), targets=target, kind=kind)
    drawn = draw(study.spec("findings"))
    assert found(drawn)["finding"] == study_module(kind).PAPER_FINDING
    assert found(drawn)["paper"] == study_module(kind).PAPER
    text = drawn["md"].decode()
    assert "# Findings" in text
    assert "The paper's own finding" in text
    assert "not comparable with the published numbers" in text
    assert draw(study.spec("findings")) == drawn
