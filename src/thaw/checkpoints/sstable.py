"""The sorted string table of LevelDB, as TensorFlow writes it: keys and values in checksummed blocks.

Source: google/leveldb doc/table_format.md; tensorflow v1.15 core/lib/io/{format,block,table}.cc.

    table:   data block … | meta-index block | index block | footer
    block:   entries | uint32 of each restart | uint32 number of restarts | 1 byte compression | masked CRC-32C
    entry:   varints shared, added, size | `added` bytes of key after `shared` of the key before | `size` bytes of value
    index:   last key of a data block -> its handle (varints offset, size)

Nothing here trusts the file: each length is checked before it is used, and offsets and keys may only grow, so that no
block is read twice and no entry repeats.
"""

from __future__ import annotations

from collections.abc import Iterator

from thaw.checkpoints.crc32c import crc32c, unmask

FOOTER = 48  # bytes
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
TRAILER = 5  # bytes after a block: compression, checksum
MAX_KEY = 1024  # bytes; keys share beginnings, so a small table could otherwise unfold to a huge one
MAX_ENTRIES = 1 << 16


class Damaged(ValueError):
    """The bytes are not what they should be; the message says why."""


def read_table(data: bytes) -> dict[bytes, bytes]:
    """All keys and values of a table, in the order of the keys; Damaged where it is not one."""
    if len(data) < FOOTER or data[-8:] != MAGIC:
        raise Damaged("it does not end as a table does; it may be cut short")
    footer = data[-FOOTER:-8]
    _, _, at = _handle(footer, 0)  # the meta-index is empty in a checkpoint
    offset, size, _ = _handle(footer, at)
    table: dict[bytes, bytes] = {}
    read = 0
    for _, handle in _entries(_block(data, offset, size)):
        offset, size, _ = _handle(handle, 0)
        if offset < read:
            raise Damaged("its blocks are not in order")
        read = offset + size
        for key, value in _entries(_block(data, offset, size), after=next(reversed(table), None)):
            table[key] = value
            if len(table) > MAX_ENTRIES:
                raise Damaged(f"it has more than {MAX_ENTRIES} entries")
    return table


def varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number in groups of seven bits, lowest first, and where it ends; Damaged where it does not."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise Damaged("a number in it does not end")


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    """Offset and size of a block, and where the handle ends."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return offset, size, at


def _block(data: bytes, offset: int, size: int) -> bytes:
    """The entries of the block at `offset`, its checksum checked, its restarts cut off."""
    end = offset + size
    if end + TRAILER > len(data) - FOOTER:
        raise Damaged("a block lies outside the file")
    if unmask(int.from_bytes(data[end + 1 : end + TRAILER], "little")) != crc32c(data[offset : end + 1]):
        raise Damaged("a block has a wrong checksum")
    if data[end] != 0:
        # TensorFlow has written plain blocks since 1.2 (core/util/tensor_bundle/tensor_bundle.cc, TableBuilderOptions).
        raise Damaged(f"a block is compressed (kind {data[end]}); TensorFlow 1.2 and later do not compress checkpoints")
    restarts = 4 * int.from_bytes(data[end - 4 : end], "little") + 4
    if size < 4 or restarts > size:
        raise Damaged("a block has no room for its own restarts")
    return data[offset : end - restarts]


def _entries(block: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; every key must be greater than the one before, the first one greater than `after`."""
    key, at = b"", 0
    while at < len(block):
        shared, at = varint(block, at)
        added, at = varint(block, at)
        size, at = varint(block, at)
        if shared > len(key) or at + added + size > len(block) or shared + added > MAX_KEY:
            raise Damaged("an entry is longer than it can be")
        key = key[:shared] + block[at : at + added]
        if after is not None and key <= after:
            raise Damaged("its keys are not in order")
        after = key
        at += added + size
        yield key, block[at - size : at]
