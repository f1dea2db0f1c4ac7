"""The state folder of one training: what a killed, stopped or finished training leaves for the next start.

    DIR/<key>/
      recipe.json              what is trained here, for people
      checkpoint-{0,1}.safetensors   the last two checkpoints; each write replaces the older one
      best-<epoch>-model.safetensors, best-<epoch>-optimizer.safetensors
      snapshot-<name>.safetensors    other weights that the recipe keeps
      metrics.jsonl, progress.json   for people and `thaw runs`
      attempts.json            how often a training started here, and from where
      FAILED_PERMANENT         why another start would fail as well
      result/                  the finished outputs; with it, a start only copies them

Weights are sealed (`thaw.files`) and checkpoints hold a checksum of their own; both are checked on reading, and what
fails is not used: a training goes back to the checkpoint before, and a finished one says what to delete.

The key is drawn from the recipe and the contents of all inputs, so that an edit of either never meets old state.
A checkpoint names its best epoch, and the best epoch's files are written first: a crash between the two loses nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from thaw.canonical import canonical_json, digest, file_sha256
from thaw.config.run import RunRecipe
from thaw.config.strict import semantic
from thaw.corpora.manifest import manifest_sha256
from thaw.errors import Unfinished, UserError
from thaw.files import copy, read_json, remove, replacing, sync_folder, verify, write_json, write_text
from thaw.models.store import load_tensors, save_tensors, write_tensors

SLOTS = 2
MANIFESTS = ("train", "dev")  # roles of inputs
IDLE_STARTS = 3  # starts from one position without a step of progress before something must be wrong


def state_key(recipe: RunRecipe, inputs: Mapping[str, Sequence[Path]]) -> str:
    """The name of a training's state: recipe without defaults + SHA-256 of every input, by role.

    Of manifests what they say counts, of other files all bytes. Manifests hold a digest of each clip's
    samples, so audio is covered through them. Raises UserError where an input file is missing.
    """
    missing = [str(path) for paths in inputs.values() for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{', '.join(missing)}: no such file")
    hashes = {
        role: [manifest_sha256(path) if role in MANIFESTS else file_sha256(path) for path in paths]
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
        self.held: tuple[int, int] | None = None  # the lock's file, once a training has begun

    def sweep(self) -> None:
        """Delete half-written files of processes that were killed."""
        _sweep(self.path, "")

    # --- checkpoints --------------------------------------------------------------------------

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint over the older of the two kept ones, then drop best epochs that neither names.

        UserError where it cannot be written, or where the folder was deleted or replaced since the training began.
        """
        self.check_here()
        facts = {**checkpoint.facts, "number": self.next_number}
        facts["digest"] = _fingerprint(checkpoint.tensors, facts)
        try:
            with replacing(self._slot(self.next_number), sealed=False) as temporary:
                write_tensors(temporary, checkpoint.tensors, {"thaw": canonical_json(facts)})
        except UserError as error:
            before = "from the checkpoint before" if self.next_number else "anew"
            raise UserError(f"{error}; mend that and start again: the training goes on {before}") from error
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
                except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, TypeError, UserError) as error:
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
        for each in self.best_paths(int(best["epoch"])) if best else ():
            verify(each)
        for snapshot in facts.get("snapshots", ()):
            if not self.snapshot_path(snapshot).exists():
                raise ValueError(f"its snapshot {snapshot} is missing")
            verify(self.snapshot_path(snapshot))
        return Checkpoint(tensors, facts)

    def _slot(self, number: int) -> Path:
        return self.path / f"checkpoint-{number % SLOTS}.safetensors"

    # --- best epochs --------------------------------------------------------------------------

    def best_paths(self, epoch: int) -> tuple[Path, Path]:
        """Where the model and the optimiser of a best epoch live."""
        return self.path / f"best-{epoch}-model.safetensors", self.path / f"best-{epoch}-optimizer.safetensors"

    def snapshot_path(self, snapshot: str) -> Path:
        """Where the weights of a snapshot live that the recipe wants kept."""
        return self.path / f"snapshot-{snapshot}.safetensors"

    def _drop_old_bests(self) -> None:
        named: set[Path] = set()
        for slot in range(SLOTS):
            if self._slot(slot).exists():
                try:
                    with safe_open(self._slot(slot), framework="pt") as file:
                        best = json.loads(file.metadata()["thaw"]).get("best")
                except (SafetensorError, OSError, ValueError, KeyError, TypeError):
                    continue  # an unreadable checkpoint names nothing that could still be used
                named.update(self.best_paths(int(best["epoch"])) if best else ())
        for path in self.path.glob("best-*.safetensors"):
            if path not in named:
                remove(path)

    # --- attempts and failures ----------------------------------------------------------------

    def open_attempt(self, position: Sequence[int], say: Callable[[str], None] = print) -> int:
        """Count a start from `position` and return how many there were, this one included.

        Raises UserError after IDLE_STARTS starts from the same position: none of them made any progress. The count
        of those then begins anew, so that a mended training can be started again.
        """
        path = self.path / "attempts.json"
        old = self._attempts(path, say)
        self.held = self._lock_file()
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

    def _attempts(self, path: Path, say: Callable[[str], None]) -> dict[str, Any]:
        none: dict[str, Any] = {"total": 0, "position": None, "idle": 0}
        try:
            old = {**none, **read_json(path)} if path.exists() else none
            return {"total": int(old["total"]), "position": old["position"], "idle": int(old["idle"])}
        except (UserError, TypeError, ValueError) as error:
            say(f"warning: {path.name} cannot be read ({error}); starts are counted anew")
            remove(path)
            return none

    def close_attempt(self) -> None:
        """Note that this start ended by itself: only starts that were killed count as made in vain."""
        path = self.path / "attempts.json"
        if self.held == self._lock_file():
            write_json(path, {**self._attempts(path, lambda text: None), "idle": 0})

    def check_here(self) -> None:
        """Raise UserError where the folder that this training holds was deleted, or is another one by now."""
        if self.held != self._lock_file() and self.held:
            raise UserError(f"{self.path}: deleted while this training was at work in it; start again, to train anew")

    def _lock_file(self) -> tuple[int, int] | None:
        try:
            found = (self.path / "lock").stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def check_failed(self) -> None:
        """Raise UserError where an earlier start found that no further start can succeed."""
        marker = self.path / "FAILED_PERMANENT"
        if marker.exists():
            try:
                reason = marker.read_text(encoding="utf-8", errors="replace").strip()
            except OSError as error:
                reason = f"its marker cannot be read ({error.strerror})"
            raise UserError(f"failed before, and would again: {reason} (to try all the same, delete {marker})")

    def fail(self, reason: str) -> NoReturn:
        """Leave the marker that stops retries, and raise UserError."""
        write_text(self.path / "FAILED_PERMANENT", reason + "\n")
        raise UserError(reason)

    # --- the finished training ----------------------------------------------------------------

    @property
    def result(self) -> Path:
        """The folder of the finished outputs; it exists only once they are complete and on the disk."""
        return self.path / "result"

    def finish(self, best_epoch: int, record: dict[str, Any], snapshots: Sequence[str] | None = None) -> None:
        """Gather the outputs in `result`, then delete what only an unfinished training needs.

        `snapshots`, where the recipe keeps any, are joined into one file. Raises Unfinished where the files of weights
        are not what was written: the next start goes back to the last checkpoint that is whole.
        """
        self.check_here()
        draft = self.path / "result.part"
        remove(draft)
        draft.mkdir()
        for source, name in zip(
            self.best_paths(best_epoch), ("model.safetensors", "optimizer.safetensors"), strict=True
        ):
            try:
                copy(source, draft / name)
            except UserError as error:
                raise Unfinished(f"{error}; the same command goes back to the last checkpoint that is whole") from error
        write_text(draft / "model.sha256", file_sha256(draft / "model.safetensors") + "\n")
        if snapshots is not None:
            self._join(snapshots, draft / "snapshots.safetensors")
            write_text(draft / "snapshots.sha256", file_sha256(draft / "snapshots.safetensors") + "\n")
        copy(self.path / "metrics.jsonl", draft / "metrics.jsonl")
        write_json(draft / "run.json", record)
        sync_folder(draft)
        draft.replace(self.result)
        sync_folder(self.path)
        weights = [path for kind in ("checkpoint", "best", "snapshot") for path in self.path.glob(f"{kind}-*")]
        for path in (*weights, self.path / "attempts.json"):
            remove(path)

    def _join(self, snapshots: Sequence[str], target: Path) -> None:
        """One file of several snapshots: tensors are named <snapshot>/<name>, its metadata says the epoch of each."""
        tensors: dict[str, Tensor] = {}
        epochs, meta = dict[str, int](), dict[str, Any]()
        for snapshot in snapshots:
            try:
                its, meta = load_tensors(self.snapshot_path(snapshot))
            except UserError as error:
                raise Unfinished(f"{error}; the same command goes back to the last checkpoint that is whole") from error
            epochs[snapshot] = meta.pop("epoch")
            tensors |= {f"{snapshot}/{name}": tensor for name, tensor in its.items()}
        save_tensors(target, tensors, {**meta, "snapshots": epochs})

    def deliver(self, outputs: Mapping[str, Path]) -> None:
        """Copy the finished outputs, by their names in `result`, to where they are wanted; sweep there.

        UserError where one of them is missing or not what was written, and none of them takes another's place then.
        """
        for name in outputs:
            try:
                if not (self.result / name).is_file():
                    raise UserError(f"{self.result / name}: no such file")
                verify(self.result / name)
            except UserError as error:
                cause = str(error).split(";")[0]
                raise UserError(f"{cause}; delete the folder {self.result}, and the training is done anew") from error
        for name, target in outputs.items():
            _sweep(target.parent, target.name)
            copy(self.result / name, target)


def _sweep(folder: Path, name: str) -> None:
    """Delete what killed processes had half written in a folder, of all files or of one."""
    for path in folder.glob(f".{name}*.part"):
        if f".{os.getpid()}." not in path.name:
            remove(path)


def _fingerprint(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """A checksum over names, shapes, bits and facts; a damaged disk block must not pass for weights."""
    total = hashlib.blake2b(canonical_json(facts).encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        total.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
