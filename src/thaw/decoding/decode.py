"""One decode: a trained model × a manifest × a decoder -> hypotheses and a record of how they came about."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.config.decoders import BeamSpec, DecoderSpec, GreedySpec, HybridSpec, JointSpec, PerplexitySpec
from thaw.config.starts import BEST
from thaw.corpora.manifest import Utterance, read_manifest
from thaw.decoding.emissions import Features, LogProbs, Recogniser, emissions, load_recogniser, read_features
from thaw.decoding.greedy import greedy, tidy
from thaw.decoding.joint import joint
from thaw.decoding.perplexity import perplexity
from thaw.decoding.transducer import transduced
from thaw.errors import UserError
from thaw.models.transducer import Transducer
from thaw.training import environment
from thaw.units import EVERY

Decode = Callable[[LogProbs], str]

NO_WEIGHTS: dict[str, Any] = {"alpha": None, "beta": None, "tuning": None}  # of a language model: there is none


@dataclass(frozen=True)
class Decoder:
    """A function from log-probabilities (T, V) to text, and what the record says of it."""

    decode: Decode
    record: dict[str, Any]
    warnings: list[str]
    vocabulary: frozenset[str] | None  # the words it can give; None: any


def read_utterances(path: Path) -> list[Utterance]:
    """A manifest's utterances; UserError where there are none."""
    utterances = read_manifest(path)
    if not utterances:
        raise UserError(f"{path}: no utterances; see the table of rejects of this corpus")
    return utterances


def with_head(recogniser: Recogniser, utterances: Sequence[Utterance], manifest: Path) -> Recogniser:
    """The recogniser with the head for a manifest's utterances; UserError where languages have their own and none fits.

    A model with one head answers for whatever language.
    """
    langs = sorted({utterance.lang for utterance in utterances})
    if EVERY in recogniser.units:
        return recogniser
    if len(langs) > 1:
        raise UserError(f"{manifest}: utterances of {', '.join(langs)}, which have a head each: decode them one by one")
    return recogniser.speaking(langs[0])


def make_decoder(
    spec: GreedySpec | BeamSpec | HybridSpec,
    recogniser: Recogniser,
    lm: Path | None,
    lexicon: Path | None,
    tune_on: Path | None,
    graph: Path | None = None,
    alignment: Path | None = None,
) -> Decoder:
    """The decoder of `spec` for this model, its weights tuned on `tune_on` where the spec says so.

    Raises UserError where a file that it needs is not given.
    """
    if isinstance(spec, HybridSpec):
        return make_hybrid(spec, recogniser, graph, alignment, tune_on)
    if isinstance(spec, GreedySpec):
        units = recogniser.spelling
        return Decoder(lambda scores: greedy(scores, units), NO_WEIGHTS, [], None)
    if lm is None or lexicon is None:
        raise UserError("a beam decoder needs --lm and --lexicon (`thaw lm` makes both)")
    from thaw.decoding.beam import BeamDecoder  # only here: greedy decoding needs no flashlight-text

    beam = BeamDecoder(spec, recogniser.alphabet, lm, lexicon)
    alpha, beta, tuning, warnings = spec.alpha, spec.beta, None, []
    if spec.tune is not None:
        if tune_on is None:
            raise UserError("this decoder's weights are tuned on dev: give a manifest with --tune-on")
        from thaw.decoding.tuning import tune

        pairs = list(emissions(recogniser, read_features(recogniser, read_utterances(tune_on))))
        choice = tune(
            lambda a, b, count: [beam.search(a, b).nbest(scores, count) for _, scores in pairs],
            [utterance.text for utterance, _ in pairs],
            spec.tune,
            alpha,
            beta,
        )
        alpha, beta, tuning, warnings = choice.alpha, choice.beta, choice.record, choice.warnings
    search = beam.search(alpha, beta)
    record = {"alpha": alpha, "beta": beta, "tuning": tuning}
    return Decoder(lambda scores: search.nbest(scores)[0].text, record, warnings, beam.vocabulary)


def make_hybrid(
    spec: HybridSpec, recogniser: Recogniser, graph: Path | None, alignment: Path | None, tune_on: Path | None
) -> Decoder:
    """The decoder of tied states; UserError where a file that it needs is not given, or is of other states."""
    if graph is None or alignment is None:
        raise UserError("a hybrid needs --graph (`thaw graph` makes it) and --alignment, what the model learnt from")
    if spec.tunes and tune_on is None:
        raise UserError("this decoder's scales are tuned on dev: give a manifest with --tune-on")
    from thaw.decoding.hybrid import Hybrid, tune

    hybrid = Hybrid(spec, recogniser, graph, alignment)
    utterances = read_utterances(tune_on) if tune_on and spec.tunes else []
    pairs = list(emissions(recogniser, read_features(recogniser, utterances)))
    choice = tune(
        spec,
        lambda scale, prior_scale: [hybrid.text(scores, scale, prior_scale) for _, scores in pairs],
        [utterance.text for utterance, _ in pairs],
    )
    record = {"scale": choice.scale, "prior_scale": choice.prior_scale, "tuning": choice.record}
    return Decoder(
        lambda scores: hybrid.text(scores, choice.scale, choice.prior_scale),
        record,
        list(choice.warnings),
        hybrid.vocabulary,
    )


def decode(
    spec: DecoderSpec,
    model: Path,
    manifest: Path,
    *,
    snapshot: str = BEST,
    lm: Path | None = None,
    lexicon: Path | None = None,
    tune_on: Path | None = None,
    graph: Path | None = None,
    alignment: Path | None = None,
    threads: int = 1,
    device: str = "auto",
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of every utterance, sorted by id, and the record.

    Hypotheses are rows {id, speaker, reference, hypothesis}; what is judged otherwise has {id, speaker, counts}.
    """
    if isinstance(spec, PerplexitySpec):
        return perplexity(spec, model, manifest, snapshot=snapshot, threads=threads, device=device)
    began = time.perf_counter()
    utterances = read_utterances(manifest)
    recogniser = with_head(load_recogniser(model, device, threads, snapshot), utterances, manifest)
    decoder = (
        None if isinstance(spec, JointSpec) else make_decoder(spec, recogniser, lm, lexicon, tune_on, graph, alignment)
    )
    tuned = time.perf_counter()
    read = read_features(recogniser, utterances)
    if isinstance(spec, JointSpec):
        rows = as_rows(joint(spec, recogniser, read))
    elif isinstance(spec, GreedySpec):
        rows = greedily(recogniser, read)
    else:
        assert decoder is not None
        rows = hypotheses(decoder.decode, emissions(recogniser, read))
    if not isinstance(spec, HybridSpec) and spec.leave_out:
        rows = [without(spec.leave_out, row) for row in rows]
    ended = time.perf_counter()
    seconds = sum(u.samples for u in utterances) / 16000
    references, warnings = check_references(
        [u.text for u in utterances], recogniser.characters, decoder.vocabulary if decoder else None
    )
    record = {
        "decoder": spec.model_dump(mode="json"),
        **(decoder.record if decoder else NO_WEIGHTS),
        "utterances": len(utterances),
        "audio_seconds": round(seconds, 3),
        "references": references,
        "warnings": [*(decoder.warnings if decoder else []), *warnings],
        "environment": environment.record(recogniser.device, processes=1),
        "cost": {
            "seconds": round(ended - began, 3),
            "decode_seconds": round(ended - tuned, 3),
            "times_real_time": round(seconds / max(ended - tuned, 1e-9), 1),
        },
    }
    return rows, record


def greedily(
    recogniser: Recogniser, read: Iterable[tuple[list[Utterance], Features]], done: int = 0
) -> list[dict[str, str]]:
    """Rows of what greedy decoding gives of batches that `done` layers have made, see `as_rows`."""
    if isinstance(recogniser.model, Transducer):
        return as_rows(transduced(recogniser, read, done))
    units = recogniser.spelling
    return hypotheses(lambda scores: greedy(scores, units), emissions(recogniser, read, done))


def hypotheses(decode: Decode, scored: Iterable[tuple[Utterance, LogProbs]]) -> list[dict[str, str]]:
    """Rows of utterances with their log-probabilities, see `as_rows`."""
    return as_rows((utterance, decode(scores)) for utterance, scores in scored)


def as_rows(texts: Iterable[tuple[Utterance, str]]) -> list[dict[str, str]]:
    """Rows {id, speaker, reference, hypothesis} of utterances with what was recognised in them, sorted by id."""
    return [
        {"id": u.id, "speaker": u.speaker, "reference": u.text, "hypothesis": text}
        for u, text in sorted(texts, key=lambda pair: pair[0].id)
    ]


def without(characters: str, row: dict[str, str]) -> dict[str, str]:
    """A row whose reference and hypothesis lack these characters."""
    table = dict.fromkeys(map(ord, characters))
    return row | {key: tidy(row[key].translate(table)) for key in ("reference", "hypothesis")}


def check_references(
    texts: Sequence[str], characters: str | None, vocabulary: frozenset[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """What of the references no decoding could get right: characters beyond the alphabet, words beyond the lexicon.

    A model that writes words through a lexicon has no alphabet.
    """
    letters = set(characters or "")
    outside = [text for text in texts if characters is not None and not letters.issuperset(text)]
    facts: dict[str, Any] = {"outside_alphabet": len(outside), "oov_words": None, "oov_rate": None}
    warnings = []
    if outside:
        symbols = "".join(sorted(set("".join(outside)) - letters))
        warnings.append(
            f"{len(outside)} references contain symbols the decoder cannot emit: {symbols}; they count as errors"
        )
    if vocabulary is not None:
        words = [word for text in texts for word in text.split()]
        unknown = sum(word not in vocabulary for word in words)
        facts |= {"oov_words": unknown, "oov_rate": unknown / len(words) if words else 0.0}
    return facts, warnings
