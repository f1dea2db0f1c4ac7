"""The rerun contract for the user's own files: tables, manifests, texts, checkpoints, clips (docs/reruns.md, Files).

Nothing is trained here: empty files stand for results, and Snakemake is told that they are up to date.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.conftest import TOY, Workspace
from tests.workflow.dry_runs import listed, snakemake_here
from thaw.config.load import load, merged
from thaw.planning.plan import resolve

pytestmark = pytest.mark.e2e

CORPORA: dict[str, dict[str, Any]] = {
    "german": {"kind": "table", "path": "own/german.tsv", "shards": 1},
    "dutch": {"kind": "commonvoice", "path": "own/nl", "shards": 1},
    "spanish": {"kind": "manifest", "path": "own/es.jsonl", "shards": 1},
}
LANGUAGES = {"german": "de", "dutch": "nl", "spanish": "es"}
STUDY = {
    "source": {"corpus": None, "recipe": None, "checkpoint": "released"},
    "targets": list(CORPORA),
    "treatments": ["scratch", "frozen-0"],
}
CONFIG = {
    "corpora": {
        "english": None,
        **{name: {"label": name, "language": LANGUAGES[name], "source": one} for name, one in CORPORA.items()},
    },
    "checkpoints": {"released": {"kind": "deepspeech-tf", "path": "own/released", "language": "en"}},
    "decoders": {"lm": {"language_model": {"extra_text": "own/more.txt"}}},
    "studies": {"freezing": STUDY},
}
FILES = {
    "german.tsv": "path\ttext\tspeaker\n",
    "nl/train.tsv": "a",
    "nl/dev.tsv": "b",
    "nl/test.tsv": "c",
    "nl/clips/1.mp3": "x",
    "es.jsonl": "{}\n",
    "more.txt": "ein satz\n" * 200_000,  # beyond what Snakemake compares by content
    "released/best.index": "i",
    "released/best.data-00000-of-00001": "weights",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A study on own files of which everything is there, as far as Snakemake can tell."""
    workspace = Workspace(tmp_path_factory.mktemp("own"))
    raw = yaml.safe_load(TOY.read_text())
    raw["corpora"] = {}
    workspace.config.write_text(yaml.safe_dump(merged(raw, CONFIG), allow_unicode=True))
    for name, text in FILES.items():
        path = workspace.root / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    summary = snakemake_here(workspace, ["--summary"])
    for line in summary.splitlines():
        if line.startswith("results/"):
            path = workspace.root / line.split("\t")[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    snakemake_here(workspace, ["--touch", "--forceall"])
    return workspace


@pytest.fixture
def own(made: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """A copy of it, that a test may edit."""
    shutil.copytree(made.root, tmp_path, symlinks=True, dirs_exist_ok=True)
    yield Workspace.at(tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)


def jobs(workspace: Workspace, *arguments: str) -> Counter[str]:
    """What would run, but for drawing."""
    found = listed(workspace, *arguments)
    return Counter({job: n for job, n in found.items() if not job.startswith(("freezing:", "all:", "report"))})


def trained(corpus: str, *treatments: str) -> set[str]:
    runs = [f"{corpus}-deepspeech-{treatment}-s1" for treatment in treatments]
    rooms = [f"{room} {run}-{decoder}" for room in ("search", "score") for run in runs for decoder in ("greedy", "lm")]
    return {*(f"{room} {run}" for room in ("train", "emit") for run in runs), *rooms}


def anew(corpus: str) -> set[str]:
    """Everything that follows from the listing of a corpus, and it."""
    rooms = {f"fetch {corpus}", f"convert shard 0 of {corpus}", f"manifests of {corpus}-deepspeech"}
    return rooms | {f"language model {corpus}-2gram"} | trained(corpus, "scratch", "frozen-0")


WITH_TEXT = {f"language model {corpus}-2gram" for corpus in CORPORA} | {
    f"{room} {corpus}-deepspeech-{treatment}-s1-lm"
    for room in ("search", "score")
    for corpus in CORPORA
    for treatment in ("scratch", "frozen-0")
}
FROM_IT = {"import released"} | {job for corpus in CORPORA for job in trained(corpus, "frozen-0")}

EDITS = {
    "german.tsv": anew("german"),
    "nl/train.tsv": anew("dutch"),
    "nl/test.tsv": anew("dutch"),
    "es.jsonl": anew("spanish"),
    "more.txt": WITH_TEXT,
    "released/best.data-00000-of-00001": FROM_IT,
}


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more\n")


def correct(path: Path) -> None:
    """Another letter, the size and the time as they were."""
    stat, text = path.stat(), path.read_text()
    path.write_text(chr(ord(text[0]) ^ 1) + text[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def replace(path: Path) -> None:
    """Another file, older than the results."""
    path.unlink()
    path.write_text("another\n")
    os.utime(path, (1, 1))


@pytest.mark.parametrize("edit", [append, correct, replace])
@pytest.mark.parametrize(("name", "expected"), EDITS.items(), ids=EDITS)
def test_an_edit_of_an_own_file(
    own: Workspace, edit: Callable[[Path], None], name: str, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.root)
    before = resolve(load([own.config]))
    edit(own.root / "own" / name)
    assert jobs(own) == Counter(expected)
    after = resolve(load([own.config]))  # what runs gets names of its own; the old results stay
    renamed = {after.runs[identity].name for identity in after.runs.keys() - before.runs.keys()}
    assert renamed == {job.removeprefix("train ") for job in expected if job.startswith("train ")}


def test_an_edit_taken_back(own: Workspace) -> None:
    path = own.root / "own" / "german.tsv"
    append(path)
    path.write_text(FILES["german.tsv"])
    assert jobs(own) == Counter()


def test_touched_and_copied_files(own: Workspace) -> None:
    for name in FILES:
        path = own.root / "own" / name
        shutil.copyfile(path, path.with_name("copy"))
        os.replace(path.with_name("copy"), path)
    assert jobs(own) == Counter()


def test_a_replaced_clip_is_found_when_its_corpus_is_listed_again(own: Workspace) -> None:
    append(own.root / "own" / "nl" / "clips" / "1.mp3")
    assert jobs(own) == Counter()
    listing = next(own.root.glob("results/corpora/dutch-*/utterances.jsonl"))
    assert jobs(own, "-R", str(listing.relative_to(own.root))) == Counter(anew("dutch"))
