"""The CRC against RFC 3720's examples and against one that goes byte by byte."""

from __future__ import annotations

import numpy as np
import pytest

from tests.checkpoints import writer
from thaw.checkpoints import crc32c as module
from thaw.checkpoints.crc32c import crc32c, unmask


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_published_values(data: bytes, crc: int):
    assert crc32c(data) == crc


def test_every_short_length():
    data = np.random.default_rng(1).bytes(75)
    assert [crc32c(data[:n]) for n in range(76)] == [writer.crc32c(data[:n]) for n in range(76)]


def test_across_pieces(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PIECE", 256)
    data = np.random.default_rng(2).bytes(1100)
    for size in (255, 256, 257, 512, 769, 1100):
        assert crc32c(data[:size]) == writer.crc32c(data[:size])


def test_unmask_undoes_the_mask():
    assert unmask(int.from_bytes(writer.masked(b"123456789"), "little")) == 0xE3069283
