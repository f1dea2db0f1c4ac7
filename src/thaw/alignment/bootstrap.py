"""A GMM-HMM from nothing but audio, text and a lexicon: flat start, monophones, then tied states in context.

Viterbi training as in Kaldi's recipes: paths are found anew now and then, statistics in every iteration, and Gaussians
are split until three quarters of the way. The likelihood per frame rises at every iteration; each is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thaw.alignment.acoustic import AcousticModel
from thaw.alignment.frames import frames_of
from thaw.alignment.gmm import Statistics, single, split, update
from thaw.alignment.lexicon import SILENCE, Lexicon
from thaw.alignment.share import Job, Workers
from thaw.alignment.tree import PLACES, ContextStats, grow, to_kaldi, without_context
from thaw.audio.wav import SAMPLE_RATE
from thaw.config.alignment import AlignmentSpec
from thaw.corpora.manifest import Utterance
from thaw.errors import UserError
from thaw.files import Reject
from thaw.randomness import rng, seed_of

Stage = Literal["monophone", "triphone"]
EVERY_ITERATION = 10  # of the monophones, paths are found anew in each
Row = dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """Where a training stands: all that the rest of it depends on. Taken before paths are found anew."""

    stage: Stage
    iteration: int  # the next one, from 1
    model: AcousticModel
    log: tuple[Row, ...] = ()


Keep = Callable[[Moment], None]


def usable(utterances: Sequence[Utterance], lexicon: Lexicon, split_name: str) -> tuple[list[Utterance], list[Reject]]:
    """The utterances that can have a path, and the others with the reason why not."""
    kept, rejects = [], []
    for each in utterances:
        if missing := lexicon.missing(each.text):
            rejects.append(_reject(each, split_name, "a word without a pronunciation", " ".join(missing)))
        elif (least := least_frames(each.text, lexicon)) > frames_of(each.samples):
            detail = f"required {least} frames, available {frames_of(each.samples)}"
            rejects.append(_reject(each, split_name, "shorter than its phones", detail))
        else:
            kept.append(each)
    return kept, rejects


def _reject(utterance: Utterance, split_name: str, reason: str, detail: str) -> Reject:
    return Reject(utterance.id, split_name, "align", reason, detail)


def least_frames(text: str, lexicon: Lexicon) -> int:
    """The fewest frames that the words of a text can take."""
    return PLACES * sum(min(map(len, lexicon.words[word])) for word in text.split())


def draw(utterances: Sequence[Utterance], hours: float, seed: int) -> list[Utterance]:
    """So many hours of utterances, drawn at random, in their own order; all where there are fewer."""
    order = rng(seed, "alignment", "draw").permutation(len(utterances))
    limit = hours * 3600 * SAMPLE_RATE
    total = np.cumsum([utterances[place].samples for place in order])
    kept = {int(place) for place, so_far in zip(order, total, strict=True) if so_far <= limit} or {int(order[0])}
    return [each for place, each in enumerate(utterances) if place in kept]


def bootstrap(
    spec: AlignmentSpec,
    utterances: Sequence[Utterance],
    lexicon: Lexicon,
    processes: int = 1,
    resume: Moment | None = None,
    keep: Keep = lambda moment: None,
) -> Moment:
    """Train on usable utterances. `keep` is given each moment that a killed training can go on from, by `resume`.

    The same data give the same model, bit for bit, on any number of processes. The last moment's iteration is one
    beyond the end. UserError where nothing is left to train on.
    """
    if not utterances:
        raise UserError("nothing to train the alignment on: no utterance of train can be aligned (see its rejects)")
    if resume and resume.stage == "triphone" and resume.iteration > spec.iterations:
        return resume
    chosen = draw(utterances, spec.hours, spec.seed)
    job = Job(tuple(chosen), _cut(lexicon, chosen), lexicon.phones, spec.seed)
    with Workers(job, processes) as workers:
        moment = resume or Moment("monophone", 1, _first_model(workers, lexicon))
        if moment.stage == "monophone":
            moment = _monophone(spec, workers, moment, _longest(chosen, spec.mono_hours), keep)
            keep(moment := Moment("triphone", 1, _in_context(spec, workers, moment.model), moment.log))
        workers.each("begin", moment.model, _whole(), False)
        return _iterate(spec, workers, moment, spec.iterations, spec.gaussians, keep)


def _cut(lexicon: Lexicon, utterances: Sequence[Utterance]) -> Lexicon:
    """The words that are used: training graphs are made from the whole lexicon."""
    words = {word for each in utterances for word in each.text.split()}
    return Lexicon({word: said for word, said in lexicon.words.items() if word in words})


def _longest(utterances: Sequence[Utterance], hours: float) -> int:
    """Samples: the shortest utterances up to this length make so many hours."""
    lengths = np.sort([each.samples for each in utterances])
    within = int(np.searchsorted(np.cumsum(lengths), hours * 3600 * SAMPLE_RATE, side="right"))
    return int(lengths[max(within, 1) - 1])


def _first_model(workers: Workers, lexicon: Lexicon) -> AcousticModel:
    """All states alike: the Gaussian of all frames."""
    count, total, squares = (sum(part) for part in zip(*workers.each("moments"), strict=True))
    phones = (SILENCE, *lexicon.phones)
    states = PLACES * len(phones)
    mean = total / count
    means, variances = np.tile(mean, (states, 1)), np.tile(squares / count - mean**2, (states, 1))
    return AcousticModel(phones, to_kaldi(without_context(len(phones))), np.zeros(0), single(means, variances))


def _monophone(spec: AlignmentSpec, workers: Workers, moment: Moment, longest: int, keep: Keep) -> Moment:
    workers.each("begin", moment.model, longest, moment.iteration == 1)
    if moment.iteration == 1:
        keep(moment)
    return _iterate(spec, workers, moment, spec.mono_iterations, spec.mono_gaussians, keep)


def _whole() -> int:
    return int(np.iinfo(np.int64).max)


def finds_paths(stage: Stage, iteration: int) -> bool:
    """Whether an iteration (from 1) begins with new paths; the monophones' first one has those of the flat start."""
    if stage == "monophone":
        return 1 < iteration <= EVERY_ITERATION or iteration % 2 == 0
    return iteration % 5 == 1


def _iterate(
    spec: AlignmentSpec, workers: Workers, moment: Moment, iterations: int, gaussians: int, keep: Keep
) -> Moment:
    """From a moment to the end of its stage."""
    model, log = moment.model, list(moment.log)
    begin = model.mixtures.num_states
    growing = max(1, iterations * 3 // 4)
    for iteration in range(moment.iteration, iterations + 1):
        if finds_paths(moment.stage, iteration):
            if iteration != moment.iteration:
                keep(Moment(moment.stage, iteration, model, tuple(log)))
            workers.each("align", model)
        statistics, transitions, occupancy, failed = _added(model, workers.each("accumulate", model))
        log.append(_row(moment.stage, iteration, model, statistics, failed))
        mixtures = update(model.mixtures, statistics)
        if iteration < growing:
            target = begin + (gaussians - begin) * iteration // max(1, growing - 1)
            seed = seed_of(spec.seed, moment.stage, iteration)
            mixtures = split(mixtures, occupancy, target, seed)
        model = replace(model, mixtures=mixtures, transitions=transitions)
    return Moment(moment.stage, iterations + 1, model, tuple(log))


def _added(model: AcousticModel, passes: Sequence[Any]) -> tuple[Statistics, Any, NDArray[np.float64], int]:
    total = Statistics.zero(model.mixtures)
    for each in passes:
        total.add(each.statistics)
    if not total.frames:
        raise UserError("no utterance could be aligned: are the texts those of the audio, the lexicon the language's?")
    transitions, occupancy = (sum(getattr(each, name) for each in passes) for name in ("transitions", "occupancy"))
    return total, transitions, occupancy, sum(each.failed for each in passes)


def _row(stage: Stage, iteration: int, model: AcousticModel, statistics: Statistics, failed: int) -> Row:
    return {
        "stage": stage,
        "iteration": iteration,
        "log_likelihood": statistics.log_likelihood / statistics.frames,  # per frame, nats, of the model before it
        "frames": statistics.frames,
        "failed": failed,  # utterances without a path
        "states": model.mixtures.num_states,
        "gaussians": model.mixtures.num_gaussians,
        "new_paths": finds_paths(stage, iteration),
    }


def _in_context(spec: AlignmentSpec, workers: Workers, model: AcousticModel) -> AcousticModel:
    """The tree, and a Gaussian for each of its leaves, from the paths of the monophones on all data."""
    workers.each("begin", model, _whole(), False)
    workers.each("align", model)
    stats = ContextStats.together(workers.each("context_stats", model))
    tree, leaves = grow(stats, len(model.phones), spec.leaves)
    whole = [each.sum(axis=0) for each in (stats.count, stats.sums, stats.squares)]
    means, variances = [], []
    for leaf in leaves:
        count, total, squares = (each.sum(axis=0) for each in (leaf.count, leaf.sums, leaf.squares))
        if not count:  # a phone of the lexicon that nobody said
            count, total, squares = whole
        means.append(total / count)
        variances.append(squares / count - (total / count) ** 2)
    mixtures = single(np.array(means), np.array(variances))
    return AcousticModel(model.phones, to_kaldi(tree), np.zeros(0), mixtures)
