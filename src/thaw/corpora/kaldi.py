"""Reader of the user's own corpus as Kaldi data folders: wav.scp, text, and, where there are, segments and utt2spk.

A `wav.scp` may name a command whose output is the audio ("sph2pipe … |"). thaw runs none: of the usual ones it knows
which file and channel they read, and reads those itself; any other is refused.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thaw.config.sources import KaldiSource, Split
from thaw.corpora.listing import UNKNOWN, Listed, Listing, shown
from thaw.corpora.table import finish, own_files
from thaw.errors import UserError
from thaw.files import Reject

NEEDED, OPTIONAL = ("wav.scp", "text"), ("segments", "utt2spk")


@dataclass(frozen=True, slots=True)
class Recording:
    """What a line of wav.scp means: a file, and one of its channels (from 1; 0: all of them, mixed)."""

    path: str
    channel: int = 0


def read(source: KaldiSource) -> Listing:
    """List the user's data folders.

    Rejected: "no recording" and "no segment" (an utterance of `text` without audio), "no transcript", "malformed row",
    "missing clip", "duplicate id". Raises UserError for a folder that cannot be read, that lacks `segments` altogether,
    and for a command in wav.scp that is not known.
    """
    listing = Listing(Path())
    listing.add(rows(source))
    finish(listing, source)
    return listing


def rows(source: KaldiSource) -> Iterator[Listed | Reject]:
    """What the user's folders hold; audio is not looked for yet."""
    for split, folder in own_files(source):
        yield from _read_folder(folder, Path(source.audio).expanduser() if source.audio else folder, split or "train")


def files(folder: Path) -> list[Path]:
    """The files of a data folder that count: the needed ones, and the others as far as they are there."""
    return [*(folder / name for name in NEEDED), *(p for name in OPTIONAL if (p := folder / name).is_file())]


def _read_folder(folder: Path, audio: Path, split: Split) -> Iterator[Listed | Reject]:
    recordings = {key: _recording(rest, folder / "wav.scp", number)
                  for number, key, rest in _lines(folder / "wav.scp")}  # fmt: skip
    texts = {key: rest for _, key, rest in _lines(folder / "text")}
    there = {path.name for path in files(folder)}
    speakers = {key: rest for _, key, rest in _lines(folder / "utt2spk")} if "utt2spk" in there else {}
    if "segments" in there:
        spans = {key: (number, rest) for number, key, rest in _lines(folder / "segments")}
        lacking = "no segment"
    else:
        _check_whole(folder, texts, recordings)
        spans = {key: (0, key) for key in recordings}
        lacking = "no recording"
    for key, text in texts.items():
        if key not in spans:
            yield Reject(key, split, "fetch", lacking, f"{folder / 'text'} has it alone")
            continue
        yield _utterance(key, text, spans[key], recordings, speakers, audio, split)
    for key in sorted(spans.keys() - texts.keys()):
        yield Reject(key, split, "fetch", "no transcript", f"{folder / 'text'} has none")


def _check_whole(folder: Path, texts: dict[str, str], recordings: dict[str, Recording]) -> None:
    """Without segments, recordings are utterances; where no id fits, segments are missing."""
    if texts and not texts.keys() & recordings.keys():
        first = shown(sorted(texts)[:1])
        raise UserError(
            f"{folder}: none of the {len(texts)} utterances of text ({first}, …) is a recording of wav.scp, and there "
            "is no file segments that says where in a recording they are; copy it from where the folder was made"
        )


def _utterance(
    key: str,
    text: str,
    span: tuple[int, str],
    recordings: dict[str, Recording],
    speakers: dict[str, str],
    audio: Path,
    split: Split,
) -> Listed | Reject:
    number, rest = span
    name, *times = rest.split()
    start = end = -1.0
    if number:  # a line of segments: recording, start, end
        try:
            start, end = map(float, times[:2])
        except ValueError:
            start, end = 0.0, 0.0
        if len(times) < 2 or not (math.isfinite(start) and math.isfinite(end)) or not 0 <= start < end:
            return Reject(key, split, "fetch", "malformed row", f"segments:{number}: {rest}")
    if name not in recordings:
        return Reject(key, split, "fetch", "no recording", f"wav.scp has no {name}")
    one = recordings[name]
    file = os.fspath(audio / os.path.expanduser(one.path))
    return Listed(key, split, text, speakers.get(key, UNKNOWN), file, start=start, end=end, channel=one.channel)


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Number, first word, and the rest of each line; UserError for a file that is no such list."""
    seen: set[str] = set()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                key, _, rest = line.decode().strip().partition(" ") if b" " in line else line.decode().partition("\t")
                key, rest = key.strip(), rest.strip()
                if not key:
                    continue
                if key in seen:
                    raise UserError(f"{path}:{number}: {key} is there twice; sort the folder and fix it")
                seen.add(key)
                if not rest and path.name != "text":
                    raise UserError(f"{path}:{number}: nothing behind {key}")
                yield number, key, rest
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; a Kaldi data folder has {' and '.join(NEEDED)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a UTF-8 text (byte {error.start} of a line); save it as UTF-8") from None


# --- commands in wav.scp --------------------------------------------------------------------------

# Options of the commands known here: how many words follow each.
_SPH2PIPE = {"-f": 1, "-p": 0, "-c": 1}
_FLAC = {
    "-c": 0,
    "-d": 0,
    "-s": 0,
    "--decode": 0,
    "--stdout": 0,
    "--silent": 0,
    "-dcs": 0,
    "-cds": 0,
    "-cd": 0,
    "-dc": 0,
}
_SOX = {"-R": 0, "-G": 0, "-V1": 0, "-t": 1, "-r": 1, "-b": 1, "-e": 1, "-c": 1, "-L": 0, "-D": 0}
_EFFECTS = {"rate": 1, "remix": 1, "dither": 0, "channels": 1}


def _recording(rest: str, path: Path, number: int) -> Recording:
    """What the right side of a line of wav.scp reads; UserError for a command that is not known."""
    if not rest.endswith("|"):
        return Recording(rest)
    found = None
    try:
        stages = [shlex.split(stage) for stage in rest.removesuffix("|").split("|")]
        found = _of_stages(stages)
    except ValueError:  # an open quote
        pass
    if found is None:
        raise UserError(
            f"{path}:{number}: a command that thaw does not run: {rest}; it knows sph2pipe, flac and sox with plain "
            "arguments, and reads their files itself: convert the audio, and name the files"
        )
    return found


def _of_stages(stages: list[list[str]]) -> Recording | None:
    """A decoder, and perhaps sox behind it, which thaw's own conversion takes the place of; None for anything else."""
    if not stages or not stages[0] or len(stages) > 2:
        return None
    name, *words = stages[0]
    known = {"sph2pipe": _sph2pipe, "flac": _flac, "sox": _sox}.get(os.path.basename(name))
    found = known(words) if known else None
    if found is None or found.path == "-":
        return None
    if len(stages) == 1:
        return found
    tool, *rest = stages[1] or [""]
    behind = _sox(rest) if os.path.basename(tool) == "sox" else None
    return found if behind == Recording("-") else None


def _options(words: list[str], known: dict[str, int]) -> tuple[dict[str, str], list[str]] | None:
    """The options and the other words; None where one is not known."""
    options: dict[str, str] = {}
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in known:
            options[word] = next(rest, "") if known[word] else ""
        elif word.startswith("-") and word != "-":
            return None
        else:
            others.append(word)
    return options, others


def _sph2pipe(words: list[str]) -> Recording | None:
    found = _options(words, _SPH2PIPE)
    if found is None or len(found[1]) != 1 or found[0].get("-f", "wav") != "wav":
        return None
    channel = found[0].get("-c", "0")
    return Recording(found[1][0], int(channel)) if channel in ("0", "1", "2") else None


def _flac(words: list[str]) -> Recording | None:
    found = _options(words, _FLAC)
    return Recording(found[1][0]) if found and len(found[1]) == 1 else None


def _sox(words: list[str]) -> Recording | None:
    """`sox [options] IN [options] - [effects]`, where effects change nothing but rate and channel."""
    found = _options(words, _SOX)
    if found is None or len(found[1]) < 2 or found[1][1] != "-":
        return None
    (path, _, *effects), channel = found[1], 0
    while effects:
        name = effects.pop(0)
        if name not in _EFFECTS or len(effects) < _EFFECTS[name]:
            return None
        value = effects.pop(0) if _EFFECTS[name] else ""
        if name == "remix":
            if not value.isdigit():
                return None
            channel = int(value)
    return Recording(path, channel)
