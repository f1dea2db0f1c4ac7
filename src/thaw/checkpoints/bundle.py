"""TensorFlow's checkpoint format, the tensor bundle, without TensorFlow: NAME.index and NAME.data-00000-of-00001, ….

Source: tensorflow v1.15 core/util/tensor_bundle/tensor_bundle.{h,cc}, core/protobuf/tensor_bundle.proto.

The index is a sorted string table from names to messages that say type, shape, place and checksum of a tensor; the
data files hold the plain values. No byte is believed before it is checked: a wrong file ends in a UserError.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thaw.checkpoints.crc32c import crc32c, unmask
from thaw.checkpoints.sstable import Damaged, read_table, varint
from thaw.errors import UserError

MAX_INDEX = 16 << 20  # bytes; that of DeepSpeech has a few thousand
MAX_RANK = 8
MAX_VALUES = 1 << 48  # of a tensor, its empty dimensions not counted: numpy cannot even describe many more
DTYPES = {1: "float32", 2: "float64", 3: "int32", 9: "int64"}  # tensorflow v1.15 core/framework/types.proto

Array = NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True)
class Entry:
    """One tensor, as the index describes it. `dtype` is a number of TensorFlow's; `crc` is masked."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


class Bundle:
    """A checkpoint called `prefix` (a path without .index). The index is read at once, tensors when asked for."""

    def __init__(self, prefix: Path) -> None:
        """Read the index; UserError where it is missing, damaged, or of another format."""
        self.prefix = prefix
        self.index = prefix.with_name(prefix.name + ".index")
        try:
            table = read_table(_read_index(self.index))
            self.shards = _header(table.pop(b"", None))
            self.entries = {_name(key): _entry(value) for key, value in table.items()}
        except Damaged as error:
            raise UserError(f"{self.index}: not the index of a TensorFlow checkpoint, or damaged: {error}") from error

    def files(self) -> list[Path]:
        """The index and all data files, in order."""
        return [self.index, *(self._data(shard) for shard in range(self.shards))]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; KeyError where there is none of that name."""
        return self.entries[name].shape

    def dtype(self, name: str) -> str:
        """The type of a tensor's values; KeyError where there is none of that name."""
        return DTYPES.get(self.entries[name].dtype, f"TensorFlow's type {self.entries[name].dtype}")

    def read(self, name: str) -> Array:
        """A tensor's values, checksum checked; KeyError where there is none of that name.

        UserError for a missing or damaged data file, for a type that is not in DTYPES, and for a variable that was
        saved in slices.
        """
        entry = self.entries[name]
        if entry.sliced:
            raise UserError(f"{self.index}: {name} was saved in slices, which thaw does not join; save it whole")
        if entry.dtype not in DTYPES:
            raise UserError(f"{self.index}: {name} has {self.dtype(name)}; thaw reads {', '.join(DTYPES.values())}")
        dtype = np.dtype(DTYPES[entry.dtype]).newbyteorder("<")
        if math.prod(entry.shape) * dtype.itemsize != entry.size or entry.shard >= self.shards:
            raise UserError(f"{self.index}: damaged: size and place of {name} contradict its shape {entry.shape}")
        values = np.frombuffer(self._bytes(name, entry), dtype).reshape(entry.shape)
        return values.astype(dtype.newbyteorder("="), copy=False)

    def _data(self, shard: int) -> Path:
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}")

    def _bytes(self, name: str, entry: Entry) -> bytes:
        path = self._data(entry.shard)
        try:
            if entry.offset + entry.size > path.stat().st_size:  # before so much memory is asked for
                raise UserError(f"{path}: cut short: {name} should end at byte {entry.offset + entry.size}")
            with path.open("rb") as file:
                file.seek(entry.offset)
                data = file.read(entry.size)
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file; a checkpoint is its .index and all its .data files") from error
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        if len(data) != entry.size or crc32c(data) != unmask(entry.crc):
            raise UserError(f"{path}: damaged: {name} has a wrong checksum; get the checkpoint again")
        return data


def _read_index(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_INDEX + 1)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > MAX_INDEX:
        raise Damaged(f"it is larger than {MAX_INDEX} bytes")
    return data


def _name(key: bytes) -> str:
    try:
        name = key.decode()
    except UnicodeDecodeError:
        name = ""
    if not name.isprintable() or not name:
        raise Damaged("a name in it is not text; a variable may have been saved in slices")
    return name


def _header(message: bytes | None) -> int:
    """The number of data files, of a BundleHeaderProto."""
    if message is None:
        raise Damaged("it has no header")
    fields = dict(_fields(message))
    shards, endianness = fields.get(1, 0), fields.get(2, 0)
    if endianness != 0:
        raise Damaged("it was written on a big-endian machine")
    if not isinstance(shards, int) or not 1 <= shards <= 99_999:
        raise Damaged("its header gives no number of data files")
    return shards


def _entry(message: bytes) -> Entry:
    """A BundleEntryProto."""
    numbers = dict.fromkeys((1, 3, 4, 5, 6), 0)
    shape: tuple[int, ...] = ()
    sliced = False
    for field, value in _fields(message):
        if field in numbers and isinstance(value, int):
            numbers[field] = value
        elif field == 2 and isinstance(value, bytes):
            shape = _shape(value)
        elif field == 7:
            sliced = True
        else:
            raise Damaged("an entry has a field that is unknown, or of another kind")
    dtype, shard, offset, size, crc = numbers.values()
    return Entry(dtype, shape, shard, offset, size, crc, sliced)


def _shape(message: bytes) -> tuple[int, ...]:
    """A TensorShapeProto; Damaged where a size is unknown or negative (it then reads as a huge one)."""
    sizes = []
    for field, dimension in _fields(message):
        if field != 2 or not isinstance(dimension, bytes):
            raise Damaged("a shape in it is not known")
        size = dict(_fields(dimension)).get(1, 0)
        if not isinstance(size, int):
            raise Damaged("a shape in it is not known")
        sizes.append(size)
    if len(sizes) > MAX_RANK or math.prod(filter(None, sizes)) > MAX_VALUES:
        raise Damaged("a shape in it is impossible")
    return tuple(sizes)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer: numbers (varint, fixed) as int, the others as bytes."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        match tag & 7:
            case 0:
                number, at = varint(message, at)
                yield tag >> 3, number
                continue
            case 2:
                size, at = varint(message, at)
            case 1 | 5 as kind:
                size = 8 if kind == 1 else 4
            case kind:
                raise Damaged(f"a message in it has a field of kind {kind}")
        if at + size > len(message):
            raise Damaged("a message in it is longer than it can be")
        value = message[at : at + size]
        at += size
        yield tag >> 3, value if tag & 7 == 2 else int.from_bytes(value, "little")
