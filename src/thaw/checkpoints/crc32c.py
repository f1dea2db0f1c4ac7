"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) in numpy, at some hundred MB a second.

A CRC is the remainder of a polynomial over GF(2), so it need not be taken byte by byte. All neighbouring words of a
piece are joined at once, then all neighbouring pairs, and so on: each round multiplies half of what is left by a
constant power of x, which is two look-ups per word. Polynomials are reflected: bit 31 of a word is the term x^0.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78
ONE, X = 1 << 31, 1 << 30
PIECE = 1 << 18  # bytes reduced at a time; the intermediate words then stay in the processor's cache
MASK_DELTA = 0xA282EAD8

Words = NDArray[np.uint32]


def crc32c(data: bytes) -> int:
    """The CRC-32C of `data`."""
    octets = np.frombuffer(data, np.uint8)
    state = 0xFFFFFFFF
    for start in range(0, len(octets), PIECE):
        piece = octets[start : start + PIECE]
        state = _times(state, _power(8 * len(piece))) ^ _remainder(piece)
    return state ^ 0xFFFFFFFF


def unmask(masked: int) -> int:
    """The CRC behind a stored one: tables store it rotated and shifted, since a CRC over CRCs is weak.

    Source: google/leveldb util/crc32c.h (`Unmask`).
    """
    rotated = (masked - MASK_DELTA) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def _remainder(piece: NDArray[np.uint8]) -> int:
    """The piece as a polynomial, times x^32, modulo the CRC's."""
    words = np.zeros(1 << max(0, (len(piece) + 3) // 4 - 1).bit_length(), "<u4")
    words.view(np.uint8)[4 * len(words) - len(piece) :] = piece  # zeros in front are terms of no weight
    bits = 32
    while len(words) > 1:
        low, high = _tables(bits)
        first = words[0::2]
        words = low[first & 0xFFFF] ^ high[first >> 16] ^ words[1::2]
        bits *= 2
    return _times(int(words[0]), _power(32))


def _times(a: int, b: int) -> int:
    """The product of two reflected polynomials modulo the CRC's."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (POLYNOMIAL if b & 1 else 0)
    return product


@cache
def _power(exponent: int) -> int:
    """x to the power of `exponent`."""
    if exponent == 0:
        return ONE
    root = _power(exponent // 2)
    square = _times(root, root)
    return _times(square, X) if exponent % 2 else square


@cache
def _tables(bits: int) -> tuple[Words, Words]:
    """Products with x^bits of all words that have a low half, and of all that have a high half, only; 65536 each."""
    return _products(bits, 0), _products(bits, 16)


def _products(bits: int, shift: int) -> Words:
    table = np.zeros(1, np.uint32)
    for bit in range(16):
        table = np.concatenate([table, table ^ np.uint32(_times(1 << (shift + bit), _power(bits)))])
    return table
