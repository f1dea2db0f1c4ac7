"""The files of a pass of a model over a split: emissions, which any number of decoders search without the model.

In the folder of a pass lie

    emissions.json       what made them, of which manifests, how long it took: written last
    labels.jsonl         of each utterance, the labels of its best path: all that greedy decoding needs
    scores.safetensors   log-probabilities, where a decoder asks for them
    dev.safetensors      the same of dev, where one is tuned on it

The last two hold, of U utterances with N frames in all (an utterance has T of them) and V classes,

    frames   (U,)     T of each
    scores   (N, V)   natural log-probabilities, float32: the bits that the model gave, so searches find the same

and in their metadata the ids, in the same order. They are written utterance by utterance and read through a memory map:
neither side holds them all, which no writer of safetensors offers.

Shapes: U utterances, T frames, N frames of all utterances, V classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from thaw.canonical import canonical_json
from thaw.corpora.manifest import Utterance, manifest_sha256
from thaw.decoding.rows import read_utterances
from thaw.errors import UserError
from thaw.files import read_json, read_jsonl, replacing, verify
from thaw.units import EVERY, Units, units_from

VERSION = 1
LABELS, SCORES, DEV = "labels.jsonl", "scores.safetensors", "dev.safetensors"
METADATA = "thaw"
DIGITS = 20  # of a number of bytes or frames: room in a header that is written before they are known

LogProbs = NDArray[np.float32]


@dataclass(frozen=True)
class Pass:
    """What the record of a folder says."""

    folder: Path
    record: dict[str, Any]

    @property
    def units(self) -> Units:
        """Of the head that answered."""
        return units_from({"units": self.record["units"]})[EVERY]

    def utterances(self, manifest: Path, which: str = "split") -> list[Utterance]:
        """The utterances of a manifest that this was a pass over (`which`: split or dev); UserError where not."""
        if self.record["manifests"].get(which) != manifest_sha256(manifest):
            raise UserError(f"{self.folder}: not emissions of {manifest} as it is now; run the `emit` rule again")
        return read_utterances(manifest)

    def labels(self, utterances: Iterable[Utterance]) -> dict[str, list[int]]:
        """id -> the labels of its best path; UserError where the file holds those of others, or something else."""
        path = self.folder / LABELS
        try:
            found = {row["id"]: list(row["labels"]) for row in read_jsonl(path)}
        except (KeyError, TypeError) as error:
            raise UserError(f"{path}: not written by `thaw emit` ({error!r}); run the `emit` rule again") from error
        if found.keys() != {utterance.id for utterance in utterances}:
            raise UserError(f"{path}: best paths of other utterances; run the `emit` rule again")
        return found


def read_pass(path: Path) -> Pass:
    """A record, beside which the other files lie; UserError where it is none of this version of thaw."""
    record = read_json(path)
    keys = {"units", "manifests", "passes", "environment", "cost"}
    if not isinstance(record, dict) or record.get("emissions") != VERSION or not keys <= record.keys():
        raise UserError(f"{path}: not the record of emissions of this version of thaw; run the `emit` rule")
    return Pass(path.parent, record)


def write_scores(path: Path, ids: Sequence[str], classes: int, scores: Iterable[LogProbs]) -> None:
    """Write log-probabilities (T, V) of utterances, those of `ids` in their order, whole or not at all."""
    about = {"emissions": VERSION, "ids": list(ids)}
    size = len(_header(about, len(ids), 0, classes)) + 3 * DIGITS
    frames = np.zeros(len(ids), np.int32)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.seek(8 + size + frames.nbytes)
        for place, (_, each) in enumerate(zip(ids, scores, strict=True)):
            frames[place] = len(each)
            file.write(np.ascontiguousarray(each, np.float32).tobytes())
        header = _header(about, len(ids), int(frames.sum()), classes).ljust(size)
        file.seek(0)
        file.write(size.to_bytes(8, "little") + header + frames.tobytes())


def _header(about: Mapping[str, Any], utterances: int, frames: int, classes: int) -> bytes:
    """The JSON of a safetensors file; blanks may follow it."""
    end = 4 * utterances
    tensors = {
        "__metadata__": {METADATA: canonical_json(dict(about))},
        "frames": {"dtype": "I32", "shape": [utterances], "data_offsets": [0, end]},
        "scores": {"dtype": "F32", "shape": [frames, classes], "data_offsets": [end, end + 4 * frames * classes]},
    }
    return canonical_json(tensors).encode()


class Scored(Protocol):
    """Utterances with their log-probabilities (T, V)."""

    utterances: list[Utterance]

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> tuple[Utterance, LogProbs]: ...


class Held:
    """The same in memory."""

    def __init__(self, pairs: Iterable[tuple[Utterance, LogProbs]]) -> None:
        self._pairs = list(pairs)
        self.utterances = [utterance for utterance, _ in self._pairs]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, place: int, /) -> tuple[Utterance, LogProbs]:
        return self._pairs[place]


class Scores:
    """The same in a file: each is read when it is asked for. In the order of the file, by length."""

    def __init__(self, path: Path, utterances: Iterable[Utterance]) -> None:
        """UserError where the file is missing, damaged, none of thaw's, or of other utterances."""
        if not path.is_file():
            raise UserError(f"{path}: no such file; the `emit` rule makes it")
        verify(path)
        try:
            opened: Any = safe_open(path, framework="np")
            about = json.loads((opened.metadata() or {})[METADATA])
            frames: NDArray[np.int32] = opened.get_tensor("frames")
            self._scores = opened.get_slice("scores")
            self._classes = self._scores.get_shape()[1]
            ids, version = about["ids"], about["emissions"]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not emissions of thaw ({error}); run the `emit` rule again") from error
        known = {utterance.id: utterance for utterance in utterances}
        if version != VERSION or len(ids) != len(frames) or known.keys() != set(ids):
            raise UserError(f"{path}: emissions of other utterances or another version; run the `emit` rule again")
        self.utterances = [known[id] for id in ids]
        self._frames, self._ends = frames, np.cumsum(frames, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, place: int, /) -> tuple[Utterance, LogProbs]:
        end, count = int(self._ends[place]), int(self._frames[place])
        scores = self._scores[end - count : end] if count else np.zeros((0, self._classes), np.float32)
        return self.utterances[place], scores
