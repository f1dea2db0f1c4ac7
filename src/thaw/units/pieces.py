"""Byte pairs as units: pieces of words, learnt and applied by sentencepiece."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from thaw.errors import UserError


class Pieces:
    """The pieces of a sentencepiece model. Label 0 is `<unk>`: a character that training never saw."""

    kind: ClassVar[str] = "bpe"

    def __init__(self, model: bytes) -> None:
        """UserError where `model` is none of sentencepiece's."""
        from sentencepiece import SentencePieceProcessor  # only here: few runs need it

        self.model = model
        try:
            self.processor = SentencePieceProcessor(model_proto=model)
            self.processor.id_to_piece(0)
        except (RuntimeError, IndexError, OSError) as error:
            raise UserError(f"not a model of sentencepiece ({error})") from error

    @property
    def size(self) -> int:
        """Number of pieces, `<unk>` included."""
        return int(self.processor.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """The labels of `text`."""
        labels: list[int] = self.processor.encode(text)
        return labels

    def decode(self, ids: Iterable[int]) -> str:
        """The text of labels; IndexError for a number that is none."""
        numbers = [int(number) for number in ids]
        if any(not 0 <= number < self.size for number in numbers):
            raise IndexError(f"labels 0 to {self.size - 1} are pieces; got {numbers}")
        return str(self.processor.decode(numbers))

    def plain(self) -> dict[str, Any]:
        """As JSON types."""
        return {"kind": self.kind, "model": base64.b64encode(self.model).decode()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Pieces:
        """The inverse of `plain`."""
        try:
            return cls(base64.b64decode(plain["model"], validate=True))
        except binascii.Error as error:
            raise UserError(f"not a model of sentencepiece ({error})") from error

    def describe(self) -> str:
        """In words: "2,000 byte pairs"."""
        return f"{self.size:,} byte pairs"


def learn_pieces(sentences: Iterable[str], size: int) -> Pieces:
    """Byte pairs of normalised text: every character of it, then the merges, `size` pieces in all.

    Nothing is sampled and one thread counts, so equal sentences give equal bytes. UserError where there is too little
    text for so many pieces.
    """
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(f"this text gives no {size:,} byte pairs; give a smaller size ({error})") from error
    return Pieces(model.getvalue())
