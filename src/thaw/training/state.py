"""The state folder of one training: what a killed, stopped or finished training leaves for the next start.

    DIR/<key>/
      recipe.json              what is trained here, for people
      checkpoint-{0,1}.safetensors   the last two checkpoints; each write replaces the older one
      best-<epoch>-model.safetensors, best-<epoch>-optimizer.safetensors
      metrics.jsonl, progress.json   for people and `thaw runs`
      attempts.json            how often a training started here, and from where
      FAILED_PERMANENT         why another start would fail as well
      result/                  the finished outputs; with it, a start only copies them

The key is drawn from the recipe and the contents of all inputs, so that an edit of either never meets old state.
A checkpoint names its best epoch, and the best epoch's files are written first: a crash between the two loses nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from thaw.canonical import canonical_json, digest, file_sha256
from thaw.config.models import semantic
from thaw.config.run import RunRecipe
from thaw.corpora.manifest import manifest_sha256
from thaw.errors import UserError
from thaw.files import read_json, replacing, write_json, write_text

SLOTS = 2
IDLE_STARTS = 3  # starts from one position without a step of progress before something must be wrong


def state_key(recipe: RunRecipe, inputs: Mapping[str, Sequence[Path]]) -> str:
    """The name of a training's state: recipe without defaults + SHA-256 of every input, by role.

    Of manifests (*.jsonl) what they say counts, of other files all bytes. Manifests hold a digest of each clip's
    samples, so audio is covered through them. Raises UserError where an input file is missing.
    """
    missing = [str(path) for paths in inputs.values() for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{', '.join(missing)}: no such file")
    hashes = {
        role: [manifest_sha256(path) if path.suffix == ".jsonl" else file_sha256(path) for path in paths]
        for role, paths in inputs.items()
    }
    return digest({"recipe": semantic(recipe), "inputs": hashes})


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name (on the CPU), and the plain facts (position, sums, metrics so far) that belong to them."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class StateFolder:
    """Reads and writes one training's state. Its owner holds `thaw.training.lock.exclusive` on `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next_number = 0

    def sweep(self) -> None:
        """Delete half-written files of processes that were killed."""
        for path in self.path.glob(".*.part"):
            if f".{os.getpid()}." not in path.name:
                path.unlink(missing_ok=True)

    # --- checkpoints --------------------------------------------------------------------------

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint over the older of the two kept ones, then drop best epochs that neither names."""
        facts = {**checkpoint.facts, "number": self.next_number}
        facts["digest"] = _fingerprint(checkpoint.tensors, facts)
        with replacing(self._slot(self.next_number)) as temporary:
            save_file(checkpoint.tensors, temporary, {"thaw": canonical_json(facts)})
        self.next_number += 1
        self._drop_old_bests()

    def load(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest readable checkpoint (None where there is none), and a warning for each unreadable one."""
        found, warnings = [], []
        for slot in range(SLOTS):
            path = self._slot(slot)
            if path.exists():
                try:
                    found.append(self._read(path))
                except (SafetensorError, OSError, RuntimeError, ValueError, KeyError) as error:
                    warnings.append(f"{path.name} cannot be read ({error}); going on without it")
        if not found:
            return None, warnings
        newest = max(found, key=lambda checkpoint: int(checkpoint.facts["number"]))
        # The next write must hit the other slot: this one is the only one known to be good.
        self.next_number = int(newest.facts["number"]) + 1
        return newest, warnings

    def _read(self, path: Path) -> Checkpoint:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["thaw"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        stored = facts.pop("digest")
        if stored != _fingerprint(tensors, facts):
            raise ValueError("its checksum is wrong")
        best = facts.get("best")
        if best and not all(path.exists() for path in self.best_paths(int(best["epoch"]))):
            raise ValueError(f"its best epoch's files are missing: {best['epoch']}")
        return Checkpoint(tensors, facts)

    def _slot(self, number: int) -> Path:
        return self.path / f"checkpoint-{number % SLOTS}.safetensors"

    # --- best epochs --------------------------------------------------------------------------

    def best_paths(self, epoch: int) -> tuple[Path, Path]:
        """Where the model and the optimiser of a best epoch live."""
        return self.path / f"best-{epoch}-model.safetensors", self.path / f"best-{epoch}-optimizer.safetensors"

    def _drop_old_bests(self) -> None:
        named: set[Path] = set()
        for slot in range(SLOTS):
            if self._slot(slot).exists():
                try:
                    with safe_open(self._slot(slot), framework="pt") as file:
                        best = json.loads(file.metadata()["thaw"]).get("best")
                except SafetensorError:
                    continue  # an unreadable checkpoint names nothing that could still be used
                named.update(self.best_paths(int(best["epoch"])) if best else ())
        for path in self.path.glob("best-*.safetensors"):
            if path not in named:
                path.unlink(missing_ok=True)

    # --- attempts and failures ----------------------------------------------------------------

    def open_attempt(self, position: Sequence[int]) -> int:
        """Count a start from `position` and return how many there were, this one included.

        Raises UserError after IDLE_STARTS starts from the same position: none of them made any progress. The count
        of those then begins anew, so that a mended training can be started again.
        """
        path = self.path / "attempts.json"
        old: dict[str, Any] = read_json(path) if path.exists() else {"total": 0, "position": None, "idle": 0}
        idle = old["idle"] if old["position"] == list(position) else 0
        if idle >= IDLE_STARTS:
            write_json(path, {**old, "idle": 0})
            raise UserError(
                f"{self.path}: {idle} starts in a row were killed before the first step after epoch {position[0]}, "
                f"batch {position[1]} was saved; look for lack of memory or a time limit shorter than a checkpoint "
                "interval, then start again"
            )
        total = int(old["total"]) + 1
        write_json(path, {"total": total, "position": list(position), "idle": idle + 1})
        return total

    def check_failed(self) -> None:
        """Raise UserError where an earlier start found that no further start can succeed."""
        marker = self.path / "FAILED_PERMANENT"
        if marker.exists():
            reason = marker.read_text(encoding="utf-8").strip()
            raise UserError(f"failed before, and would again: {reason} (to try all the same, delete {marker})")

    def fail(self, reason: str) -> NoReturn:
        """Leave the marker that stops retries, and raise UserError."""
        write_text(self.path / "FAILED_PERMANENT", reason + "\n")
        raise UserError(reason)

    # --- the finished training ----------------------------------------------------------------

    @property
    def result(self) -> Path:
        """The folder of the finished outputs; it exists only once they are complete."""
        return self.path / "result"

    def finish(self, best_epoch: int, record: dict[str, Any]) -> None:
        """Gather the outputs in `result`, then delete what only an unfinished training needs."""
        draft = self.path / "result.part"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        model, optimizer = self.best_paths(best_epoch)
        for source, name in ((model, "model.safetensors"), (optimizer, "optimizer.safetensors")):
            shutil.copyfile(source, draft / name)
        write_text(draft / "model.sha256", file_sha256(model) + "\n")
        shutil.copyfile(self.path / "metrics.jsonl", draft / "metrics.jsonl")
        write_json(draft / "run.json", record)
        draft.replace(self.result)
        for path in (*self.path.glob("checkpoint-*"), *self.path.glob("best-*"), self.path / "attempts.json"):
            path.unlink(missing_ok=True)

    def deliver(self, outputs: Mapping[str, Path]) -> None:
        """Copy the finished outputs, by their names in `result`, to where they are wanted."""
        for name, target in outputs.items():
            with replacing(target) as temporary:
                shutil.copyfile(self.result / name, temporary)


def _fingerprint(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """A checksum over names, shapes, bits and facts; a damaged disk block must not pass for weights."""
    total = hashlib.blake2b(canonical_json(facts).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        total.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
