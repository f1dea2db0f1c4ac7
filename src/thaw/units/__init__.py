"""Units: what the classes of an output layer are. Characters are one kind."""

from thaw.units.characters import Alphabet, OutsideAlphabet, ctc_frames, describe

__all__ = ["Alphabet", "OutsideAlphabet", "ctc_frames", "describe"]
