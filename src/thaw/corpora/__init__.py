"""Corpora: where utterances come from. A source becomes a folder of clips and a list of utterances."""
