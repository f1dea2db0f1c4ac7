"""The user's own files are part of what is made from them: their contents, not their times and names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.planning.test_golden import on
from tests.planning.test_plan import CONFIG, made
from thaw.config.load import merged, validate
from thaw.planning import contents
from thaw.planning.plan import Plan, resolve

ROW = '{"audio_filepath": "a.wav", "text": "ja", "speaker": "x"}\n'
TABLES = {"train.tsv": "client_id\tpath\tsentence\n", "dev.tsv": "d", "test.tsv": "t"}


def release(folder: Path) -> Path:
    (folder / "clips").mkdir(parents=True)
    for name, text in TABLES.items():
        (folder / name).write_text(text)
    return folder / "train.tsv"


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def corpus(source: dict[str, Any]) -> Plan:
    return on({"mine": source})


def table(folder: Path) -> tuple[Path, Callable[[], Plan]]:
    path = written(folder / "t.tsv", "path\ttext\tspeaker\n")
    return path, lambda: corpus({"kind": "table", "path": str(path)})


def manifest(folder: Path) -> tuple[Path, Callable[[], Plan]]:
    path = written(folder / "m" / "train.jsonl", ROW)
    other = written(folder / "m" / "test.jsonl", ROW)
    return path, lambda: corpus({"kind": "manifest", "splits": {"train": str(path), "test": str(other)}})


def common_voice(folder: Path) -> tuple[Path, Callable[[], Plan]]:
    path = release(folder / "de")
    return path, lambda: corpus({"kind": "commonvoice", "path": str(folder)})


def archive(folder: Path) -> tuple[Path, Callable[[], Plan]]:
    path = written(folder / "de.tar.gz", "packed")
    return path, lambda: corpus({"kind": "commonvoice", "path": str(path)})


def swiss(folder: Path) -> tuple[Path, Callable[[], Plan]]:
    path = written(folder / "s" / "test.tsv", "x")
    return path, lambda: corpus({"kind": "swiss-parliament", "path": str(path.parent)})


def union(folder: Path) -> tuple[Path, Callable[[], Plan]]:
    path, _ = table(folder)
    parts = {"a": {"kind": "prompts", "voice": "it"}, "b": {"kind": "table", "path": str(path)}}
    return path, lambda: corpus({"kind": "union", "parts": parts})


def text(folder: Path) -> tuple[Path, Callable[[], Plan]]:
    path = written(folder / "more.txt", "ein satz\n")
    over = {"decoders": {"lm": {"language_model": {"extra_text": str(path)}}}}
    return path, lambda: resolve(validate(merged(CONFIG, over)))


def started_from(kind: str, path: Path, **more: str) -> Plan:
    spec = {"kind": kind, "path": str(path), "language": "en", **more}
    source = {"corpus": None, "recipe": None, "checkpoint": "released"}
    over = {"checkpoints": {"released": spec}, "studies": {"freezing": {"source": source}}}
    return resolve(validate(merged(CONFIG, over)))


def tensorflow(folder: Path) -> tuple[Path, Callable[[], Plan]]:
    path = written(folder / "c" / "best.data-00000-of-00001", "weights")
    written(folder / "c" / "best.index", "index")
    return path, lambda: started_from("deepspeech-tf", folder / "c")


def nemo(folder: Path) -> tuple[Path, Callable[[], Plan]]:
    path = written(folder / "q.nemo", "weights")
    return path, lambda: started_from("nemo", path)


def jasper(folder: Path) -> tuple[Path, Callable[[], Plan]]:
    path = written(folder / "j" / "JasperDecoderForCTC-STEP-9.pt", "decoder")
    written(folder / "j" / "JasperEncoder-STEP-9.pt", "encoder")
    return path, lambda: started_from("jasper", folder / "j")


CORPORA = [table, manifest, common_voice, archive, swiss, union]
CHECKPOINTS = [tensorflow, nemo, jasper]
OF_CORPUS = {"mine", "mine-deepspeech", "mine-3gram"}


def changed(path: Path, plan: Callable[[], Plan]) -> set[str]:
    """Names, without hashes, of what another byte in a file makes anew."""
    before = plan()
    path.write_text(path.read_text() + "\n")
    after = plan()
    names = (made(after) | after.checkpoints.keys()) - (made(before) | before.checkpoints.keys())
    return {name.rsplit("-", 1)[0] for name in names}


@pytest.mark.parametrize("kind", CORPORA)
def test_an_edited_table_makes_its_corpus_and_all_that_follows_anew(kind: Any, tmp_path: Path) -> None:
    names = changed(*kind(tmp_path))
    assert names >= OF_CORPUS
    assert all(name.startswith("mine") for name in names)
    assert {f"mine-deepspeech-{treatment}-s1" for treatment in ("scratch", "frozen-0", "frozen-2")} <= names


def test_an_edited_text_makes_the_language_models_and_what_is_decoded_with_them(tmp_path: Path) -> None:
    names = changed(*text(tmp_path))
    assert {name for name in names if not name.endswith("-lm")} == {"english-3gram", "german-3gram"}
    assert len(names) == 2 + 4


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_other_weights_make_the_checkpoint_and_what_starts_from_it_anew(kind: Any, tmp_path: Path) -> None:
    runs = [f"german-deepspeech-{treatment}-s1" for treatment in ("frozen-0", "frozen-2")]
    assert changed(*kind(tmp_path)) == {"released", *runs, *(f"{run}-{d}" for run in runs for d in ("greedy", "lm"))}


@pytest.mark.parametrize("kind", [*CORPORA, text, *CHECKPOINTS])
def test_a_touch_makes_nothing(kind: Any, tmp_path: Path) -> None:
    path, plan = kind(tmp_path)
    before = plan()
    os.utime(path, (1, 1))
    after = plan()
    assert made(after) == made(before)
    assert after.checkpoints.keys() == before.checkpoints.keys()


def test_a_checkpoint_is_known_by_its_checksum_given_or_computed_wherever_it_lies(tmp_path: Path) -> None:
    path, plan = tensorflow(tmp_path)
    (moved := tmp_path / "elsewhere").mkdir()
    shutil.copytree(path.parent, moved, dirs_exist_ok=True)
    found = contents.sha256([path.with_name("best.index"), path])
    given = started_from("deepspeech-tf", moved, sha256=found)
    assert plan().checkpoints.keys() == started_from("deepspeech-tf", moved).checkpoints.keys()
    assert plan().checkpoints.keys() == given.checkpoints.keys()


def test_the_files_that_the_rules_wait_for(tmp_path: Path) -> None:
    path, plan = manifest(tmp_path)
    source = next(one for one in plan().sources.values() if one.name == "mine").spec.source
    assert set(contents.source_inputs(source, "de")) == {path, path.with_name("test.jsonl")}
    path.unlink()  # what is missing is said by the reader of the corpus, not by Snakemake
    assert contents.source_inputs(source, "de") == [path.with_name("test.jsonl")]


def test_large_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(contents, "SETTLED", 0)
    path = tmp_path / "large.txt"
    path.write_bytes(b"x" * (contents.SMALL + 1))
    reads = []
    monkeypatch.setattr(
        contents, "_read", lambda paths: f"read {len(reads)}" if reads.append(paths) else str(len(reads))
    )

    def digest() -> str:
        contents._sha256.cache_clear()  # as in another process
        return contents.sha256([path])

    assert [digest(), digest()] == ["1", "1"]
    os.utime(path, (1, 1))
    assert digest() == "2"
    contents.CACHE.write_text("broken")
    assert digest() == "3"
    path.write_bytes(b"x")  # small ones are read each time
    assert [digest(), digest()] == ["4", "5"]
