"""Tied states as units: what an alignment gives every frame. They are numbered, not written; a lexicon and a decoding
graph turn them into words (`thaw.alignment`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from thaw.errors import UserError


class States:
    """The states 0 … count - 1 of one inventory; equal numbers of two inventories mean nothing to each other."""

    kind: ClassVar[str] = "states"

    def __init__(self, count: int, inventory: str) -> None:
        if count < 1:
            raise UserError(f"an inventory of {count} states")
        self.count = count
        self.inventory = inventory  # the identity of the alignment whose model they are of

    @property
    def size(self) -> int:
        """How many there are."""
        return self.count

    def encode(self, text: str) -> list[int]:
        """UserError: a text has no states until it is aligned to its audio."""
        raise UserError("tied states come from an alignment, not from the text")

    def decode(self, ids: Iterable[int]) -> str:
        """UserError: words take a decoding graph."""
        raise UserError("tied states are no text: decode with a decoder of kind hybrid")

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return {"kind": self.kind, "count": self.count, "inventory": self.inventory}

    def describe(self) -> str:
        """In words."""
        return f"{self.count} states of the alignment {self.inventory}"
