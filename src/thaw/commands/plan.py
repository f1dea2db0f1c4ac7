"""`thaw plan`: what a config will take, before anything runs; `--calibrate` times this machine first."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from thaw.commands.options import DEFAULT_CONFIG, count

if TYPE_CHECKING:
    import torch

    from thaw.config.sources import OwnSource, Source, Split
    from thaw.planning.amounts import Amount
    from thaw.planning.calibration import Calibration, Setting, Timing
    from thaw.planning.corpora import Manifest
    from thaw.planning.estimate import Line
    from thaw.planning.plan import Plan

HELP = "estimate what a config will take: jobs, disk, hours of audio, hours of computing"
EXAMPLE = "thaw plan --config config/paper.yaml --calibrate"

CALIBRATION = Path("results/calibration.json")
STEPS = 3  # that are timed, after one that is not
CLIP_SECONDS = {"cuda": 4.0, "cpu": 1.0}  # of generated utterances; a CPU takes as long per second of short ones
LABEL_FRAMES = 6  # output frames per label of a generated utterance
CHUNK = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `thaw plan`."""
    add = parser.add_argument
    add("--config", type=Path, nargs="+", default=[DEFAULT_CONFIG], help="config files, later ones win")
    add("--calibrate", action="store_true", help="time a few training steps of the config's model here first")
    add("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to calibrate")
    add("--threads", type=count, default=1, metavar="N", help="CPU threads of the calibration (default: %(default)s)")
    add("--calibration", type=Path, default=CALIBRATION, metavar="FILE", help="its file (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    """Calibrate if asked to, then print the estimate."""
    from thaw.config.load import load
    from thaw.planning.estimate import estimate
    from thaw.planning.plan import resolve
    from thaw.planning.showing import exhibits

    plan = resolve(load(args.config))
    if args.calibrate:
        calibrate(plan, args.device, args.threads, args.calibration)
    calibration = read_calibration(args.calibration)
    amounts = {manifest.id: amount_of(manifest) for manifest in plan.manifests.values()}
    lines = estimate(plan, amounts, [name for _, name in exhibits(plan)], calibration)
    for line in page(plan, amounts, lines, calibration, args):
        print(line)


# --- what corpora hold ------------------------------------------------------------------------------------------------


def amount_of(manifest: Manifest) -> Amount | None:
    """Counts of a corpus: of its manifests, of its listing, of its source; None where nothing is known yet."""
    from thaw.config.sources import TEXTS
    from thaw.files import read_json
    from thaw.planning import layout
    from thaw.planning.amounts import SPLIT_NAMES, Amount, Part, amount

    counts = Path(layout.manifest(manifest, "counts.json"))
    if counts.exists():
        found = read_json(counts)
        parts = {split: Part(found[split]["utterances"], found[split]["hours"]) for split in SPLIT_NAMES}
        return Amount(parts, "counted in its manifests")
    known = source_amount(manifest.corpus.spec.source, manifest.corpus.spec.language)
    listing = Path(layout.utterances(manifest.corpus)).with_name("source.json")
    if not listing.exists():
        return known
    if isinstance(manifest.corpus.spec.source, TEXTS):
        return amount(read_json(listing)["splits"], 0.0, "counted in its listing, before filtering")
    seconds, how = mean_seconds(known)
    return amount(read_json(listing)["splits"], seconds, f"counted in its listing, before filtering; {how}")


def mean_seconds(known: Amount | None) -> tuple[float, str]:
    """The mean length of a clip as far as it is known, and how."""
    from thaw.planning.amounts import CLIP_SECONDS

    seconds = 3600 * known.hours / known.utterances if known and known.utterances else CLIP_SECONDS
    return seconds, f"{seconds:.1f} s a clip assumed"


def source_amount(source: Source, language: str) -> Amount | None:
    """What a source will give, from its config or from the lines of its tables; None where that is not known."""
    from thaw.config.sources import CommonVoiceSource, OwnSource, SwissParliamentSource, SyntheticSource, UnionSource
    from thaw.corpora.commonvoice import find_release
    from thaw.errors import UserError
    from thaw.planning.amounts import synthetic_amount

    match source:
        case SyntheticSource():
            return synthetic_amount(source)
        case CommonVoiceSource() if Path(source.path).expanduser().is_dir() and source.path:
            try:
                folder = find_release(Path(source.path).expanduser(), language)
            except UserError:
                return None
            return tables_amount({split: folder / name for split, name in source.splits.items()}, durations(folder))
        case SwissParliamentSource():
            return tables_amount({split: Path(source.path) / name for split, name in source.splits.items()})
        case OwnSource():
            return own_amount(source)
        case UnionSource():
            parts = [source_amount(part, language) for part in source.parts.values()]
            known = [part for part in parts if part is not None]
            return sum(known[1:], known[0]) if len(known) == len(parts) else None
        case _:
            return None


def own_amount(source: OwnSource) -> Amount | None:
    """A user's own corpus: the rows of its files; splits that are drawn take their shares of train.

    Where speakers are named, or a column says the split, the rows are read. Raises UserError where they do not fit.
    """
    from thaw.config.sources import KaldiSource, ManifestSource, TableSource
    from thaw.planning.amounts import CLIP_SECONDS, amount

    splits: Mapping[Split, str] = source.splits or {"train": source.path}
    heading = not isinstance(source, ManifestSource | KaldiSource)
    within = "text" if isinstance(source, KaldiSource) else ""
    counted = tables_amount({split: Path(name, within) for split, name in splits.items()}, heading=heading)
    if counted is None:
        return None
    if source.speakers or (isinstance(source, TableSource) and source.columns.split):
        return amount(rows_of_splits(source), CLIP_SECONDS, counted.origin)
    rows = {split: part.utterances for split, part in counted.parts.items()}
    test = 1 / source.folds if source.folds else source.held_out.test
    made: list[tuple[Split, float]] = [("dev", source.held_out.dev), ("test", test)]
    for split, share in made:
        if split not in rows:
            rows[split] = round(share * counted.parts["train"].utterances)
            rows["train"] -= rows[split]
    return amount(rows, CLIP_SECONDS, counted.origin)


def rows_of_splits(source: OwnSource) -> Mapping[Split, int]:
    """Rows of a user's own corpus by split, as `thaw fetch` will make them; clips are not looked for."""
    from thaw.config.sources import KaldiSource, ManifestSource, TableSource
    from thaw.corpora import kaldi, nemo, table
    from thaw.corpora.listing import Listed, Listing
    from thaw.files import Reject
    from thaw.planning.amounts import SPLIT_NAMES

    found: Iterable[Listed | Reject]
    match source:
        case ManifestSource():
            found = nemo.rows(source)
        case TableSource():
            found = table.rows(source)
        case KaldiSource():
            found = kaldi.rows(source)
        case _:
            raise AssertionError(source)
    listing = Listing(Path(), [row for row in found if isinstance(row, Listed)])
    table.finish(listing, source)
    counts = Counter(utterance.split for utterance in listing.utterances)
    return {split: counts[split] for split in SPLIT_NAMES}


def tables_amount(tables: Mapping[Split, Path], seconds: float | None = None, heading: bool = True) -> Amount | None:
    """Counts of the tables' rows; None where one of them is missing. `seconds`: the mean length of a clip, if known."""
    from thaw.planning.amounts import CLIP_SECONDS, amount

    if not all(path.is_file() for path in tables.values()):
        return None
    length = f"{seconds:.1f} s a clip" if seconds else f"{CLIP_SECONDS:g} s a clip assumed"
    rows: dict[Split, int] = {split: max(0, count_lines(path) - heading) for split, path in tables.items()}
    return amount(rows, seconds or CLIP_SECONDS, f"rows of its tables, before filtering; {length}")


def count_lines(path: Path) -> int:
    """Lines of a file, the last one with or without its newline."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines + (last != b"\n")


def durations(release: Path) -> float | None:
    """Mean seconds of a release's clips, from the table that newer ones have (clip, duration in ms); None without."""
    clips, milliseconds = 0, 0.0
    try:
        with (release / "clip_durations.tsv").open("rb") as file:
            next(file, None)
            for line in file:
                milliseconds += float(line.rpartition(b"\t")[2])
                clips += 1
    except (FileNotFoundError, ValueError):
        return None
    return milliseconds / 1000 / clips if clips else None


# --- calibration ------------------------------------------------------------------------------------------------------


def read_calibration(path: Path) -> Calibration | None:
    """The calibration in a file; None where there is none. UserError where it cannot be read."""
    from pydantic import ValidationError

    from thaw.errors import UserError
    from thaw.files import read_json
    from thaw.planning.calibration import Calibration

    if not path.exists():
        return None
    try:
        return Calibration.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: not a calibration of this version; run thaw plan --calibrate again") from error


def calibrate(plan: Plan, wanted: str, threads: int, path: Path) -> None:
    """Time the plan's models on this machine and write `path`; timings of other models on the same device stay."""
    import torch

    from thaw.files import write_json
    from thaw.planning.calibration import Calibration
    from thaw.planning.estimate import calibrated_sets
    from thaw.training import environment

    environment.settle(threads)
    device, lock = environment.choose_device(wanted)
    try:
        timings = []
        for setting, sets in calibrated_sets(plan).items():
            environment.set_products("tf32" if setting.precision == "tf32" else "ieee")
            timings.append(time_model(setting, sorted(sets), device))
    finally:
        if lock:
            lock.close()
    gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else f"{torch.backends.cpu.get_cpu_capability()} CPU"
    unit = "GPU-hours" if gpu else "CPU-hours"
    new = Calibration(device=name, unit=unit, torch=str(torch.__version__), timings=tuple(timings))
    write_json(path, new.joined(read_calibration(path)).model_dump(mode="json"))


def time_model(setting: Setting, sets: list[str], device: torch.device) -> Timing:
    """Seconds of computing per second of audio: of a training step for each freeze set, and of inference."""
    from thaw.planning.calibration import Timing

    batch, seconds = setting.batch_size, CLIP_SECONDS[device.type]
    steps = {}
    for frozen in sets:
        train, forward = steps_on_noise(setting, frozen, device)
        steps[frozen] = _median_seconds(train, device) / (batch * seconds)
        print(f"plan: batch {batch}, frozen {frozen}: {steps[frozen]:.3g} s per second of audio", file=sys.stderr)
    inference = _median_seconds(forward, device) / (batch * seconds)
    return Timing(**dict(setting), clip_seconds=seconds, steps=steps, forward=inference)


def steps_on_noise(
    setting: Setting, frozen: str, device: torch.device
) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step as the central learner does it, and a forward pass, on generated features (B, T, F)."""
    import numpy as np
    import torch

    from thaw.config.schema import RecipeSpec
    from thaw.frontends import features
    from thaw.models import Noise, build
    from thaw.surgery.operations import Freeze, Reset
    from thaw.surgery.surgery import prepare
    from thaw.tasks.ctc import ctc_loss
    from thaw.training.torch_optim import optimizer_for

    spec, batch, classes = setting.model, setting.batch_size, 32
    freeze = () if frozen == "none" else tuple(frozen.split(","))
    model = build(spec, classes)
    surgery = prepare(model, [Reset(tuple(model.layers)), Freeze(freeze)])
    model.to(device)
    recipe = RecipeSpec(epochs=1, optimizer=setting.optimizer, dropout=0.4 if setting.dropout else 0.0)
    optimizer = optimizer_for(recipe, surgery.trainable())
    samples = round(CLIP_SECONDS[device.type] * 16000)
    inputs, coefficients = features(spec.frontend, np.zeros(samples, np.int16)).shape
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, inputs, coefficients, generator=generator).to(device)
    labels = spec.frames(samples) // LABEL_FRAMES
    targets = torch.randint(0, classes - 1, (batch * labels,), dtype=torch.int32, generator=generator)
    lengths, label_lengths = torch.full((batch,), inputs), torch.full((batch,), labels)
    ids = [str(row) for row in range(batch)]

    def logits(noise: Noise | None) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=setting.precision == "bf16"):
            out: tuple[torch.Tensor, torch.Tensor] = model(x, lengths, noise)
        return out

    def train() -> None:
        model.train()
        optimizer.zero_grad()
        out, valid = logits(Noise(surgery.dropout_rates(recipe.dropout), seed=1, epoch=1, ids=ids))
        ctc_loss(out, valid, targets, label_lengths).mean().backward()  # type: ignore[no-untyped-call]
        float(optimizer.gradient_norm())
        optimizer.step(1e-4)

    @torch.inference_mode()
    def forward() -> None:
        model.eval()
        logits(None)

    return train, forward


def _median_seconds(work: Callable[[], None], device: torch.device) -> float:
    """Seconds of one call: wall clock of a GPU, processor time of a CPU (which other programs hardly change)."""
    import statistics
    import time

    import torch

    def now() -> float:
        if device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(device)
        return time.perf_counter()

    taken = []
    for _ in range(1 + STEPS):
        began = now()
        work()
        taken.append(now() - began)
    return statistics.median(taken[1:])


# --- the page ---------------------------------------------------------------------------------------------------------


def page(
    plan: Plan,
    amounts: Mapping[str, Amount | None],
    lines: list[Line],
    calibration: Calibration | None,
    args: argparse.Namespace,
) -> Iterable[str]:
    """The estimate as text."""
    from thaw.planning.estimate import in_all, told

    yield f"{plan.config.name} ({plan.config.scale} scale): {len(plan.runs)} trainings, {len(plan.decodes)} decodes"
    for manifest in plan.manifests.values():
        yield f"  {told(manifest, amounts[manifest.id])}"
    gpu = bool(calibration and calibration.unit == "GPU-hours")
    yield "estimate, of all jobs, made or not:"
    columns = ["rule", "jobs", "disk", "hours of audio", "CPU-hours", *(["GPU-hours"] if gpu else [])]
    rows = [columns, *(cells(line, calibration, gpu) for line in [*lines, in_all(lines)])]
    widths = [max(len(row[place]) for row in rows) for place in range(len(columns))]
    for row in rows:
        rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join([row[0].ljust(widths[0]), *rest])
    yield "-: next to nothing, or not estimated. Files that you have are not counted as disk."
    command = f"thaw plan --calibrate --config {' '.join(map(str, args.config))}"
    if calibration is None:
        yield f"no calibration: run {command} on the machine that will train, for its hours"
    elif not all(calibration.covers(run) for run in plan.runs.values()):
        yield f"the calibration lacks some of these models, batch sizes, precisions or frozen layers: run {command}"
    else:
        yield f"hours of train and decode: calibrated on {calibration.device}, torch {calibration.torch}"


def cells(line: Line, calibration: Calibration | None, gpu: bool) -> list[str]:
    """One rule's row. Without a GPU, what was calibrated is CPU time like the rest."""
    cpu = line.cpu_hours + line.device_hours if calibration and not gpu else line.cpu_hours
    shown = [line.rule, f"{line.jobs:,}", line.disk.shown(size), line.audio.shown(hours), cpu.shown(hours)]
    return [*shown, line.device_hours.shown(hours)] if gpu else shown


def size(value: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def hours(value: float) -> str:
    """Hours for people."""
    return "under 0.01" if value < 0.01 else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"
