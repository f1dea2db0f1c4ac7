"""Units: what the classes of a head are. Characters are one kind."""

from thaw.units.characters import Alphabet, OutsideAlphabet, ctc_frames, describe
from thaw.units.states import States
from thaw.units.units import EVERY, ByLanguage, Units, metadata_of, of_language, units_from, units_of

__all__ = [
    "EVERY",
    "Alphabet",
    "ByLanguage",
    "OutsideAlphabet",
    "States",
    "Units",
    "ctc_frames",
    "describe",
    "metadata_of",
    "of_language",
    "units_from",
    "units_of",
]
