"""From log-probabilities to text, without the model: decoders, tuned on dev where they are to be, and their searches.

Nothing here imports torch: a search is a job of a CPU, beside which the GPU goes on with the next model, and it starts
in a fraction of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.config.decoders import BeamSpec, DecoderSpec, GreedySpec, HybridSpec
from thaw.corpora.manifest import Utterance
from thaw.decoding.emitted import DEV, SCORES, Held, LogProbs, Pass, Scored, Scores
from thaw.decoding.greedy import greedy, tidy
from thaw.decoding.rows import Row, as_rows, check_references, seconds_of
from thaw.decoding.spread import spread
from thaw.errors import UserError
from thaw.units import Alphabet, Units

if TYPE_CHECKING:
    from thaw.decoding.beam import Hypothesis

Decode = Callable[[LogProbs], str]
Dev = Callable[[], Scored]  # what a decoder is tuned on, made or read where it is needed

NO_WEIGHTS: dict[str, Any] = {"alpha": None, "beta": None, "tuning": None}  # of a language model: there is none


@dataclass(frozen=True)
class Decoder:
    """A function from log-probabilities (T, V) to text, and what the record says of it."""

    decode: Decode
    record: dict[str, Any] = field(default_factory=lambda: NO_WEIGHTS)
    warnings: list[str] = field(default_factory=list)
    vocabulary: frozenset[str] | None = None  # the words it can give; None: any


@dataclass(frozen=True)
class Files:
    """What a decoder may read beside log-probabilities."""

    lm: Path | None = None
    lexicon: Path | None = None
    graph: Path | None = None
    alignment: Path | None = None


def characters_of(units: Units) -> str | None:
    """All that a head with these units can write; None where its classes are no characters."""
    return units.characters if isinstance(units, Alphabet) else None


# --- decoders ---------------------------------------------------------------------------------------------------------


def make_decoder(
    spec: GreedySpec | BeamSpec | HybridSpec, units: Units, files: Files, dev: Dev | None = None, processes: int = 1
) -> Decoder:
    """The decoder of `spec` for a head with these units, its weights tuned on `dev` where the spec says so.

    Raises UserError where a file that it needs is not given.
    """
    match spec:
        case GreedySpec():
            return Decoder(lambda scores: greedy(scores, units))
        case BeamSpec():
            return make_beam(spec, units, files, dev, processes)
        case HybridSpec():
            return make_hybrid(spec, units, files, dev, processes)


def make_beam(spec: BeamSpec, units: Units, files: Files, dev: Dev | None, processes: int) -> Decoder:
    """Beam search with a lexicon; UserError where a file is not given, or the units are no characters."""
    if files.lm is None or files.lexicon is None:
        raise UserError("a beam decoder needs --lm and --lexicon (`thaw lm` makes both)")
    if not isinstance(units, Alphabet):
        raise UserError(f"a beam search with a lexicon needs characters, not {units.describe()}; take greedy")
    from thaw.decoding.beam import BeamDecoder  # only here: greedy decoding needs no flashlight-text

    beam = BeamDecoder(spec, units, files.lm, files.lexicon)
    alpha, beta, tuning, warnings = spec.alpha, spec.beta, None, []
    if spec.tune is not None:
        if dev is None:
            raise UserError("this decoder's weights are tuned on dev: give a manifest with --tune-on")
        from thaw.decoding.tuning import tune

        scored = dev()

        def lists(alpha: float, beta: float, count: int) -> list[list[Hypothesis]]:
            search = beam.search(alpha, beta)
            return spread(lambda pair: search.nbest(pair[1], count), scored, processes)

        choice = tune(lists, [utterance.text for utterance in scored.utterances], spec.tune, alpha, beta)
        alpha, beta, tuning, warnings = choice.alpha, choice.beta, choice.record, choice.warnings
    search = beam.search(alpha, beta)
    record = {"alpha": alpha, "beta": beta, "tuning": tuning}
    return Decoder(lambda scores: search.nbest(scores)[0].text, record, warnings, beam.vocabulary)


def make_hybrid(spec: HybridSpec, units: Units, files: Files, dev: Dev | None, processes: int) -> Decoder:
    """The decoder of tied states; UserError where a file that it needs is not given, or is of other states."""
    if files.graph is None or files.alignment is None:
        raise UserError("a hybrid needs --graph (`thaw graph` makes it) and --alignment, what the model learnt from")
    if spec.tunes and dev is None:
        raise UserError("this decoder's scales are tuned on dev: give a manifest with --tune-on")
    from thaw.decoding.hybrid import Hybrid, tune

    hybrid = Hybrid(spec, units, files.graph, files.alignment)
    scored = dev() if dev and spec.tunes else Held([])
    choice = tune(
        spec,
        lambda scale, prior: spread(lambda pair: hybrid.text(pair[1], scale, prior), scored, processes),
        [utterance.text for utterance in scored.utterances],
    )
    record = {"scale": choice.scale, "prior_scale": choice.prior_scale, "tuning": choice.record}
    return Decoder(
        lambda scores: hybrid.text(scores, choice.scale, choice.prior_scale),
        record,
        list(choice.warnings),
        hybrid.vocabulary,
    )


# --- searches ---------------------------------------------------------------------------------------------------------


def search(
    spec: GreedySpec | BeamSpec | HybridSpec,
    passed: Pass,
    manifest: Path,
    files: Files,
    tune_on: Path | None = None,
    processes: int = 1,
) -> tuple[list[Row], dict[str, Any]]:
    """Rows of every utterance of a pass, sorted by id, and the record: the same with any number of processes."""
    began = time.perf_counter()
    utterances = passed.utterances(manifest)
    units = passed.units
    if isinstance(spec, GreedySpec):
        decoder = Decoder(lambda scores: greedy(scores, units))
        tuned = time.perf_counter()
        labels = passed.labels(utterances)
        texts = [(each, tidy(units.decode(labels[each.id]))) for each in utterances]
    else:

        def dev() -> Scored:
            assert tune_on is not None
            if tune_on == manifest:
                return Scores(passed.folder / SCORES, utterances)
            return Scores(passed.folder / DEV, passed.utterances(tune_on, "dev"))

        decoder = make_decoder(spec, units, files, dev if tune_on else None, processes)
        tuned = time.perf_counter()
        scored = Scores(passed.folder / SCORES, utterances)
        found = spread(lambda pair: decoder.decode(pair[1]), scored, processes)
        texts = list(zip(scored.utterances, found, strict=True))
    rows = as_rows(texts, leave_out_of(spec))
    seconds = tuned - began, time.perf_counter() - tuned
    record = record_of(spec, decoder, units, utterances, seconds, passed.record["environment"])
    record["emissions"] = {key: passed.record[key] for key in ("passes", "cost")}
    record["cost"]["processes"] = processes
    return rows, record


def leave_out_of(spec: GreedySpec | BeamSpec | HybridSpec) -> str:
    """The characters that a decoder leaves out of its rows."""
    return "" if isinstance(spec, HybridSpec) else spec.leave_out


def record_of(
    spec: DecoderSpec,
    decoder: Decoder | None,
    units: Units,
    utterances: Sequence[Utterance],
    seconds: tuple[float, float],
    environment: dict[str, Any],
) -> dict[str, Any]:
    """What is said of a decode; `seconds` of processing before the split itself was decoded, and for it.

    A joint search has no decoder without the model. `environment` is that of the model.
    """
    vocabulary = decoder.vocabulary if decoder else None
    audio = seconds_of(utterances)
    references, warnings = check_references([u.text for u in utterances], characters_of(units), vocabulary)
    return {
        "decoder": spec.model_dump(mode="json"),
        **(decoder.record if decoder else NO_WEIGHTS),
        "utterances": len(utterances),
        "audio_seconds": round(audio, 3),
        "references": references,
        "warnings": [*(decoder.warnings if decoder else []), *warnings],
        "environment": environment,
        "cost": {
            "seconds": round(sum(seconds), 3),
            "decode_seconds": round(seconds[1], 3),
            "times_real_time": round(audio / max(seconds[1], 1e-9), 1),
        },
    }
