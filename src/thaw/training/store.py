"""Features kept on disk, beside each other for all trainings of one front end: no epoch computes what another has.

A store is a folder named by its front end and by a hash of what it computes here: the features of given noise, as this
code, these libraries and this processor make them, so that what is read has the bits of what would be computed. In it,
an entry is found by the digest of a clip's audio, its length and its speed, whichever corpus or split the clip is of.

Every writing process appends to a file of its own (NAME.features) and commits each utterance by a record in NAME.index
after it. So writers never meet, whoever is killed leaves at worst bytes that no record names, and what a crash of the
machine leaves of either file fails a checksum and counts as missing. Where something cannot be kept, it is computed.

Shapes: T frames, F features.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import secrets
import stat
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from thaw.canonical import digest
from thaw.errors import UserError
from thaw.files import write_json
from thaw.frontends import dimension, features
from thaw.training.augment import FULL_SCALE, at_speed

FORMAT = 1
RECORD = np.dtype(
    [
        ("audio", "<u8"),  # the clip's digest, as manifests have it
        ("speed", "<f8"),
        ("offset", "<u8"),  # of its features in NAME.features, bytes
        ("samples", "<u4"),  # of the clip
        ("frames", "<u4"),
        ("crc", "<u4"),  # of the features
        ("check", "<u4"),  # CRC of all before it
    ]
)
ALIGNMENT = 64  # bytes, at which features begin
# The noise that a front end is known by: its samples, and how loud. Of silence, and of what is clipped, features go
# other ways through a front end than those of speech do.
PROBES = ((8000, 3000.0), (48000, 3000.0), (192000, 3000.0), (8001, 0.0), (8001, 0.4), (8001, 30000.0))
LOOK_SECONDS = 1.0  # between two looks for what other processes have added
WEIGH_BYTES = 64 << 20  # written between two looks at how large the folder has become
SPARE_BYTES = 1 << 30  # of a disk, that are left free


@cache
def identity(frontend: str) -> dict[str, Any]:
    """What decides the bits of a front end's features, at any speed: what it makes of given noise."""
    made = hashlib.blake2b(digest_size=16)
    for samples, loudness in PROBES:
        noise = np.random.default_rng(samples).normal(0, loudness, samples)
        pcm = np.clip(noise.round(), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        for sound in (pcm, at_speed(pcm, 0.9), at_speed(pcm, 1.1)):
            made.update(features(frontend, sound).tobytes())
    return {
        "format": FORMAT,
        "frontend": frontend,
        "numpy": np.__version__,
        "soxr": soxr.__version__,
        "features_of_noise": made.hexdigest(),
    }


def name_of(frontend: str) -> str:
    """The name of a front end's store on this machine."""
    return f"{frontend.replace('.', '-')}-{digest(identity(frontend))}"


Place = tuple[str, int]  # a segment's name, and which of its records


class Segment:
    """The pair of files that one process writes, or wrote, open for reading."""

    def __init__(self, index: Path) -> None:
        self.data = os.open(index.with_suffix(".features"), os.O_RDONLY)
        weakref.finalize(self, os.close, self.data)
        self.index = os.open(index, os.O_RDONLY)
        weakref.finalize(self, os.close, self.index)
        self.read = 0  # records that were read
        self.mapped: mmap.mmap | None = None

    def news(self) -> NDArray[np.void]:
        """The records added since the last call; half a record at the end is none yet."""
        size = os.fstat(self.index).st_size
        count = size // RECORD.itemsize - self.read
        if count <= 0:
            return np.zeros(0, RECORD)
        found = np.frombuffer(os.pread(self.index, count * RECORD.itemsize, self.read * RECORD.itemsize), RECORD)
        self.read += len(found)
        return found

    def view(self, offset: int, count: int) -> memoryview | None:
        """Bytes of the features, through a memory map; None where the file is shorter."""
        if self.mapped is None or offset + count > len(self.mapped):
            size = os.fstat(self.data).st_size
            if offset + count > size:
                return None
            self.mapped = mmap.mmap(self.data, size, prot=mmap.PROT_READ)
        return memoryview(self.mapped)[offset : offset + count]


class Store:
    """The kept features of one front end, as far as they are of some clips. Safe between threads and after a fork."""

    def __init__(
        self,
        root: Path,
        frontend: str,
        clips: Iterable[str],
        limit_bytes: float,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`clips`: digests of their audio. All stores under `root` together take no more than `limit_bytes`."""
        self.root, self.frontend, self.limit_bytes, self.say = root, frontend, limit_bytes, say
        self.folder = root / name_of(frontend)
        self.width = dimension(frontend)
        self.clips = np.unique(np.array([int(clip, 16) for clip in clips], dtype=np.uint64))
        self.segments: dict[str, Segment] = {}
        # By speed and digest: segments, and their records. There are two where one was damaged, or two hurried.
        self.places: dict[float, dict[int, tuple[Place, ...]]] = {}
        self.lock = threading.Lock()
        self.looked = -1e9
        self.writer: Writer | None = None
        self.full = False  # nothing more is kept
        self.look()

    def __len__(self) -> int:
        """How many features of its clips it knows of, of all speeds."""
        return sum(map(len, self.places.values()))

    def get(self, clip: str, samples: int, speed: float) -> NDArray[np.float32] | None:
        """The features (T, F) of a clip, not to be written to; None where they are not there, or not as written."""
        with self.lock:
            key = int(clip, 16)
            if key not in self.places.get(speed, {}) and time.monotonic() - self.looked > LOOK_SECONDS:
                self.look()
            for place in self.places.get(speed, {}).get(key, ()):
                found = self.read(*place, key, samples)
                if found is not None:
                    return found
            self.places.get(speed, {}).pop(key, None)
            return None

    def read(self, name: str, number: int, key: int, samples: int) -> NDArray[np.float32] | None:
        """What a record names; None where that is something else, or not whole."""
        segment = self.segments[name]
        data = os.pread(segment.index, RECORD.itemsize, number * RECORD.itemsize)
        record = np.frombuffer(data, RECORD)[0]
        if int(record["audio"]) != key or int(record["samples"]) != samples:
            return None
        frames = int(record["frames"])
        view = segment.view(int(record["offset"]), 4 * self.width * frames)
        if view is None or zlib.crc32(view) != int(record["crc"]):
            return None
        return np.frombuffer(view, np.float32).reshape(frames, self.width)

    def put(self, clip: str, samples: int, speed: float, made: NDArray[np.float32]) -> bool:
        """Keep the features (T, F) of a clip; whether they are kept."""
        if self.full or not made.size:
            return False
        with self.lock:
            try:
                self.look_at_segments()
                if int(clip, 16) in self.places.get(speed, {}):
                    return True  # another process was faster
                if self.writer is None or self.writer.process != os.getpid():
                    self.writer = Writer(self.folder, identity(self.frontend))
                    self.look()
                    self.weigh()
                if self.full:
                    return False
                self.writer.append(int(clip, 16), samples, speed, made)
                self.look_at_segments()
                if self.writer.since_weighed > WEIGH_BYTES:
                    self.weigh()
            except (OSError, UserError) as error:
                self.stop(f"cannot be kept ({error})")
                return False
        return True

    def weigh(self) -> None:
        """Stop to write where what is kept, or the disk, is full."""
        assert self.writer is not None
        self.writer.since_weighed = 0
        taken = sum(size_of(Path(folder, name)) for folder, _, names in os.walk(self.root) for name in names)
        disk = os.statvfs(self.root)
        if taken >= self.limit_bytes:
            self.stop(f"fill the {self.limit_bytes / 1e9:g} GB that they may take (execution.features_gb, `thaw gc`)")
        elif disk.f_bavail * disk.f_frsize < SPARE_BYTES:
            self.stop("leave too little of the disk free")

    def stop(self, why: str) -> None:
        """Keep no more, and say it."""
        self.full = True
        rest = "others are kept in memory, as far as that goes, or computed in every epoch"
        self.say(f"features in {self.root} {why}: {rest}")

    # --- what is there ------------------------------------------------------------------------

    def look(self) -> None:
        """Find what other processes have added."""
        self.looked = time.monotonic()
        try:
            names = {path.stem for path in self.folder.glob("*.index")}
        except OSError:
            return
        for name in sorted(names - self.segments.keys()):
            try:
                self.segments[name] = Segment(self.folder / f"{name}.index")
            except OSError:  # just being made, or just deleted
                continue
        self.look_at_segments()

    def known(self, audio: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of these digests are of its clips: a search in what is sorted, for it is asked after every clip."""
        if not len(self.clips):
            return np.zeros(len(audio), bool)
        places = np.searchsorted(self.clips, audio).clip(max=len(self.clips) - 1)
        return np.asarray(self.clips[places] == audio)

    def look_at_segments(self) -> None:
        """Read the records that were added to the files known."""
        for name, segment in self.segments.items():
            first = segment.read
            records = segment.news()
            for number in np.flatnonzero(self.known(records["audio"])).tolist():
                record = records[number]
                if zlib.crc32(record.tobytes()[:-4]) == int(record["check"]):
                    places = self.places.setdefault(float(record["speed"]), {})
                    key = int(record["audio"])
                    places[key] = (*places.get(key, ()), (name, first + number))


class Writer:
    """A segment that this process adds to: one that nobody writes any more, or a new one."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.process = os.getpid()
        self.since_weighed = 0
        if not (folder / "store.json").is_file():
            write_json(folder / "store.json", about)
        path, self.index = next((found for one in sorted(folder.glob("*.index")) if (found := taken(one))), None) or (
            begun(folder)
        )
        weakref.finalize(self, os.close, self.index)  # and with it the lock
        self.data = os.open(path.with_suffix(".features"), os.O_WRONLY | os.O_CREAT, 0o666)
        weakref.finalize(self, os.close, self.data)
        self.records = os.fstat(self.index).st_size // RECORD.itemsize
        os.ftruncate(self.index, self.records * RECORD.itemsize)  # half a record, of one who was killed
        self.end = os.fstat(self.data).st_size

    def append(self, clip: int, samples: int, speed: float, made: NDArray[np.float32]) -> None:
        """Write features, then the record that makes them count. OSError where the disk is full."""
        data = np.ascontiguousarray(made, dtype=np.float32).tobytes()
        offset = -(-self.end // ALIGNMENT) * ALIGNMENT
        record = np.array([(clip, speed, offset, samples, len(made), zlib.crc32(data), 0)], RECORD)
        record["check"] = zlib.crc32(record.tobytes()[:-4])
        write_all(self.data, data, offset)
        self.end = offset + len(data)
        write_all(self.index, record.tobytes(), self.records * RECORD.itemsize)
        self.records += 1
        self.since_weighed += len(data)


def taken(index: Path) -> tuple[Path, int] | None:
    """An index that no living process writes, open for that and locked; None where one does, or where none can tell."""
    try:
        file = os.open(index, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    return index, file


def begun(folder: Path) -> tuple[Path, int]:
    """A new index, open and locked."""
    name = secrets.token_hex(8)
    os.close(os.open(folder / f"{name}.features", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    index = folder / f"{name}.index"
    file = os.open(index, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # somebody took it up at once
        os.close(file)
        return begun(folder)
    except OSError:
        pass  # a file system without locks: nobody can take it up, so it is ours
    return index, file


def size_of(path: Path) -> int:
    """Bytes of a file; none of what another process has deleted or renamed meanwhile."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def write_all(file: int, data: bytes, offset: int) -> None:
    """Write all of `data` at a place; OSError where that cannot be done."""
    done = 0
    while done < len(data):
        done += os.pwrite(file, memoryview(data)[done:], offset + done)
