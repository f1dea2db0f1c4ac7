"""The file of an alignment: a tied state (pdf) for every frame of every utterance of a manifest, and the phones said.

A safetensors file of run lengths: utterances one after another, each a stretch of runs. U utterances, R runs of
states, P runs of phones:

    ids            bytes   the ids in the manifest's order, one a line, UTF-8
    frames         (U,)    T of each utterance (`frames.frames_of` its samples)
    runs           (U,)    how many runs of states each has; their frames add up to T
    states         (R,)    the state of each run, 0 … num_states - 1
    state_frames   (R,)    its length in frames, at least 1
    phone_runs     (U,)    the same of phones; a run is one phone said once
    phones         (P,)    a phone's number: its place in `phones` of the metadata
    phone_frames   (P,)

Its metadata say of which manifest it is, by digest: an alignment older than its manifest is refused.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.errors import UserError
from thaw.tensors import load_arrays

VERSION = 1
TENSORS = ("ids", "frames", "runs", "states", "state_frames", "phone_runs", "phones", "phone_frames")
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Aligned:
    """One utterance: its runs of states and of phones, as (number, frames) pairs."""

    states: tuple[tuple[int, int], ...]
    phones: tuple[tuple[int, int], ...] = ()

    @property
    def frames(self) -> int:
        """T."""
        return sum(length for _, length in self.states)


@dataclass(frozen=True)
class Inventory:
    """What the numbers mean: the phones by number, and how many tied states there are."""

    num_states: int
    phones: tuple[str, ...] = ()


class Alignment(Mapping[str, Ints]):
    """id -> states (T,) int32, for the utterances that could be aligned, in the manifest's order."""

    def __init__(self, path: Path, tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> None:
        self.path = path
        self.meta = meta
        self.inventory = Inventory(meta["num_states"], tuple(meta["phones"]))
        self._tensors = tensors
        self._ids = _ids(tensors)
        self._place = {id: number for number, id in enumerate(self._ids)}
        self._ends = {name: np.cumsum(tensors[name], dtype=np.int64) for name in ("runs", "phone_runs")}

    @property
    def num_states(self) -> int:
        """How many tied states the model has that aligned it; an output layer has one class for each."""
        return self.inventory.num_states

    def __getitem__(self, id: str) -> Ints:
        states, lengths = self._runs(id, "runs", "states", "state_frames")
        return np.repeat(states, lengths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def phones(self, id: str) -> list[tuple[str, int]]:
        """The phones of an utterance in order, each with its length in frames."""
        phones, lengths = self._runs(id, "phone_runs", "phones", "phone_frames")
        names = self.inventory.phones
        return [(names[phone], int(length)) for phone, length in zip(phones, lengths, strict=True)]

    def counts(self) -> NDArray[np.int64]:
        """(num_states,): frames of each state; priors are these, plus one each, by their sum."""
        total = np.zeros(self.num_states, np.int64)
        np.add.at(total, self._tensors["states"].astype(np.int64), self._tensors["state_frames"].astype(np.int64))
        return total

    def _runs(self, id: str, runs: str, values: str, lengths: str) -> tuple[Ints, Ints]:
        place = self._place[id]
        end = int(self._ends[runs][place])
        cut = slice(end - int(self._tensors[runs][place]), end)
        return self._tensors[values][cut].astype(np.int32), self._tensors[lengths][cut].astype(np.int32)


def write_alignment(
    path: Path, rows: Iterable[tuple[str, Aligned]], inventory: Inventory, manifest: Path, meta: Mapping[str, Any]
) -> None:
    """Write the alignment of `manifest`: rows of (id, runs), in its order. `meta` is plain.

    Rows are gone through once, and held as numbers alone. The same content gives the same bytes.
    """
    import torch

    from thaw.corpora.manifest import manifest_sha256
    from thaw.models.store import save_tensors

    ids: list[str] = []
    columns = {name: array("i") for name in TENSORS[1:]}
    for id, row in rows:
        ids.append(id)
        columns["frames"].append(row.frames)
        for count, values, lengths, runs in (
            ("runs", "states", "state_frames", row.states),
            ("phone_runs", "phones", "phone_frames", row.phones),
        ):
            columns[count].append(len(runs))
            columns[values].extend(value for value, _ in runs)
            columns[lengths].extend(length for _, length in runs)
    tensors = {name: torch.from_numpy(np.array(column, np.int32)) for name, column in columns.items()}
    tensors["ids"] = torch.from_numpy(np.frombuffer("\n".join(ids).encode(), np.uint8).copy())
    what = {
        "alignment": VERSION,
        "manifest_sha256": manifest_sha256(manifest),
        "num_states": inventory.num_states,
        "phones": list(inventory.phones),
    }
    save_tensors(path, tensors, {**meta, **what})


def read_alignment(path: Path, manifest: Path | None = None) -> Alignment:
    """Read an alignment; with `manifest`, check that it is one of that manifest as it stands now.

    UserError where the file is missing, damaged, none of thaw's, or where the manifest was made anew since.
    """
    tensors, meta = load_arrays(path)
    if meta.get("alignment") != VERSION or set(tensors) != set(TENSORS) or not _consistent(tensors, meta):
        raise UserError(f"{path}: not an alignment of this version of thaw; run the `align` rule")
    if manifest is not None:
        from thaw.corpora.manifest import manifest_sha256

        if meta["manifest_sha256"] != manifest_sha256(manifest):
            raise UserError(f"{path}: not an alignment of {manifest} as it is now; run the `align` rule again")
    return Alignment(path, tensors, meta)


def _ids(tensors: Mapping[str, NDArray[Any]]) -> list[str]:
    text = bytes(tensors["ids"]).decode()
    return text.split("\n") if text else []


def _consistent(tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> bool:
    """Whether all runs are accounted for, and no state or phone lies outside the inventory."""
    try:
        inside = all(
            not len(tensors[name]) or (tensors[name].min() >= 0 and tensors[name].max() < limit)
            for name, limit in (("states", meta["num_states"]), ("phones", len(meta["phones"])))
        )
        runs = [("runs", "states", "state_frames"), ("phone_runs", "phones", "phone_frames")]
        whole = all(
            int(tensors[count].sum()) == len(tensors[values]) == len(tensors[lengths])
            for count, values, lengths in runs
        )
        same = len(_ids(tensors)) == len(tensors["runs"]) == len(tensors["phone_runs"])
        return inside and whole and same and int(tensors["frames"].sum()) == int(tensors["state_frames"].sum())
    except (KeyError, TypeError, ValueError):
        return False
