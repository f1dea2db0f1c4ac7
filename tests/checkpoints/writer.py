"""A small writer of tensor bundles, so that tests can make whatever TensorFlow would not.

Written from the format's description, and apart from the reader: its CRC goes byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

MAGIC = 0xDB4775248B80FB57
NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def varint(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def entry(dtype: int, shape: tuple[int, ...], shard: int, offset: int, size: int, crc: bytes) -> bytes:
    dims = b"".join(field(2, field(1, n)) for n in shape)
    message = field(1, dtype) + field(2, dims) + (field(3, shard) if shard else b"") + field(4, offset)
    return message + field(5, size) + varint(6 << 3 | 5) + crc


def header(shards: int) -> bytes:
    return field(1, shards) + field(3, field(1, 1))


def block(rows: Mapping[bytes, bytes], interval: int = 16) -> bytes:
    out, restarts, last = b"", [], b""
    for number, (key, value) in enumerate(rows.items()):
        shared = 0
        if number % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(last), len(key)) and last[shared] == key[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return out + b"".join(n.to_bytes(4, "little") for n in restarts) + len(restarts).to_bytes(4, "little")


def table(blocks: list[bytes], last_keys: list[bytes], kind: int = 0) -> bytes:
    """A table of data blocks."""
    out = b""
    handles: dict[bytes, bytes] = {}

    def add(content: bytes) -> bytes:
        nonlocal out
        handle = varint(len(out)) + varint(len(content))
        out += content + bytes([kind]) + masked(content + bytes([kind]))
        return handle

    for content, key in zip(blocks, last_keys, strict=True):
        handles[key] = add(content)
    footer = add(block({})) + add(block(handles, 1))
    return out + footer.ljust(40, b"\0") + MAGIC.to_bytes(8, "little")


def rows(tensors: Mapping[str, np.ndarray], shards: int = 1) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The rows of an index, and the data files."""
    data = [b""] * shards
    index = {b"": header(shards)}
    for number, name in enumerate(sorted(tensors)):
        values = np.asarray(tensors[name])
        raw, shard = values.tobytes(), number % shards
        index[name.encode()] = entry(
            NUMBERS[str(values.dtype)], values.shape, shard, len(data[shard]), len(raw), masked(raw)
        )
        data[shard] += raw
    return index, data


def write(prefix: Path, index: dict[bytes, bytes], data: list[bytes], per_block: int = 1000) -> Path:
    """Write index and data files of a bundle, so many rows a block."""
    keys = sorted(index)
    parts = [keys[n : n + per_block] for n in range(0, len(keys), per_block)]
    content = table([block({key: index[key] for key in part}) for part in parts], [part[-1] for part in parts])
    prefix.with_name(f"{prefix.name}.index").write_bytes(content)
    for number, raw in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{len(data):05d}").write_bytes(raw)
    return prefix


def bundle(prefix: Path, tensors: Mapping[str, np.ndarray], shards: int = 1, per_block: int = 1000) -> Path:
    """Write a bundle of these tensors."""
    return write(prefix, *rows(tensors, shards), per_block)


def flips(data: bytes, step: int = 1) -> Iterator[bytes]:
    """`data` with one bit changed, every `step` bytes."""
    for at in range(0, len(data), step):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        yield bytes(changed)
