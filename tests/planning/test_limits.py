"""Names that no file can have, and folders that are taken, are told before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.planning.test_plan import CONFIG, plan
from thaw.errors import UserError
from thaw.planning import layout

LONG = "x" * 90
STUDY: dict[str, Any] = CONFIG["studies"]["freezing"]


def study(name: str, **over: Any) -> dict[str, Any]:
    return {"studies": {"freezing": None, name: {**STUDY, **over}}}


@pytest.mark.parametrize(
    ("over", "said"),
    [
        (study("runs"), "studies.runs: results/runs is taken"),
        (study("state"), "studies.state: results/state is taken"),
        (study("corpora"), "studies.corpora: results/corpora is taken"),
        (study("all"), "studies.all: results/all is taken, by what is drawn from all studies together"),
        ({**study("mine"), "execution": {"state": "results/mine/here"}}, "results/mine is taken, by execution.state"),
        ({"execution": {"state": "results/runs"}}, "execution.state: results/runs is taken"),
        ({"execution": {"state": "results"}}, "execution.state: results is taken"),
        ({**study("mine"), "execution": {"features": "results/mine"}}, "results/mine is taken, by execution.features"),
        ({"execution": {"features": "results/state"}}, "execution.features: results/state is taken"),
        ({"execution": {"state": "here", "features": "here"}}, "execution.features: here is that of unfinished"),
        (
            {
                "models": {LONG: {"kind": "deepspeech", "hidden": 8}},
                "treatments": {LONG: {"model": LONG}},
                "studies": {"freezing": {"treatments": ["scratch", LONG], "reference": None}},
            },
            "a name of 2",
        ),
        ({"name": "y" * 90, **study("x" * 90)}, "too long for a file"),
        (
            {"corpora": {"german": {"source": {"utterances": {"train": 10**8}}, "audio": {"clips_per_job": 1}}}},
            "corpora.german: 100,000,008 jobs",
        ),
    ],
)
def test_a_mistake_is_one_line(over: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(over)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_folder_of_results_is_taken() -> None:
    """A folder that is added to the layout must not be open to a study of that name."""
    named = {value for name, value in vars(layout).items() if name.isupper() and isinstance(value, str)}
    assert {*layout.FOLDERS, layout.RESULTS} == named


@pytest.mark.parametrize("state", ["results/state", "/elsewhere/state", "my state", "state"])
def test_where_states_may_live(state: str) -> None:
    assert plan({"execution": {"state": state}}).runs
