"""What a plan will take: jobs, disk, hours of audio, hours of computing. Pure: nothing is read, timed or written here.

All but the counts is an estimate. Rates of training and inference come from a `Calibration` of one machine; the other
rates are those that the benchmarks in bench/ printed on a 2-core virtual machine, and are named beside each constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import fsum

from thaw.config.awd_lstm import AwdLstmSpec
from thaw.config.decoders import BeamSpec
from thaw.config.learners import FederatedSpec
from thaw.config.models import ModelSpec
from thaw.config.sources import Split, SyntheticSource
from thaw.config.starts import BEST
from thaw.planning.alignments import Alignment, GmmDecode
from thaw.planning.amounts import NO_TERMS, Amount, Quantity, total
from thaw.planning.artifacts import Decode, Run
from thaw.planning.calibration import Calibration, Setting, freeze_key, setting_of
from thaw.planning.corpora import Corpus, Manifest
from thaw.planning.emissions import Emission, asks_the_model, kept
from thaw.planning.federated import speakers_of
from thaw.planning.plan import Plan

# --- rates ------------------------------------------------------------------------------------------------------------

SYNTHETIC_MP3_RATE = 9_400  # bytes per second of synthesised speech as MP3
SYNTHESIS_SPEED = 65  # × real time per core, MP3 included
PCM_RATE = 32_000  # bytes per second: 16 kHz, int16
CONVERSION_SPEED = {"soundfile": 1_300, "sox": 430}  # × real time per core (bench/audio.py)
LISTING_ROW, INDEX_ROW, MANIFEST_ROW, HYPOTHESIS_ROW, COUNTS_ROW = 330, 150, 470, 220, 130  # bytes
ROWS_PER_SECOND = 25_000  # that the manifest room joins, normalises and writes (bench/release.py)
BEAM_SPEED = 13_000  # × real time per core, times the beam: 132 × at beam 100, 23 × at 500 (bench/decoding.py)
ALIGNMENT_SPEED = 1_500  # × real time per core, of one iteration of a bootstrap (bench/alignment.py)
ALIGNMENT_RATE = 1_000_000  # bytes per hour of audio: runs of states and phones
GMM_SPEED = 60  # × real time per core, of a GMM's recognition (bench/alignment.py)
WEIGHT = 4  # bytes per parameter, fp32
MOMENTS = {"adam-tf": 8, "adam": 8, "adamw": 8, "adadelta": 8}
MOMENTS |= dict.fromkeys(("novograd", "adagrad", "asgd", "nt-asgd", "sgd"), 4)
# bytes per parameter, of an optimiser's slots; sgd has one with momentum alone
COPIES = 2  # of a finished run: its outputs, and those in its state folder until `thaw gc`

# --- what comes out ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What the jobs of one rule take. `device_hours` are in the calibration's unit, `cpu_hours` of any core."""

    rule: str
    jobs: int
    disk: Quantity = NO_TERMS  # bytes
    audio: Quantity = NO_TERMS  # hours read, or gone through
    cpu_hours: Quantity = NO_TERMS
    device_hours: Quantity = NO_TERMS


def estimate(
    plan: Plan, amounts: Mapping[str, Amount | None], exhibits: Iterable[str], calibration: Calibration | None
) -> list[Line]:
    """One line per rule, in the order of the workflow. `amounts`: by id of manifest; `exhibits`: their names."""
    by_audio = {m.corpus.audio_id: amounts[m.id] for m in plan.manifests.values()}
    by_source = {m.corpus.source_id: amounts[m.id] for m in plan.manifests.values()}
    names = list(exhibits)
    lines = [
        _fetch([(corpus, by_source[i]) for i, corpus in plan.sources.items()]),
        _audio([(corpus, by_audio[i]) for i, corpus in plan.audio.items()]),
        _manifest([amounts[i] for i in plan.manifests]),
        Line("lm", len(plan.lms), disk=total(None for _ in plan.lms)),
        Line("lexicon", len(plan.lexicons), disk=total(None for _ in plan.lexicons)),
        _align(list(plan.alignments.values()), amounts),
        Line("graph", len(plan.graphs), disk=total(None for _ in plan.graphs)),
        _gmm(list(plan.gmms.values()), amounts),
        Line("units", len(plan.units), disk=total(None for _ in plan.units)),
        Line("checkpoint", len(plan.checkpoints), disk=total(_checkpoint_bytes(plan))),
        _train(list(plan.runs.values()), amounts, calibration),
        _emit(plan, amounts, calibration),
        _search([one for one in plan.decodes.values() if not asks_the_model(one)], amounts),
        _decode([one for one in plan.decodes.values() if asks_the_model(one)], amounts, calibration),
        _score([*plan.decodes.values(), *plan.gmms.values()], amounts),
        Line("table", sum(name.startswith("table") for name in names)),
        Line("figure", sum(name.startswith("figure") for name in names)),
        Line("report", 1),
    ]
    return [line for line in lines if line.jobs]


def in_all(lines: Iterable[Line]) -> Line:
    """The sum of lines; hours of audio are left out, since each rule goes through the same ones."""
    whole = Line("in all", 0)
    for line in lines:
        whole = Line(
            "in all",
            whole.jobs + line.jobs,
            whole.disk + line.disk,
            Quantity(),
            whole.cpu_hours + line.cpu_hours,
            whole.device_hours + line.device_hours,
        )
    return whole


Corpora = list[tuple[Corpus, Amount | None]]


def _hours(amounts: Iterable[Amount | None]) -> Quantity:
    return total(found.hours if found else None for found in amounts)


def _fetch(corpora: Corpora) -> Line:
    made = [(found, isinstance(corpus.spec.source, SyntheticSource)) for corpus, found in corpora]
    return Line(
        "fetch",
        len(corpora),
        # Files that the user has stay where they are; what a download or an archive weighs is not known before.
        total(f.utterances * LISTING_ROW + s * f.hours * 3600 * SYNTHETIC_MP3_RATE if f else None for f, s in made),
        _hours(found for _, found in corpora),
        total(found.hours / SYNTHESIS_SPEED if found else None for found, synthetic in made if synthetic),
    )


def _audio(corpora: Corpora) -> Line:
    speeds = [(found, CONVERSION_SPEED[corpus.spec.audio.backend]) for corpus, found in corpora]
    return Line(
        "audio",
        sum(corpus.shards for corpus, _ in corpora),
        total(f.hours * 3600 * PCM_RATE + f.utterances * INDEX_ROW if f else None for f, _ in speeds),
        _hours(found for _, found in corpora),
        total(found.hours / speed if found else None for found, speed in speeds),
    )


def _manifest(amounts: list[Amount | None]) -> Line:
    return Line(
        "manifest",
        len(amounts),
        total(found.utterances * MANIFEST_ROW if found else None for found in amounts),
        _hours(amounts),
        total(found.utterances / ROWS_PER_SECOND / 3600 if found else None for found in amounts),
    )


def _align(alignments: list[Alignment], amounts: Mapping[str, Amount | None]) -> Line:
    pairs = [(one, amounts[one.data.manifest.id]) for one in alignments]
    return Line(
        "align",
        len(pairs),
        total(found.hours * ALIGNMENT_RATE if found else None for _, found in pairs),
        _hours(found for _, found in pairs),
        total(_align_hours(one, found) if found else None for one, found in pairs),
    )


def _align_hours(one: Alignment, found: Amount) -> float:
    """Hours of a core: all is aligned once, a part again and again, and a part of that by the monophones first."""
    spec = one.spec
    trained = min(spec.hours, _of(found, "train"))
    passes = trained * spec.iterations + min(spec.mono_hours, trained) * spec.mono_iterations
    return (found.hours + passes) / ALIGNMENT_SPEED


def _gmm(decodes: list[GmmDecode], amounts: Mapping[str, Amount | None]) -> Line:
    pairs = [(one, amounts[one.manifest.id]) for one in decodes]
    heard = [
        _of(found, one.split) + (_of(found, "dev") * len(one.spec.scales) if one.tunes else 0.0) if found else None
        for one, found in pairs
    ]
    return Line(
        "gmm",
        len(pairs),
        total(found.parts[one.split].utterances * HYPOTHESIS_ROW if found else None for one, found in pairs),
        total(heard),
        total(None if hours is None else hours / GMM_SPEED for hours in heard),
    )


def _checkpoint_bytes(plan: Plan) -> Iterator[float]:
    for checkpoint in plan.checkpoints.values():
        layers = layer_parameters(checkpoint.model, len(checkpoint.alphabet) + 1)
        moments = MOMENTS["adam-tf"] if checkpoint.spec.kind == "deepspeech-tf" else 0  # NeMo releases none
        yield (WEIGHT + moments) * sum(layers.values())


def _train(runs: list[Run], amounts: Mapping[str, Amount | None], calibration: Calibration | None) -> Line:
    found = [amounts[run.manifest.id] for run in runs]
    return Line(
        "train",
        len(runs),
        total(run_bytes(run) for run in runs),
        total(gone_through(run, a) for run, a in zip(runs, found, strict=True)),
        device_hours=total(train_hours(run, a, calibration) for run, a in zip(runs, found, strict=True)),
    )


def _emit(plan: Plan, amounts: Mapping[str, Amount | None], calibration: Calibration | None) -> Line:
    """One pass over each split of each snapshot, however many decoders read it; those of tied states do not stay."""
    need = kept(plan.decodes.values())
    pairs = [(one, amounts[one.manifest.id]) for one in plan.emissions.values()]
    hours = [_of(a, one.split) + (_of(a, "dev") if one.id in need.dev else 0.0) if a else None for one, a in pairs]
    return Line(
        "emit",
        len(pairs),
        total(
            None if heard is None or (rate := emission_rate(one)) is None else heard * 3600 * rate
            for (one, _), heard in zip(pairs, hours, strict=True)
            if one.id in need.scores - need.states
        ),
        total(hours),
        device_hours=total(
            _forward_hours(one.run, heard, calibration) for (one, _), heard in zip(pairs, hours, strict=True)
        ),
    )


def emission_rate(one: Emission) -> float | None:
    """Bytes of log-probabilities of a second: frames times classes, float32; None where classes are counted."""
    if one.run.units:
        return None
    heads = one.run.recipe.heads or {one.manifest.language: one.run.recipe.alphabet}
    seconds = 100
    return (
        one.run.recipe.model.frames(seconds * PCM_RATE // 2)
        / seconds
        * (len(heads[one.manifest.language]) + 1)
        * WEIGHT
    )


def _search(decodes: list[Decode], amounts: Mapping[str, Amount | None]) -> Line:
    pairs = [(decode, amounts[decode.manifest.id]) for decode in decodes]
    return Line(
        "search",
        len(decodes),
        total(a.parts[one.split].utterances * HYPOTHESIS_ROW if a else None for one, a in pairs),
        total(decoded_hours(one, a) if a else None for one, a in pairs),
        total(
            decoded_hours(one, a) * one.spec.beam / BEAM_SPEED if a else None
            for one, a in pairs
            if isinstance(one.spec, BeamSpec)
        ),
    )


def _decode(decodes: list[Decode], amounts: Mapping[str, Amount | None], calibration: Calibration | None) -> Line:
    pairs = [(decode, amounts[decode.manifest.id]) for decode in decodes]
    hours = [decoded_hours(decode, a) if a else None for decode, a in pairs]
    return Line(
        "decode",
        len(decodes),
        total(a.parts[one.split].utterances * HYPOTHESIS_ROW if a else None for one, a in pairs),
        total(hours),
        device_hours=total(
            _forward_hours(one.run, heard, calibration) for (one, _), heard in zip(pairs, hours, strict=True)
        ),
    )


def _score(decodes: Sequence[Decode | GmmDecode], amounts: Mapping[str, Amount | None]) -> Line:
    found = [amounts[decode.manifest.id] for decode in decodes]
    return Line("score", len(decodes), total(a.parts["test"].utterances * COUNTS_ROW if a else None for a in found))


def _of(found: Amount, *splits: Split) -> float:
    """The hours of some splits."""
    return fsum(found.parts[split].hours for split in splits if split in found.parts)


def decoded_hours(decode: Decode, found: Amount) -> float:
    """Hours that a decode goes through: its split, and dev before it where it tunes."""
    return _of(found, decode.split) + (_of(found, "dev") if decode.tunes else 0.0)


def _forward_hours(run: Run, heard: float | None, calibration: Calibration | None) -> float | None:
    timing = calibration.timing(run) if calibration else None
    return heard * timing.forward if timing and heard is not None else None


def train_hours(run: Run, found: Amount | None, calibration: Calibration | None) -> float | None:
    """Hours of computing of one training, all epochs, dev after each; None where something is unknown.

    Early stopping is not foreseen. Padding, features, error rates and checkpoints are left out: a mini run on a CPU
    took 26 s where this says 19.
    """
    timing = calibration.timing(run) if calibration else None
    step = timing.steps.get(freeze_key(run.recipe.freeze)) if timing else None
    if timing is None or step is None or found is None:
        return None
    trained = trained_hours(run, found)
    return None if trained is None else trained * step + run.recipe.recipe.epochs * _of(found, "dev") * timing.forward


def trained_hours(run: Run, found: Amount) -> float | None:
    """Hours of audio that all epochs train on; of a federation, those of its cohorts, where its speakers are known."""
    recipe = run.recipe.recipe
    if not isinstance(recipe.learner, FederatedSpec):
        return recipe.epochs * _of(found, "train")
    speakers = speakers_of(run.manifest.corpus.spec.source)
    times = recipe.learner.clients * recipe.learner.rounds * recipe.learner.local_epochs
    return recipe.epochs * times / speakers * _of(found, "train") if speakers else None


def gone_through(run: Run, found: Amount | None) -> float | None:
    """The same, and those of dev."""
    trained = trained_hours(run, found) if found else None
    return None if found is None or trained is None else trained + run.recipe.recipe.epochs * _of(found, "dev")


def run_bytes(run: Run) -> float | None:
    """Bytes that a finished run leaves: weights, and the optimiser's moments of what was trained."""
    from thaw.tasks import tasks_for  # it imports torch
    from thaw.units import units_of

    recipe = run.recipe
    if run.units or run.alignments:  # how many classes there are is known when they have been counted
        return None
    classes = {lang: task.classes for lang, task in tasks_for(recipe.recipe.task, units_of(recipe)).items()}
    layers = layer_parameters(recipe.model, tuple(classes.items()))
    trained = sum(count for name, count in layers.items() if name not in recipe.freeze)
    files = len({*recipe.recipe.snapshots, BEST})
    return COPIES * (WEIGHT * files * sum(layers.values()) + MOMENTS[recipe.recipe.optimizer] * trained)


@cache
def layer_parameters(spec: ModelSpec, classes: int | tuple[tuple[str, int], ...]) -> Mapping[str, int]:
    """Parameters of each layer, with V of the head or of each language's; built without memory for them."""
    import torch

    from thaw.models import build

    with torch.device("meta"):
        model = build(spec, classes if isinstance(classes, int) else dict(classes))
    return {name: sum(p.numel() for p in model.layer(name).parameters()) for name in model.layers}


def calibrated_sets(plan: Plan) -> dict[Setting, set[str]]:
    """What a calibration of a plan times: every setting, and the freeze sets of its runs."""
    wanted: dict[Setting, set[str]] = {}
    for run in plan.runs.values():
        if isinstance(run.recipe.model, AwdLstmSpec):  # its steps are of text, which has no length in seconds
            continue
        wanted.setdefault(setting_of(run), set()).add(freeze_key(run.recipe.freeze))
    return wanted


def told(manifest: Manifest, found: Amount | None) -> str:
    """One line about a corpus."""
    name = manifest.corpus.name
    if found is None:
        return f"{name}: unknown before it is fetched"
    parts = ", ".join(f"{split} {part.utterances:,}" for split, part in found.parts.items())
    return f"{name}: {parts} utterances, {found.hours:.1f} h ({found.origin})"
