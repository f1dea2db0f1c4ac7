"""Transcripts and their normalisation."""

from thaw.text.normalise import normalise

__all__ = ["normalise"]
