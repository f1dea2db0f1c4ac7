"""Units: what the classes of a head are: characters, words, byte pairs."""

from thaw.units.characters import Alphabet, OutsideAlphabet, ctc_frames, describe
from thaw.units.pieces import Pieces
from thaw.units.states import States
from thaw.units.units import EVERY, ByLanguage, Units, metadata_of, of_language, read_units, units_from, units_of
from thaw.units.words import Words

__all__ = [
    "EVERY",
    "Alphabet",
    "ByLanguage",
    "OutsideAlphabet",
    "Pieces",
    "States",
    "Units",
    "Words",
    "ctc_frames",
    "describe",
    "metadata_of",
    "of_language",
    "read_units",
    "units_from",
    "units_of",
]
