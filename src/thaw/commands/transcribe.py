"""thaw transcribe: a trained run, audio files → text on the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.commands.options import computing_in, count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from thaw.config.decoders import BeamSpec, GreedySpec, JointSpec

HELP = "transcribe audio files with a trained run: one line of file, tab, text for each"
EXAMPLE = "thaw transcribe german-frozen-2 hello.mp3 interview.flac"

MODEL = "model.safetensors"
SHOWN = 8  # runs listed where a name fits several or none
MAX_SECONDS = 600.0  # a recogniser trained on sentences has no use for more at once, and memory grows with it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "run_name", metavar="RUN", help="a run in results/runs (the beginning of its name is enough), or a path"
    )
    parser.add_argument(
        "audio", metavar="AUDIO", nargs="+", type=Path, help="WAV, FLAC, MP3, Ogg …, at any sampling rate"
    )
    parser.add_argument("--decoder", help="a DecoderSpec as JSON (default: greedy, or beam search where --lm is given)")
    parser.add_argument("--lm", type=Path, help="KenLM binary, for beam search")
    parser.add_argument("--lexicon", type=Path, help="its lexicon (default: lexicon.txt beside it)")
    parser.add_argument("--threads", type=count, default=1, help="CPU threads (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="default: %(default)s")


def find_model(name: str, runs: Path) -> Path:
    """The model file that `name` means: a path to it or to its folder, a run in `runs`, or the start of one run's name.

    Raises UserError with the candidates where that is no run or several.
    """
    from thaw.errors import UserError

    for path in (Path(name), Path(name) / MODEL, runs / name / MODEL):
        if path.is_file():
            return path
    there = sorted(path.parent.name for path in runs.glob(f"*/{MODEL}"))
    fitting = [run for run in there if run.startswith(name)]
    if len(fitting) == 1:
        return runs / fitting[0] / MODEL
    if fitting:
        raise UserError(f"{name} is the beginning of {len(fitting)} runs: {_listed(fitting)}; type more of the name")
    if there:
        raise UserError(f"no run is called {name}; in {runs} there are: {_listed(there)}")
    raise UserError(f"no run is called {name}, and {runs} has no finished run: `make study` trains some")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def run(args: argparse.Namespace) -> None:
    """Transcribe file after file; those that cannot be read are named at the end."""
    computing_in(args.threads)
    from thaw.config.decoders import JointSpec
    from thaw.decoding import joint, transducer
    from thaw.decoding.emissions import load_recogniser
    from thaw.decoding.searching import Files, make_decoder
    from thaw.errors import UserError
    from thaw.models.transducer import Transducer
    from thaw.planning import layout

    spec = _decoder_spec(args.decoder, args.lm)
    lexicon = args.lexicon or (args.lm and args.lm.with_name("lexicon.txt"))
    recogniser = load_recogniser(find_model(args.run_name, Path(layout.RUNS)), args.device, args.threads)
    decoder = None if isinstance(spec, JointSpec) else make_decoder(spec, recogniser.spelling, Files(args.lm, lexicon))
    failures = []
    for path in args.audio:
        try:
            pcm = _pcm(path)
        except UserError as error:
            failures.append(str(error))
            continue
        if isinstance(spec, JointSpec):
            (text,) = joint.texts(spec, recogniser, recogniser.batch([pcm]))
        elif isinstance(recogniser.model, Transducer):
            (text,) = transducer.texts(recogniser, recogniser.batch([pcm]))
        else:
            assert decoder is not None
            text = decoder.decode(*recogniser.log_probs([pcm]))
        print(f"{path}\t{text}", flush=True)
    if failures:
        raise UserError("\n".join(failures))


def _decoder_spec(given: str | None, lm: Path | None) -> GreedySpec | BeamSpec | JointSpec:
    """The decoder asked for, without tuning, since there is no dev set here."""
    from pydantic import TypeAdapter

    from thaw.config.decoders import BeamSpec, DecoderSpec, GreedySpec, JointSpec
    from thaw.errors import UserError

    if given is None:
        return GreedySpec(kind="greedy") if lm is None else BeamSpec(kind="beam")
    spec = TypeAdapter[DecoderSpec](DecoderSpec).validate_json(given)
    if not isinstance(spec, BeamSpec | GreedySpec | JointSpec):
        raise UserError(f"--decoder: {spec.kind} is for the splits of a study; give greedy, beam or joint")
    return spec.model_copy(update={"tune": None}) if isinstance(spec, BeamSpec) else spec


def _pcm(path: Path) -> NDArray[np.int16]:
    """16 kHz mono int16 samples of a file; UserError names the file and the reason."""
    from thaw.audio.convert import Unusable, convert
    from thaw.config.schema import AudioSpec
    from thaw.errors import UserError

    try:
        return convert(path, AudioSpec(min_seconds=0.0, max_seconds=MAX_SECONDS)).pcm
    except Unusable as error:
        detail = f" ({error.detail})" if error.detail not in ("", path.name) else ""
        raise UserError(f"{path}: {error.reason}{detail}") from error
