"""Manifests: what training and decoding read. JSON Lines, one utterance a line, NeMo's keys, sorted by id.

Every listed utterance ends in exactly one manifest row or one reject row; `build` checks that it did.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from thaw.audio.listing import Clip, read_listing
from thaw.audio.wav import SAMPLE_RATE, Pcm, check_shard, clip_digest, is_shard, not_ours, read_pcm
from thaw.canonical import canonical_json
from thaw.config.models import ModelSpec, room
from thaw.config.schema import SPLITS, TextSpec
from thaw.corpora.listing import UNKNOWN
from thaw.errors import UserError
from thaw.files import Reject, read_jsonl, read_rejects
from thaw.text import normalise
from thaw.units import OutsideAlphabet, ctc_frames, describe

Row = dict[str, Any]
SHARED_SPEAKERS = "shared_speakers"  # a key of counts.json beside the splits, where there are any


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of a manifest; `wav` is the shard that holds it, readable from the current directory."""

    id: str
    wav: Path
    offset_samples: int
    samples: int
    lang: str
    speaker: str
    text: str
    text_raw: str
    digest: str  # of the PCM bytes: 16 hex digits of BLAKE2b

    @property
    def seconds(self) -> float:
        """Its length in seconds."""
        return self.samples / SAMPLE_RATE

    def pcm(self) -> Pcm:
        """Its audio, (samples,) int16 at 16 kHz, read-only through a memory map.

        UserError for a broken shard, and where its bytes are not those of the manifest's digest. That is looked at each
        time: it costs a fourteenth of what DeepSpeech's features do, and those are made once.
        """
        pcm = read_pcm(self.wav, self.offset_samples, self.samples)
        if clip_digest(pcm) != self.digest:
            if not is_shard(self.wav):
                raise UserError(not_ours(self.wav))
            raise UserError(
                f"{self.wav}: damaged: the samples of {self.id!r} (from {self.offset_samples}) are not those that the "
                "manifest was made from; delete this file and run the `audio` rule of its corpus again"
            )
        return pcm


PLACE = ("audio_filepath", "offset", "offset_samples")  # where a clip lies; all other keys say what it is


def manifest_sha256(path: Path) -> str:
    """SHA-256 of what a manifest says, hexadecimal: the same however its audio is cut into shards, wherever it lies."""
    total = hashlib.sha256()
    try:
        for row in read_jsonl(path):
            said = {key: value for key, value in row.items() if key not in PLACE}
            total.update(canonical_json(said).encode() + b"\n")
    except (AttributeError, ValueError) as error:  # no object; NaN, or half of a surrogate pair
        raise UserError(f"{path}: a row is not one of thaw's manifests ({error}); run the `manifest` rule") from error
    return total.hexdigest()


def read_manifest(path: Path) -> list[Utterance]:
    """Read a manifest in its order; UserError names a file that is missing or is no manifest of thaw's."""
    return [_utterance(row, path) for row in read_jsonl(path)]


def _utterance(row: Row, path: Path) -> Utterance:
    try:
        if row["sampling_rate"] != SAMPLE_RATE:
            raise UserError(f"{path}: {row['id']!r} has {row['sampling_rate']} Hz; thaw's manifests have {SAMPLE_RATE}")
        words = {key: _text(row, key) for key in ("id", "lang", "speaker", "text", "text_raw", "digest")}
        return Utterance(
            wav=Path(os.path.normpath(path.parent / _text(row, "audio_filepath"))),
            offset_samples=_count(row, "offset_samples", 0),
            samples=_count(row, "samples", 1),
            **words,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: {row.get('id')!r} is no row of thaw's manifests ({error}); run the `manifest` rule again"
        ) from error


def _text(row: Row, key: str) -> str:
    """A text of a row, which UTF-8 can hold and no C library cuts short; TypeError or ValueError for anything else."""
    value = row[key]
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(f"{key} is not a text")
    value.encode()
    return value


def _count(row: Row, key: str, least: int) -> int:
    value = row[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise TypeError(f"{key} is not a whole number from {least} on")
    return value


# --- making -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shard:
    """One audio shard and its index."""

    index: Path
    wav: Path


@dataclass(frozen=True)
class Built:
    """Manifest rows by split (sorted by id), all rejects so far, and what counts.json holds: counts by split.

    Where splits have speakers in common, SHARED_SPEAKERS there says how many.
    """

    rows: dict[str, list[Row]]
    rejects: list[Reject]
    counts: dict[str, Row]


def build(
    utterances: Path,
    shards: Sequence[Shard],
    rejects_in: Sequence[Path],
    text: TextSpec,
    models: Sequence[ModelSpec],
    folders: dict[str, Path],
) -> Built:
    """Join transcripts and audio. `folders` holds the folder of each split's manifest: its paths are relative to it.

    Utterances of train and dev must have enough output frames for CTC in every one of `models`, and other audio than
    those of test (train: than those of dev, too); those of test are all kept. Raises UserError where inputs do not
    belong together or a split ends up empty.
    """
    listing = read_listing(utterances)
    rejects = [reject for path in rejects_in for reject in read_rejects(path)]
    audio = _read_shards(shards)
    _check_origin(utterances, listing, audio, rejects)
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for clip in listing:
        if clip.id in audio:
            row = _row(clip, audio[clip.id], text, models, folders[clip.split])
            if isinstance(row, Reject):
                rejects.append(row)
            else:
                rows[clip.split].append(row)
    rejects += _keep_apart(rows)
    _check_complete(listing, rows, rejects)
    counts = {split: _counts(rows[split], [r for r in rejects if r.split == split]) for split in SPLITS}
    for split in SPLITS:
        if not rows[split]:
            raise UserError(_empty_split(utterances, split, counts[split]))
    if shared := shared_speakers(rows):
        counts[SHARED_SPEAKERS] = shared
    return Built(rows, sorted(rejects), counts)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an utterance's audio lies."""

    wav: Path
    offset: int  # samples
    samples: int
    digest: str


def _read_shards(shards: Sequence[Shard]) -> dict[str, _Place]:
    """All indices as one, by id; every shard is checked to be as long as its index says."""
    places: dict[str, _Place] = {}
    for shard in shards:
        end = 0
        for row in read_jsonl(shard.index):
            name, place = _indexed(row, shard)
            if name in places:
                raise UserError(f"{shard.index}: {name!r} is in {places[name].wav} too; give each shard once")
            places[name] = place
            end = max(end, place.offset + place.samples)
        check_shard(shard.wav, end)
    return places


def _indexed(row: Row, shard: Shard) -> tuple[str, _Place]:
    try:
        place = _Place(shard.wav, _count(row, "offset", 0), _count(row, "samples", 1), _text(row, "digest"))
        return _text(row, "id"), place
    except (KeyError, TypeError, ValueError) as error:
        message = f"{shard.index}: a row is not of an index of audio ({error}); run the `audio` rule again"
        raise UserError(message) from error


def _check_origin(utterances: Path, listing: list[Clip], audio: dict[str, _Place], rejects: list[Reject]) -> None:
    """The listed ids are those of the indices plus those that the audio room rejected: else something is stale."""
    listed = {clip.id for clip in listing}
    rejected = Counter(reject.id for reject in rejects if reject.room == "audio")
    converted = audio.keys() | rejected.keys()
    odd = sorted((listed ^ converted) | (audio.keys() & rejected.keys()) | {i for i, n in rejected.items() if n > 1})
    if odd:
        raise UserError(
            f"{utterances} and the audio made from it do not match ({len(odd)} utterances, e.g. {odd[0]!r}): "
            "give every shard's index and rejects, or run the `audio` rule of this corpus again"
        )


def _row(clip: Clip, place: _Place, text: TextSpec, models: Sequence[ModelSpec], folder: Path) -> Row | Reject:
    """The manifest row of one utterance, or why it has none."""
    try:
        normal = normalise(clip.text_raw, text)
    except OutsideAlphabet as error:
        return _reject(clip, "character outside the alphabet", describe(error.characters))
    if not normal:
        return _reject(clip, "empty transcript")
    required, available = ctc_frames(normal), min(room(model, place.samples) for model in models)
    if clip.split != "test" and required > available:
        detail = f"required {required} frames, available {available}"
        return _reject(clip, "transcript longer than its audio", detail)
    return {
        "audio_filepath": Path(os.path.relpath(place.wav, folder)).as_posix(),
        "offset": place.offset / SAMPLE_RATE,
        "duration": place.samples / SAMPLE_RATE,
        "offset_samples": place.offset,
        "samples": place.samples,
        "sampling_rate": SAMPLE_RATE,
        "id": clip.id,
        "lang": clip.lang,
        "speaker": clip.speaker,
        "text": normal,
        "text_raw": clip.text_raw,
        "digest": place.digest,
    }


def _reject(clip: Clip, reason: str, detail: str = "") -> Reject:
    return Reject(clip.id, clip.split, "manifest", reason, detail)


def _keep_apart(rows: dict[str, list[Row]]) -> list[Reject]:
    """Take out of dev what test has, and out of train what either has: the same samples, under whatever id."""
    heard: dict[str, tuple[str, str]] = {}  # digest -> split and id
    rejects = []
    for split in ("test", "dev", "train"):
        kept = []
        for row in rows[split]:
            if row["digest"] in heard:
                where, other = heard[row["digest"]]
                rejects.append(Reject(row["id"], split, "manifest", f"same audio in {where}", other))
            else:
                kept.append(row)
        rows[split] = kept
        heard |= {row["digest"]: (split, row["id"]) for row in kept}
    return rejects


def shared_speakers(rows: dict[str, list[Row]]) -> dict[str, int]:
    """How many speakers two splits have in common, by "train+dev" and so on; those without a name are not counted."""
    named = {split: {row["speaker"] for row in rows[split] if not _nameless(row["speaker"])} for split in SPLITS}
    common = {f"{one}+{two}": len(named[one] & named[two]) for one, two in combinations(SPLITS, 2)}
    return {pair: count for pair, count in common.items() if count}


def _nameless(speaker: str) -> bool:
    return speaker.rpartition("/")[2] == UNKNOWN  # a union puts the name of the part before


def _check_complete(listing: list[Clip], rows: dict[str, list[Row]], rejects: list[Reject]) -> None:
    """Each listed utterance is in one manifest or rejected once after fetch (which rejects what it does not list)."""
    ends = Counter(row["id"] for split in rows.values() for row in split)
    ends.update(reject.id for reject in rejects if reject.room != "fetch")
    if ends != Counter(clip.id for clip in listing):
        raise AssertionError("an utterance was lost or came out twice: a defect of thaw")


def _counts(rows: list[Row], rejects: list[Reject]) -> Row:
    """What a split holds. `listed` = utterances + everything rejected, by whichever room."""
    return {
        "utterances": len(rows),
        "hours": round(sum(row["samples"] for row in rows) / SAMPLE_RATE / 3600, 6),
        "speakers": len({row["speaker"] for row in rows}),
        "characters": sum(len(row["text"]) for row in rows),
        "words": sum(len(row["text"].split()) for row in rows),
        "listed": len(rows) + len(rejects),
        "rejected": dict(sorted(Counter(reject.reason for reject in rejects).items())),
    }


def _empty_split(utterances: Path, split: str, counts: Row) -> str:
    if not counts["rejected"]:
        return f"{utterances}: lists no utterance of split {split!r}; every corpus needs train, dev and test"
    reason, count = max(counts["rejected"].items(), key=lambda item: item[1])
    return (
        f"{utterances}: no utterance of split {split!r} is left of {counts['listed']}; the commonest reason: "
        f"{reason} ({count}). See the rejects tables; the rules are the corpus's `audio:` and its language's entry"
    )
