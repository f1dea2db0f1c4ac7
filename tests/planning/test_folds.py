"""A corpus in folds is as many corpora, and a study on it trains on each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.planning.test_plan import BASE, CONFIG, made
from thaw.config.load import merged, validate
from thaw.errors import UserError
from thaw.planning.folds import fold_of, whole_name
from thaw.planning.plan import Plan, resolve

ON_BOTH = {"studies": {"freezing": {"targets": ["german", "mine"]}}}


@pytest.fixture
def mine(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "t.tsv"
    path.write_text("path\ttext\tspeaker\n")
    return {"label": "Mine", "language": "de", "source": {"kind": "table", "path": str(path), "folds": 3}}


def plan(mine: dict[str, Any], over: dict[str, Any] = ON_BOTH) -> Plan:
    return resolve(validate(merged(merged(CONFIG, {"corpora": {"mine": mine}}), over)))


def test_each_fold_is_trained(mine: dict[str, Any]) -> None:
    now = plan(mine)
    assert made(BASE) <= made(now)  # what has no folds stays
    targets = dict.fromkeys(run.manifest.corpus.name for run in now.study("freezing").runs)
    assert list(targets) == ["german", "mine-fold-1", "mine-fold-2", "mine-fold-3"]
    corpora = {run.manifest.corpus.name: run.manifest.corpus for run in now.study("freezing").runs}
    assert {(whole_name(name, one.spec), fold_of(one.spec)) for name, one in corpora.items()} == {
        ("german", 0),
        ("mine", 1),
        ("mine", 2),
        ("mine", 3),
    }
    assert len({one.source_hash for one in corpora.values()}) == 4
    assert len(now.runs) == 1 + 4 * 3


def test_what_a_target_changes_in_the_recipe_holds_in_every_fold(mine: dict[str, Any]) -> None:
    changes = {"studies": {"freezing": {"target_recipes": {"mine": {"epochs": 7}}}}}
    epochs = {
        run.manifest.corpus.name: run.recipe.recipe.epochs
        for run in plan(mine, merged(ON_BOTH, changes)).study("freezing").runs
    }
    assert epochs == {"german": 3, "mine-fold-1": 7, "mine-fold-2": 7, "mine-fold-3": 7}


def test_what_folds_cannot_be(mine: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"studies\.freezing\.source\.corpus: 'mine' has folds"):
        plan(mine, {"studies": {"freezing": {"source": {"corpus": "mine"}}}})
    with pytest.raises(UserError, match=r"corpora\.mine-fold-2: a fold of 'mine' has that name"):
        plan(mine, merged(ON_BOTH, {"corpora": {"mine-fold-2": CONFIG["corpora"]["german"]}}))
    wrong: list[dict[str, Any]] = [
        {"folds": 1},
        {"fold": 4},
        {"speakers": {"test": ["a"]}},
        {"columns": {"split": "set"}},
        {"folds": -1},
    ]
    for over in wrong:
        with pytest.raises(UserError, match="folds"):
            plan(merged(mine, {"source": over}))
    with pytest.raises(UserError, match="folds"):
        plan({**mine, "source": {"kind": "union", "parts": {"a": mine["source"]}}})
