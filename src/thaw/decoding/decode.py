"""With the model: one decode from weights to text, and one pass that leaves emissions for any number of decoders."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from thaw.config.decoders import DecoderSpec, GreedySpec, JointSpec, PerplexitySpec
from thaw.config.starts import BEST
from thaw.corpora.manifest import Utterance, manifest_sha256
from thaw.decoding.emissions import Features, Recogniser, batches, emissions, load_recogniser, read_features
from thaw.decoding.emitted import DEV, LABELS, SCORES, VERSION, Held, LogProbs, write_scores
from thaw.decoding.greedy import collapse, greedy
from thaw.decoding.joint import joint
from thaw.decoding.perplexity import perplexity
from thaw.decoding.rows import Row, as_rows, read_utterances, seconds_of
from thaw.decoding.searching import Decode, Files, leave_out_of, make_decoder, record_of
from thaw.decoding.transducer import transduced
from thaw.errors import UserError
from thaw.files import remove, write_json, write_jsonl
from thaw.models.transducer import Transducer
from thaw.training import environment
from thaw.units import EVERY, States


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


# --- one decode -------------------------------------------------------------------------------------------------------


def decode(
    spec: DecoderSpec,
    model: Path,
    manifest: Path,
    *,
    snapshot: str = BEST,
    files: Files | None = None,
    tune_on: Path | None = None,
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

    def dev() -> Held:
        assert tune_on is not None
        return Held(emissions(recogniser, read_features(recogniser, read_utterances(tune_on))))

    decoder = None
    if not isinstance(spec, JointSpec):
        decoder = make_decoder(spec, recogniser.spelling, files or Files(), dev if tune_on else None)
    tuned = time.perf_counter()
    read = read_features(recogniser, utterances)
    if isinstance(spec, JointSpec):
        rows = as_rows(joint(spec, recogniser, read), spec.leave_out)
    elif isinstance(spec, GreedySpec):
        rows = greedily(recogniser, read, leave_out=spec.leave_out)
    else:
        assert decoder is not None
        rows = hypotheses(decoder.decode, emissions(recogniser, read), leave_out_of(spec))
    seconds = tuned - began, time.perf_counter() - tuned
    facts = environment.record(recogniser.device, processes=1)
    return list(rows), record_of(spec, decoder, recogniser.spelling, utterances, seconds, facts)


def greedily(
    recogniser: Recogniser, read: Iterable[tuple[list[Utterance], Features]], done: int = 0, leave_out: str = ""
) -> list[Row]:
    """Rows of what greedy decoding gives of batches that `done` layers have made, see `as_rows`."""
    if isinstance(recogniser.model, Transducer):
        return as_rows(transduced(recogniser, read, done), leave_out)
    units = recogniser.spelling
    return hypotheses(lambda scores: greedy(scores, units), emissions(recogniser, read, done), leave_out)


def hypotheses(decode: Decode, scored: Iterable[tuple[Utterance, LogProbs]], leave_out: str = "") -> list[Row]:
    """Rows of utterances with their log-probabilities, see `as_rows`."""
    return as_rows(((utterance, decode(scores)) for utterance, scores in scored), leave_out)


# --- one pass ---------------------------------------------------------------------------------------------------------


def emit(
    model: Path,
    manifest: Path,
    record: Path,
    *,
    snapshot: str = BEST,
    scores: bool = False,
    tune_on: Path | None = None,
    threads: int = 1,
    device: str = "auto",
) -> None:
    """One pass of a model over a split: `record` and, beside it, what `thaw.decoding.emitted` describes.

    Log-probabilities are kept where `scores` asks for them; of `tune_on`, too, which is another pass. What lay there is
    of another pass, and goes first, its record before all else: whatever ends this one, nobody takes the two for one.
    UserError of a model that has none: a transducer, a language model.
    """
    began = time.perf_counter()
    utterances = read_utterances(manifest)
    recogniser = with_head(load_recogniser(model, device, threads, snapshot), utterances, manifest)
    for name in (record.name, LABELS, SCORES, DEV):
        remove(record.with_name(name))
    labels: dict[str, list[int]] = {}
    passes = {"split": 0, "dev": 0}

    def passed(which: str, over: Sequence[Utterance]) -> Iterator[LogProbs]:
        passes[which] += 1
        for utterance, each in emissions(recogniser, read_features(recogniser, over)):
            if which == "split":
                labels[utterance.id] = best_path(recogniser, each)
            yield each

    def keep(which: str, name: str, over: Sequence[Utterance]) -> None:
        ids = [utterance.id for batch in batches(over) for utterance in batch]
        write_scores(record.with_name(name), ids, recogniser.classes, passed(which, over))

    if scores:
        keep("split", SCORES, utterances)
    else:
        for _ in passed("split", utterances):
            pass
    if tune_on:
        keep("dev", DEV, read_utterances(tune_on))
    write_jsonl(record.with_name(LABELS), ({"id": id, "labels": labels[id]} for id in sorted(labels)))
    seconds = time.perf_counter() - began
    facts = {
        "emissions": VERSION,
        "snapshot": snapshot,
        "units": recogniser.spelling.plain(),
        "manifests": {"split": manifest_sha256(manifest)} | ({"dev": manifest_sha256(tune_on)} if tune_on else {}),
        "passes": {which: count for which, count in passes.items() if count},
        "utterances": len(utterances),
        "audio_seconds": round(seconds_of(utterances), 3),
        "environment": environment.record(recogniser.device, processes=1),
        "cost": {"seconds": round(seconds, 3)},
    }
    write_json(record, facts)


def best_path(recogniser: Recogniser, scores: LogProbs) -> list[int]:
    """The labels of the likeliest class of every frame (T, V); none of tied states, which are no text."""
    units = recogniser.spelling
    return [] if isinstance(units, States) else collapse(scores.argmax(axis=-1), units.size)
