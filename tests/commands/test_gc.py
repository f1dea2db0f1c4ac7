"""`thaw gc`: only what no config names, and never by surprise."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.commands.project import at_work, begun, config_file, finished, plan, put, run_of
from thaw.canonical import digest
from thaw.commands import gc
from thaw.errors import UserError
from thaw.planning import layout
from thaw.planning.emissions import emission_of
from thaw.planning.plan import Plan

NOW = plan()
# An edit of text rules makes new manifests, models, runs and decodes; another source makes a new corpus and audio too.
OLD = plan({"languages": {"de": {"replace": {"x": "y"}}}, "corpora": {"german": {"source": {"seed": 2}}}})


def make(of: Plan) -> None:
    """The record of every thing that a plan names, and a big file beside it."""
    for name in of.decodes:
        put(f"results/decodes/{name}/decode.json", {"decoder": {"kind": "greedy"}})
        put(f"results/decodes/{name}/hypotheses.jsonl")
        put(f"results/scores/{name}/scores.json", {"scoring": {}})
    for name in of.emissions:
        put(f"results/emissions/{name}/emissions.json", {"emissions": 1, "units": {}})
        put(f"results/emissions/{name}/labels.jsonl")
        put(f"results/emissions/{name}/scores.safetensors")
        put(f"results/emissions/{name}/.scores.safetensors.sha256")
    for name in of.lms:
        put(f"results/lms/{name}/lm.json", {"order": 3})
        put(f"results/lms/{name}/lm.binary")
    for name in of.manifests:
        put(f"results/manifests/{name}/counts.json", {"train": {}, "dev": {}, "test": {}})
    for name in of.audio:
        put(f"results/audio/{name}/0.jsonl", {"id": "a", "digest": "0" * 16})
        put(f"results/audio/{name}/0.wav")
        put(f"results/audio/{name}/.0.jsonl.sha256")
    for name in of.sources:
        put(f"results/corpora/{name}/source.json", {"kind": "synthetic", "splits": {}})
        put(f"results/corpora/{name}/files/clip.mp3")
        put(f"results/corpora/{name}/files/fetch.json", {"kind": "synthetic"})
    for run in of.runs.values():
        finished(run)
        put(f"results/runs/{run.id}/.run.json.12.part")  # of a process that was killed
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


def call(
    *configs: str, yes: bool = False, corpora: bool = False, features: bool = False, emissions: bool = False
) -> None:
    also = {"corpora": corpora, "features": features, "emissions": emissions}
    gc.run(argparse.Namespace(config=list(configs), yes=yes, dry_run=not yes, **also))


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
    assert "     241 B  results/audio/" in said
    assert "nothing was deleted" in said.splitlines()[-1]


def test_yes_leaves_exactly_what_was_there_before_the_edit() -> None:
    before = files()
    make(OLD)
    call("config.yaml", yes=True)
    downloads = {path for path in files() - before if "files" in path.parts}
    assert files() - downloads == before
    assert len(downloads) == 2  # kept without --corpora
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


def theirs(old: str) -> dict[str, Path]:
    """What people put beside results, by what it is; `old` is a run that no config names."""
    copied, noted = Path("results/runs") / f"{old[:-11]}-2026112114", Path("results/runs") / old
    shutil.copytree(noted, copied)
    put(noted / "notes.txt")
    state = Path("results/state/mine-2026112114/0123456789")
    shutil.copytree(next(Path("results/state", old).iterdir()), state)
    Path("elsewhere").mkdir()
    Path("results/runs/linked-0123456789").symlink_to(Path("elsewhere").absolute())
    return {
        "a name of their own": put("results/runs/my-notes/notes.txt"),
        "a file": put("results/state/README"),
        "a date": put("results/runs/2026112114/notes.txt"),
        "a date after a dash": put("results/runs/experiment-1763736000/notes.txt"),
        "a copy of a run": copied / "run.json",
        "notes in a run": noted / "notes.txt",
        "a link": Path("results/runs/linked-0123456789"),
        "audio": put("results/audio/mine-0123456789/0.wav"),
        "a copy of a state": state / "recipe.json",
        "a record of another program": put("results/decodes/mine-0123456789/decode.json", {"decode": 1}),
        "a broken record": put("results/scores/mine-0123456789/scores.json", "{"),
    }


@pytest.mark.parametrize("corpora", [False, True])
def test_what_people_put_there_is_theirs(corpora: bool, capsys: pytest.CaptureFixture[str]) -> None:
    make(OLD)
    put_there = theirs(run_of(OLD, "scratch").id)
    call("config.yaml", yes=True, corpora=corpora)
    assert [what for what, path in put_there.items() if not path.exists()] == []
    assert not Path("results/runs", run_of(OLD, "frozen-2").id).exists()
    said = capsys.readouterr().out
    assert "kept  results/runs/2026112114: its name does not end in a hash\n" in said
    assert "kept  results/runs/experiment-1763736000: it holds 'notes.txt', which thaw did not write\n" in said
    assert "-2026112114: its run.json is that of another run\n" in said
    assert "kept  results/scores/mine-0123456789: it has no scores.json that thaw wrote\n" in said


def test_outside_results_a_state_goes_by_its_recipe_never_by_its_name(tmp_path: Path) -> None:
    """`state: /data`, where other things than trainings live."""
    data = tmp_path / "data"
    config_file(Path("config.yaml"), {"execution": {"state": str(data)}})
    old = run_of(OLD, "scratch").id
    shutil.copytree(Path(begun(run_of(OLD, "scratch"), "stopped")).parent, data / old)
    put(data / "experiment-1763736000" / "thesis.tex")
    put(data / "experiment-1763736001" / "0123456789" / "thesis.tex")
    put(data / "experiment-1763736002" / "0123456789" / "recipe.json", {"flour": 500})
    (data / "experiment-1763736003").mkdir()
    call("config.yaml", yes=True)
    assert sorted(path.name for path in data.iterdir()) == [f"experiment-176373600{number}" for number in range(4)]
    assert len(list(data.rglob("*.*"))) == 3


def test_kept_features_go_where_no_run_reads_the_like_or_where_asked_for() -> None:
    def store(frontend: str) -> Path:
        about = {"format": 1, "frontend": frontend, "features_of_noise": "ab"}
        folder = Path("results/features", f"{frontend}-{digest(about)}")
        put(folder / "store.json", about)
        for ending in ("index", "features"):
            put(folder / f"0123456789abcdef.{ending}")
        return folder

    wanted, unwanted, mine = store("deepspeech"), store("fbank"), Path("results/features/mine-0123456789")
    put(mine / "store.json", {"frontend": "fbank"})
    call("config.yaml", yes=True)
    assert (wanted.is_dir(), unwanted.exists(), mine.is_dir()) == (True, False, True)
    call("config.yaml", yes=True, features=True)
    assert (wanted.exists(), mine.is_dir()) == (False, True)


def test_sizes_in_words() -> None:
    assert [gc.size_text(count) for count in (0, 999, 1000, 2_500_000, 3e9, 4e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.5 MB",
        "3.0 GB",
        "4.0 TB",
    ]


def test_log_probabilities_go_where_asked_for_once_all_have_searched_them() -> None:
    one, other, *_ = NOW.emissions.values()
    waiting = next(decode for decode in NOW.decodes.values() if emission_of(decode) == other)
    Path(layout.decode(waiting, "hypotheses.jsonl")).unlink()
    killed = put(f"{layout.emission(other)}/.scores.safetensors.12.part")
    long_ago = time.time() - 2 * gc.WRITING_SECONDS
    os.utime(killed, (long_ago, long_ago))
    put(f"{layout.emission(other)}/.dev.safetensors.13.part")  # of a job that goes on, whose Snakemake was killed
    before = files()
    call("config.yaml", yes=True)
    assert files() == before
    call("config.yaml", yes=True, emissions=True)
    names = ("scores.safetensors", ".scores.safetensors.sha256")
    gone = {Path(layout.emission(each, name)) for each in NOW.emissions.values() if each != other for name in names}
    assert before - files() == gone | {killed}
    assert Path(layout.emission(one, "labels.jsonl")).exists()
