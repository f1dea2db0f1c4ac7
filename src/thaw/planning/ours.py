"""What under the folders of results is thaw's own: the one place that decides it, for all that deletes.

A name proves nothing: people name folders by date, copy them, and keep notes beside results. A folder is thaw's where
its name ends in a hash, it holds the record that the verb which made it wrote, and it holds nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.canonical import canonical_json, digest
from thaw.files import json_object
from thaw.planning import layout

HASH = re.compile(r"[a-z0-9-]+-(?P<hash>[0-9a-f]{10})")
REFUSED = "refused"  # of `thaw train`, beside the states of a run
FEATURES = re.compile(r"store\.json|[0-9a-f]{16}\.(features|index)")  # see `thaw.training.store`
KEY = re.compile(r"[0-9a-f]{10}")  # of one state of a run
# What an interrupted write leaves (`thaw.files.replacing`), and the seals of files.
BESIDE = re.compile(r"\..+\.[0-9]+\.part|\..+\.sha256|\.snakemake_timestamp")


@dataclass(frozen=True)
class _Kind:
    """What lies in a folder of one kind: its files, which of them is the record, and keys that this has."""

    files: re.Pattern[str]
    record: str
    keys: tuple[str, ...]


def _kind(files: str, record: str, *keys: str) -> _Kind:
    return _Kind(re.compile(files), record, keys)


_MODEL = r"(model|optimizer|snapshots)\.(safetensors|sha256)"
KINDS = {
    layout.RUNS: _kind(rf"{_MODEL}|run\.json|metrics\.jsonl", "run.json", "recipe", "cost"),
    layout.CHECKPOINTS: _kind(rf"{_MODEL}|checkpoint\.json", "checkpoint.json", "checkpoint", "sha256"),
    layout.EMISSIONS: _kind(
        r"emissions\.json|labels\.jsonl|(scores|dev)\.safetensors", "emissions.json", "emissions", "units"
    ),
    layout.DECODES: _kind(r"hypotheses\.jsonl|decode\.json", "decode.json", "decoder"),
    layout.SCORES: _kind(r"scores\.json|counts\.jsonl", "scores.json", "scoring"),
    layout.PROBES: _kind(r"(rows|counts|hypotheses)\.jsonl|probe\.json", "probe.json", "probe"),
    layout.EVIDENCE: _kind(r"evidence\.json", "evidence.json", "evidence", "scores"),
    layout.PARTS: _kind(r"train\.jsonl", "train.jsonl", "id", "text_raw"),
    layout.LMS: _kind(r"lm\.(binary|json)|lexicon\.txt", "lm.json", "order"),
    layout.UNITS: _kind(r"(units|record)\.json", "record.json", "units", "labels"),
    layout.LEXICONS: _kind(r"lexicon\.(txt|json)", "lexicon.json", "lexicon"),
    layout.ALIGNMENTS: _kind(
        r"(gmm|train|dev|test)\.safetensors|rejects\.tsv|alignment\.json|state",
        "alignment.json",
        "alignment",
        "iterations",
    ),
    layout.GRAPHS: _kind(r"graph\.(fst|json)|words\.txt", "graph.json", "language_model", "num_states"),
    layout.MANIFESTS: _kind(
        r"(train|dev|test)\.jsonl|rejects\.tsv|counts\.json", "counts.json", "train", "dev", "test"
    ),
    layout.AUDIO: _kind(r"[0-9]+\.(wav|jsonl|rejects\.tsv)", "0.jsonl", "id", "digest"),
    layout.CORPORA: _kind(r"utterances\.jsonl|rejects\.tsv|source\.json|files", "source.json", "kind", "splits"),
}


def foreign(root: str, folder: Path) -> str:
    """Why a folder under `root`, one of KINDS, is not thaw's; empty where it is."""
    kind = KINDS[root]
    if not HASH.fullmatch(folder.name):
        return "its name does not end in a hash"
    if problem := _others(folder, lambda name: kind.files.fullmatch(name) is not None):
        return problem
    record = json_object(folder / kind.record)
    if root == layout.CORPORA and not record and "kind" in json_object(folder / "files" / "fetch.json"):
        return ""  # only its downloads are left, which have a record of their own (thaw.corpora.ownership)
    if not all(key in record for key in kind.keys):
        return f"it has no {kind.record} that thaw wrote"
    if root == layout.RUNS and _hash_of_full(record["recipe"]) not in ("", folder.name[-10:]):
        return f"its {kind.record} is that of another run"
    return ""


def foreign_state(folder: Path) -> str:
    """Why a folder of unfinished trainings is not thaw's; empty where each training in it is one of the run it names.

    It may lie outside `results`, anywhere: here the recipe itself must give the hash in the name.
    """
    match = HASH.fullmatch(folder.name)
    if not match:
        return "its name does not end in a hash"
    if problem := _others(folder, lambda name: name == REFUSED or bool(KEY.fullmatch(name))):
        return problem
    keys = [path for path in folder.iterdir() if KEY.fullmatch(path.name)]
    for key in keys:
        recipe = json_object(key / "recipe.json")
        if not recipe or digest(canonical_json(recipe)) != match["hash"]:
            return f"{key.name}/recipe.json is not the recipe of that run"
    return "" if keys else "it holds no training"


def foreign_features(folder: Path) -> str:
    """Why a folder of kept features, which may lie anywhere, is not thaw's; empty where it is."""
    match = HASH.fullmatch(folder.name)
    if not match:
        return "its name does not end in a hash"
    if problem := _others(folder, lambda name: FEATURES.fullmatch(name) is not None):
        return problem
    record = json_object(folder / "store.json")
    return "" if record and digest(record) == match["hash"] else "it has no store.json that thaw wrote"


def _others(folder: Path, known: Callable[[str], bool]) -> str:
    """What lies in a folder that thaw does not write there; empty where nothing does."""
    names = (path.name for path in sorted(folder.iterdir()))
    other = next((name for name in names if not known(name) and not BESIDE.fullmatch(name)), "")
    return f"it holds {other!r}, which thaw did not write" if other else ""


def _hash_of_full(recipe: Any) -> str:
    """The hash of a run, from its recipe with all defaults; empty for a recipe of another version of thaw."""
    from pydantic import ValidationError

    from thaw.config.run import RunRecipe
    from thaw.config.strict import semantic

    try:
        return digest(canonical_json(semantic(RunRecipe.model_validate(recipe))))
    except ValidationError:
        return ""
