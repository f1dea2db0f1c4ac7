"""What a config says of units: what the output classes of a model are. Known without importing torch.

Characters are an alphabet, which a language's text rules name. Words and byte pairs are counted in the training split
of a run's target (`thaw units`), the whole of it also where the run learns from a part: heads of parts can be swapped.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from thaw.config.numbers import Int, Positive
from thaw.config.strict import Strict


class CharacterUnits(Strict):
    """The characters of an alphabet."""

    kind: Literal["characters"]


class WordUnits(Strict):
    """Words between spaces, and `<unk>` for all others."""

    kind: Literal["words"]
    min_count: Positive = 1  # a rarer word is <unk>
    file: str = ""  # the user's own vocabulary instead, one word a line; <unk> must be in it


class BpeUnits(Strict):
    """Byte pair encoding (Sennrich et al. 2016), by sentencepiece; pieces hold their spaces."""

    kind: Literal["bpe"]
    size: Annotated[Int, Field(ge=2, le=1_000_000)] = 2000


UnitsSpec = Annotated[CharacterUnits | WordUnits | BpeUnits, Field(discriminator="kind")]
CountedUnits = WordUnits | BpeUnits  # those that are an artifact of their own

CHARACTERS = CharacterUnits(kind="characters")
