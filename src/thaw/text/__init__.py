"""Transcripts: alphabets and normalisation."""

from thaw.text.alphabet import Alphabet, OutsideAlphabet, ctc_frames, describe
from thaw.text.normalise import normalise

__all__ = ["Alphabet", "OutsideAlphabet", "ctc_frames", "describe", "normalise"]
