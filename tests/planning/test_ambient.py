"""What an ambient study asks for, and which of its mistakes are found before anything runs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from thaw.config.config import Config
from thaw.config.load import load
from thaw.errors import UserError
from thaw.planning.plan import Plan, resolve

TOY = Path(__file__).parents[1] / "workflow" / "ambient.yaml"
RAW = yaml.safe_load(TOY.read_text(encoding="utf-8"))
STUDY = ("studies", "ambient")


def loaded(tmp_path: Path, raw: dict[str, Any]) -> Config:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return load([path])


def plan(tmp_path: Path, raw: dict[str, Any] = RAW) -> Plan:
    return resolve(loaded(tmp_path, raw))


def changed(*keys: str, **more: Any) -> dict[str, Any]:
    raw = copy.deepcopy(RAW)
    found = raw
    for key in keys:
        found = found[key]
    found.update(more)
    return raw


def test_the_papers_decodes_are_probes_of_one_job_a_training(tmp_path: Path) -> None:
    """Figures 2 to 4 have 2 · 17 + 2 · 49 + 5 · 49 = 377 of layers; 49 + 17 stand in two of them. No model is kept."""
    models = {name: {"kind": "conformer", "variant": name.upper(), "norm": "group"} for name in ("s", "m", "l")}
    models["l-batch"] = {"kind": "conformer", "variant": "L"}
    raw = changed("models", **models)
    raw["studies"]["ambient"]["models"] = {name: {"model": name} for name in models}
    raw["studies"]["ambient"]["models"]["l-batch"]["seeds"] = [1]
    raw["studies"]["ambient"] |= {"seeds": [1, 2, 3, 4, 5], "draws": [101]}
    found = plan(tmp_path, raw)
    assert len(found.probes) == len(found.runs) == 3 * 5 + 1
    wanted = {probe.run.name: [name for name in probe.spec.operations if name.startswith("block_")]
              for probe in found.probes.values()}  # fmt: skip
    drawn = sum(name.endswith("draw-101") for names in wanted.values() for name in names)
    first = sum(name.endswith("first") for run, names in wanted.items() if run.endswith("s1") for name in names)
    assert drawn == 5 * 49 + 17
    assert first == 49 + 17  # batch norm's too, which no figure of the paper has
    assert drawn + (first - 17) + 49 + 17 == 377
    assert all({"none", "subsampling-first", "output-draw-101"} <= {*probe.spec.operations}
               for probe in found.probes.values())  # fmt: skip


def test_a_run_has_one_probe_with_all_its_resets(tmp_path: Path) -> None:
    probes = {probe.run.name: probe.spec for probe in plan(tmp_path).probes.values()}
    spec = probes["english-small-source-s1"]
    assert [op.model_dump(exclude_defaults=True) for op in spec.operations["epoch-1-block_2-draw-101"]] == [
        {"load": ("subsampling", "block_1", "block_2", "block_3", "block_4", "output"), "snapshot": "epoch-1"},
        {"reset": ("block_2",), "seed": 101},
    ]
    assert spec.operations["block_3-conv-first"][0].model_dump(exclude_defaults=True) == {
        "reset": ("block_3",), "to": "first", "modules": ("conv",),
    }  # fmt: skip
    assert spec.churn == ("epoch-1", "best")
    assert "block_1-draw-101-weights" in probes["english-small-batch-source-s1"].operations


def test_probes_alone_change_no_training(tmp_path: Path) -> None:
    before, after = plan(tmp_path), plan(tmp_path, changed(*STUDY, draws=[7]))
    assert set(before.runs) == set(after.runs)
    assert not set(before.probes) & set(after.probes)


@pytest.mark.parametrize(
    ("where", "more", "complaint"),
    [
        (STUDY, {"corpus": "englsh"}, "studies.ambient.corpus: 'englsh' is not there; did you mean 'english'"),
        (STUDY, {"draws": [1]}, "seed 1 is among the study's draws"),
        (STUDY, {"draws": [7, 7]}, "draws: 7 is given twice"),
        ((*STUDY, "models", "s"), {"steps": ["epoch-2"]}, "steps: epoch-2 is no snapshot beside the best"),
        ((*STUDY, "models", "s"), {"steps": ["best"]}, "steps: best is no snapshot beside the best"),
        ((*STUDY, "models", "s"), {"modules": ["convolution"]}, "modules: 'convolution' is not in a block"),
        ((*STUDY, "models", "s"), {"recipe": {"epochs": 0}}, "models.s.recipe.epochs"),
        ((*STUDY, "models", "s"), {"model": "tiny"}, "models.s.model: 'tiny' is not there"),
        ((*STUDY, "models", "s"), {"recipe": {"task": {"kind": "rnnt"}}}, "models.s: a conformer without head: rnnt"),
        (STUDY, {"style": {"x": "#000000"}}, "style: 'x' is not there"),
    ],
)
def test_mistakes_are_found_before_anything_runs(
    tmp_path: Path, where: tuple[str, ...], more: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UserError) as caught:
        plan(tmp_path, changed(*where, **more))
    assert complaint in str(caught.value)
