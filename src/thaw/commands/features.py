"""thaw features: one audio file → the features a model reads, for a look."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "compute the features of one audio file (any format, rate and channels) and save them as .npy"
NUMPY = b"\x93NUMPY"  # what such a file begins with
EXAMPLE = "thaw features clip.mp3 --frontend deepspeech --out clip.npy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="MP3, FLAC, WAV or OGG")
    parser.add_argument("--frontend", default="deepspeech", help="name of the front end (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="written: float32 array (frames, features)")


def run(args: argparse.Namespace) -> None:
    """Convert, compute, save, print the shape."""
    import numpy as np

    from thaw.audio.convert import Unusable, convert
    from thaw.audio.wav import SAMPLE_RATE
    from thaw.config.schema import AudioSpec
    from thaw.errors import UserError
    from thaw.files import replacing, unlike
    from thaw.frontends import features

    if unlike(args.out, NUMPY):
        raise UserError(f"--out {args.out} is there and is no .npy file; nothing was written, give another name")
    try:
        pcm = convert(args.audio, AudioSpec(min_seconds=0.0, max_seconds=86400.0)).pcm
    except Unusable as unusable:
        raise UserError(f"{args.audio}: {unusable}") from unusable
    array = features(args.frontend, pcm)
    with replacing(args.out) as temporary, temporary.open("wb") as file:
        np.save(file, array)
    print(f"{args.out}: {array.shape[0]} frames × {array.shape[1]} features, {len(pcm) / SAMPLE_RATE:.3f} s")
