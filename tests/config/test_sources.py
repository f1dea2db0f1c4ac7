"""Where a corpus comes from, as a config says it: files are there, identities hold, the shipped configs resolve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thaw.config.load import load, merged, read_yaml, validate, with_includes
from thaw.errors import UserError
from thaw.planning.corpora import Corpus
from thaw.planning.plan import resolve
from thaw.planning.showing import corpus_row

PROMPTS = Path("config/prompts.yaml")


def german(source: dict[str, Any], **over: Any) -> Corpus:
    """The default config's German corpus with another source."""
    raw = with_includes(read_yaml(Path("config/config.yaml")))
    raw["corpora"]["german"]["source"] = source
    plan = resolve(validate(merged(raw, over)))
    return next(corpus for corpus in plan.sources.values() if corpus.name == "german")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"kind": "table", "path": "no.tsv"}, "source.path: no.tsv: no such"),
        ({"kind": "table", "splits": {"train": "no.tsv"}}, "source.splits.train: no.tsv: no such"),
        ({"kind": "table", "path": "README.md", "audio": "no"}, "source.audio: no: no such"),
        ({"kind": "prompts", "voice": "es", "path": "no"}, "source.path: no: no such"),
        ({"kind": "union", "parts": {"a": {"kind": "manifest", "path": "no"}}}, "source.parts.a.path: no: no such"),
        ({"kind": "table", "pth": "x"}, "did you mean 'path'"),
        ({"kind": "union", "parts": {"a": {"kind": "prompts", "voic": "es"}}}, "did you mean 'voice'"),
        ({"kind": "commonvoice"}, "give either path"),
        ({"kind": "librispeech", "splits": {"train": ["train-dirty"]}}, "train-clean-100"),
    ],
)
def test_a_mistake_is_named_with_its_place(source: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        german(source)
    assert "corpora.german.source" in str(caught.value)
    assert said in str(caught.value)


def test_identities() -> None:
    """Golden: what is written out at its default, and where archives lie, changes nothing."""
    plain = german({"kind": "librispeech"})
    assert plain.source_hash == "fdae4111f6"
    written = {"kind": "librispeech", "path": "", "shards": 16, "splits": {"dev": ["dev-clean"]}}
    written["splits"] = {"test": ["test-clean"], "dev": ["dev-clean"], "train": ["train-clean-100"]}
    assert german(written, execution={"mirror": "/shared"}).source_hash == plain.source_hash
    assert german({"kind": "mls", "language": "german"}).source_hash != plain.source_hash


def test_jobs_of_a_union_are_those_of_its_parts() -> None:
    synthetic = with_includes(read_yaml(Path("config/config.yaml")))["corpora"]["german"]["source"]  # 340 clips
    union = {"kind": "union", "parts": {"a": {"kind": "prompts", "voice": "es", "shards": 2}, "b": synthetic}}
    assert german(union).shards == 3


def test_the_prompts_config_resolves_without_any_data() -> None:
    plan = resolve(load([PROMPTS]))
    assert len(plan.runs) == (1 + 4 * 8) + (1 + 2 * 6)
    rows = {row.name: row for row in map(corpus_row, plan.manifests.values())}
    assert rows["russian"].licence == "CC BY 3.0"
    assert "synthesised" in rows["english"].licence
    assert all(row.citation for row in rows.values())


@pytest.mark.parametrize(
    ("name", "runs"), [("prompts-topdown", 3 * 6 + 5), ("prompts-multilingual", 1 + 2 * (4 * 3 + 1))]
)
def test_the_other_studies_of_prompts_resolve_without_any_data(name: str, runs: int) -> None:
    assert len(resolve(load([Path(f"config/{name}.yaml")])).runs) == runs


def test_the_digits_config_wants_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").symlink_to(PROMPTS.parent.absolute())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^config: corpora\.digits\.source\.path: data/digits/digits\.tsv: no such"):
        load([Path("config/digits.yaml")])
    Path("data/digits").mkdir(parents=True)
    Path("data/digits/digits.tsv").touch()
    plan = resolve(load([Path("config/digits.yaml")]))
    assert {run.manifest.corpus.name for run in plan.runs.values()} == {"digits", "spanish"}
    assert plan.lms == {}
