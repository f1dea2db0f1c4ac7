"""Kaldi's own classes, from wheels: loaded when they are first used, and in versions that can be loaded together.

Other releases of kaldifst and kaldilm were built against another pybind11 than kaldi-hmm-gmm: whichever is imported
second then hangs for ever in the loader, without a word, or takes no FST of the other's. So versions are looked at
before anything is imported.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from thaw.errors import UserError, on_one_line

PINS = {"kaldi-hmm-gmm": "1.1.4", "kaldifst": "1.7.17", "kaldilm": "1.15.4", "kaldi-native-fbank": "1.23.0"}


def hmm() -> Any:
    """kaldi_hmm_gmm: topology, transitions, tree, alignment, decoder. UserError where it cannot be used."""
    return _load("kaldi_hmm_gmm")


def fst() -> Any:
    """kaldifst: OpenFst, and Kaldi's operations on it."""
    return _load("kaldifst")


def arpa() -> Any:
    """kaldilm: ARPA models as FSTs."""
    return _load("kaldilm")


def features() -> Any:
    """kaldi_native_fbank: Kaldi's features."""
    return _load("kaldi_native_fbank")


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the libraries print on standard error themselves, past Python, while the block runs."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


@cache
def _load(module: str) -> Any:
    for name, wanted in PINS.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            raise UserError(f"alignments need {name} {wanted}, which is not installed: run `make setup`") from None
        if found != wanted:
            raise UserError(
                f"{name} {found} is installed, but alignments need {wanted} (with others, Kaldi's packages hang or "
                "refuse each other's graphs): run `make setup`"
            )
    try:
        khg = importlib.import_module("kaldi_hmm_gmm")  # the oldest of them first: that order is the safest
        # Where they were built with different tools (not on x86-64 Linux), each takes its own graphs alone.
        khg.FasterDecoder(importlib.import_module("kaldifst").compile("0"), khg.FasterDecoderOptions())
        return importlib.import_module(module)
    except (ImportError, TypeError) as error:
        raise UserError(
            f"Kaldi's classes ({module}) cannot be used here: {on_one_line(str(error))[:200]}; alignments need x86-64 "
            "Linux, or macOS"
        ) from error
