"""`thaw gc`: only what no config names, and never by surprise."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests.commands.project import at_work, begun, config_file, plan, put, run_of
from thaw.commands import gc
from thaw.errors import UserError
from thaw.planning.plan import Plan

NOW = plan()
# An edit of text rules makes new manifests, models, runs and decodes; another source makes a new corpus and audio too.
OLD = plan({"languages": {"de": {"replace": {"x": "y"}}}, "corpora": {"german": {"source": {"seed": 2}}}})


def make(of: Plan) -> None:
    """A file in every folder that a plan names."""
    kinds = {"runs": of.runs, "decodes": of.decodes, "scores": of.decodes, "lms": of.lms, "manifests": of.manifests}
    for kind, names in {**kinds, "audio": of.audio, "corpora": of.sources}.items():
        for name in names:
            put(f"results/{kind}/{name}/file")
    for name in of.sources:
        put(f"results/corpora/{name}/files/clip.mp3")
    for run in of.runs.values():
        begun(run, "stopped")


def files() -> set[Path]:
    return {path for path in Path("results").rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config_file(Path("config.yaml"))
    config_file(
        Path("old.yaml"), {"languages": {"de": {"replace": {"x": "y"}}}, "corpora": {"german": {"source": {"seed": 2}}}}
    )
    make(NOW)


def call(*configs: str, yes: bool = False, corpora: bool = False) -> None:
    gc.run(argparse.Namespace(config=list(configs), yes=yes, dry_run=not yes, corpora=corpora))


def test_what_the_config_names_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    before = files()
    call("config.yaml", yes=True, corpora=True)
    assert files() == before
    assert capsys.readouterr().out.startswith("0 things")


def test_it_lists_all_that_is_old_with_sizes_and_deletes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    make(OLD)
    before = files()
    call("config.yaml")
    assert files() == before
    said = capsys.readouterr().out
    german = [name for name in (*OLD.runs, *OLD.lms, *OLD.manifests, *OLD.audio) if name.startswith("german")]
    assert len(german) == 3 + 1 + 1 + 1
    assert all(f"/{name}\n" in said for name in german)
    assert not any(f"/{name}\n" in said for name in NOW.runs)
    assert "     100 B  results/audio/" in said
    assert "nothing was deleted" in said.splitlines()[-1]


def test_yes_leaves_exactly_what_was_there_before_the_edit() -> None:
    before = files()
    make(OLD)
    call("config.yaml", yes=True)
    downloads = {path for path in files() - before if "files" in path.parts}
    assert files() - downloads == before
    assert len(downloads) == 1  # kept without --corpora
    call("config.yaml", yes=True, corpora=True)
    assert files() == before


def test_every_named_config_keeps_its_own() -> None:
    make(OLD)
    before = files()
    call("config.yaml", "old.yaml", yes=True, corpora=True)
    assert files() == before


def test_files_joined_by_commas_are_one_config(tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text("languages: {de: {replace: {x: y}}}\ncorpora: {german: {source: {seed: 2}}}\n")
    make(OLD)
    call(f"config.yaml,{over}", yes=True)
    assert Path("results/runs", run_of(OLD, "scratch").id).exists()
    assert not Path("results/runs", run_of(NOW, "scratch").id).exists()


def test_a_config_with_a_mistake_deletes_nothing() -> None:
    make(OLD)
    before = files()
    Path("broken.yaml").write_text("name: x\n")
    with pytest.raises(UserError, match="missing"):
        call("config.yaml", "broken.yaml", yes=True)
    assert files() == before


def test_a_trainer_at_work_stops_it_before_anything_is_deleted() -> None:
    make(OLD)
    with at_work(begun(run_of(OLD, "frozen-2"), "running")):
        before = files()
        with pytest.raises(UserError, match="a trainer is at work here"):
            call("config.yaml", yes=True)
        assert before <= files()


def test_a_trainer_on_another_machine_stops_it_too() -> None:
    make(OLD)
    put(begun(run_of(OLD, "frozen-2"), "running") / "holder.json", {"host": "another", "beat": 1})
    before = files()
    with pytest.raises(UserError, match="a trainer is at work here"):
        call("config.yaml", yes=True)
    assert before <= files()


def test_snakemake_at_work_stops_it() -> None:
    make(OLD)
    put(".snakemake/locks/0.input.lock")
    before = files()
    with pytest.raises(UserError, match="unlock"):
        call("config.yaml", yes=True)
    assert files() == before


def test_what_people_put_there_is_theirs() -> None:
    put("results/runs/my-notes/notes.txt")
    put("results/state/README")
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    Path("results/runs/linked-0123456789").symlink_to(elsewhere.absolute())
    call("config.yaml", yes=True)
    assert Path("results/runs/my-notes/notes.txt").exists()
    assert Path("results/state/README").exists()
    assert Path("results/runs/linked-0123456789").is_symlink()


def test_sizes_in_words() -> None:
    assert [gc.size_text(count) for count in (0, 999, 1000, 2_500_000, 3e9, 4e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.5 MB",
        "3.0 GB",
        "4.0 TB",
    ]
