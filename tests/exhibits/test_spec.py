"""Specs: cut down to needs, so that an edit draws again what it touches and nothing else."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exhibits.fakes import Fakes
from thaw.commands import exhibit as command
from thaw.errors import UserError
from thaw.exhibits.spec import EXHIBIT_VERSION, ExhibitSpec, drawable, parse, scale_note
from thaw.exhibits.together import exhibits
from thaw.exhibits.write import write_exhibit
from thaw.studies import KINDS


def test_scale_is_said_in_words() -> None:
    assert scale_note("mini", "synthesised") == (
        "mini scale: synthesised speech; not comparable with the published numbers"
    )
    assert scale_note("paper", "recorded") == "paper scale"
    assert "not comparable" in scale_note("paper", "mixed")


def test_an_exhibit_depends_on_what_it_shows(fakes: Fakes) -> None:
    metrics = {run["metrics"] for run in fakes.runs}
    scores = {decode["scores"] for run in fakes.runs for decode in run["decodes"]}
    counts = {corpus["counts"] for corpus in fakes.corpora}
    read = {name: set(fakes.spec(name).files()) for name in exhibits("freezing")}
    assert metrics <= read["figure2"] | read["figure3"]
    german = [run for run in fakes.runs if run["target"] == "german"]
    assert read["figure2"] == {run[file] for run in german for file in ("metrics", "record")}
    assert not scores & read["figure2"]
    assert scores <= read["table2"]
    assert not metrics & read["table2"]
    assert read["table1"] - counts == {path for path in read["table1"] if path.endswith("freezing-corpora.csv")}
    # Records say whether a run was finished, which stands beside its rates, and which epoch was kept, where a curve has
    # its ring. Those of decodes are needed by none.
    assert {run["record"] for run in fakes.runs} <= read["table2"]
    assert not any({d["record"] for run in fakes.runs for d in run["decodes"]} & files for files in read.values())


def test_settings_reach_only_those_who_need_them(fakes: Fakes) -> None:
    assert fakes.spec("figure2", scoring={"level": 0.9}) == fakes.spec("figure2")
    assert fakes.spec("figure2", baseline="frozen-1") == fakes.spec("figure2")
    assert fakes.spec("table2", scoring={"level": 0.9}) != fakes.spec("table2")


def test_drawable_exhibits_follow_the_number_of_targets(tmp_path: Path) -> None:
    found = exhibits("freezing")
    one, two, three = (
        set(drawable(found, Fakes(tmp_path, ("scratch",), targets={name: name for name in names}).whole()))
        for names in ("a", "ab", "abc")
    )
    assert two - one == {"figure3"}
    assert three - two == {"figure-all"}


def test_a_figure_of_one_target_does_not_see_the_others(fakes: Fakes) -> None:
    for name, target in (("figure2", "german"), ("figure3", "spanish")):
        assert list(fakes.spec(name).targets) == [target]


def test_settings_of_runs_stay_out_of_exhibits_that_do_not_show_them(fakes: Fakes) -> None:
    runs = [run | {"source_label": "British English", "model": "other"} for run in fakes.runs]
    assert fakes.spec("figure2", runs=runs) == fakes.spec("figure2")
    assert fakes.spec("table2", runs=runs) == fakes.spec("table2")
    assert fakes.whole(runs=runs) != fakes.whole()


@pytest.mark.parametrize("kind", [*(f"studies.{kind}" for kind in KINDS), "exhibits.together"])
def test_a_study_is_cheap_to_import(kind: str) -> None:
    code = f"import sys, thaw.{kind} as f; f.EXHIBITS; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "matplotlib", "pandas", "numpy", "scipy", "jinja2"} & set(loaded)


def test_unknown_studies_are_refused() -> None:
    with pytest.raises(UserError, match="no study of kind 'zzz'; allowed: ambient, crosslingual, freezing"):
        exhibits("zzz")


def test_a_spec_of_another_version_is_refused(fakes: Fakes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"exhibits of version {EXHIBIT_VERSION}, not 1"):
        write_exhibit(fakes.spec("table2").model_copy(update={"version": 1}), [tmp_path / "table2.csv"])


def test_a_wrong_spec_is_explained_by_key(fakes: Fakes) -> None:
    with pytest.raises(UserError, match=r"--exhibit: .*colour.*Extra inputs"):
        parse(ExhibitSpec, fakes.spec("table1").model_dump_json()[:-1] + ',"colour": 1}', "--exhibit")
    with pytest.raises(UserError, match="--exhibit: JSON: Invalid JSON"):
        parse(ExhibitSpec, "{", "--exhibit")
    with pytest.raises(UserError, match=r"--exhibit: cannot read nowhere\.json"):
        parse(ExhibitSpec, "@nowhere.json", "--exhibit")


def test_the_command_writes_the_files_asked_for(fakes: Fakes, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(fakes.spec("table2").model_dump_json())
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    outs = [str(tmp_path / f"table2.{suffix}") for suffix in ("csv", "md")]
    command.run(parser.parse_args(["--exhibit", f"@{spec}", "--out", *outs]))
    assert all(Path(out).read_text() for out in outs)
