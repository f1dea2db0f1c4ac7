"""Algorithm 1 of Zhang et al. (2021) read off the runs of all its stages: which were accepted, and where it ended.

A stage is accepted unless its dev error is higher than that of the last accepted one; at the first that is not, the
algorithm ends. So a tie is accepted, and what lies behind a rejected stage would never have been trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thaw.errors import UserError
from thaw.exhibits.frame import Row, as_csv, columns, grouped, heading, read_judged
from thaw.exhibits.grid import NONE, Block, Column, Grid, Printed, written
from thaw.exhibits.spec import ExhibitSpec, Place, RunRow
from thaw.files import read_json, read_jsonl
from thaw.scoring.measures import MEASURES

Verdict = Literal["start", "accepted", "rejected", "never reached"]

BASELINE, STAGE, LONGER = "baseline", "stage", "longer"  # roles (`Place.role`)
COLUMNS = columns(
    "scale scale_note study group group_label seed stage treatment label judge dev_error verdict best_epoch epochs "
    "epochs_so_far split measure value run"
)


@dataclass(frozen=True)
class Trained:
    """One run as training measured it."""

    run: RunRow
    place: Place
    error: float  # on dev at its best epoch; a fraction, or a loss
    best: int  # epoch
    epochs: int


@dataclass(frozen=True)
class Step:
    """A stage of one seed, and what the algorithm makes of it."""

    trained: Trained
    verdict: Verdict
    so_far: int  # epochs, of this stage and all before it


def verdicts(errors: Sequence[float]) -> list[Verdict]:
    """Of the dev errors of M and of each stage after it."""
    found: list[Verdict] = ["start"]
    lowest = errors[0]
    for error in errors[1:]:
        if found[-1] in ("rejected", "never reached"):
            found.append("never reached")
        elif error > lowest:
            found.append("rejected")
        else:
            found.append("accepted")
            lowest = error
    return found


def place_of(run: RunRow) -> Place:
    """Its place in the study, which every run of this one has."""
    if run.place is None:
        raise UserError(f"run {run.id}: the exhibit's spec does not say what it is in the study")
    return run.place


def of_role(runs: Sequence[RunRow], *roles: str) -> tuple[RunRow, ...]:
    """Those with one of these roles."""
    return tuple(run for run in runs if place_of(run).role in roles)


def by_group(runs: Sequence[RunRow]) -> dict[str, list[RunRow]]:
    """The runs of each experiment, in order."""
    return grouped(runs, lambda run: place_of(run).group)


def trained(run: RunRow) -> Trained:
    """What training measured on dev at the epoch whose weights it kept; UserError for files without that."""
    place = place_of(run)
    record = read_json(Path(run.record))
    rows = read_jsonl(Path(run.metrics))
    try:
        best = int(record["best"]["epoch"])
        [row] = [row for row in rows if row["epoch"] == best]
        return Trained(run, place, float(row[f"dev_{place.judge}"]), best, len(rows))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.record} or {run.metrics}: no dev_{place.judge} of its best epoch ({error!r})") from error


def steps(runs: Sequence[RunRow]) -> dict[int, list[Step]]:
    """The stages of one experiment by seed. Where all seeds start from one baseline, it is the first step of each."""
    first = of_role(runs, BASELINE)
    later = sorted(of_role(runs, STAGE), key=lambda run: place_of(run).at)
    by_seed = {run.seed: run for run in first}
    found = {}
    for seed, mine in sorted(grouped(later, lambda run: run.seed).items()):
        chain = [trained(run) for run in (by_seed.get(seed, first[0]), *mine)]
        said = verdicts([one.error for one in chain])
        totals = [sum(one.epochs for one in chain[: number + 1]) for number in range(len(chain))]
        found[seed] = [Step(one, verdict, total) for one, verdict, total in zip(chain, said, totals, strict=True)]
    return found


def outcome(runs: Sequence[RunRow], treatment: str, label: str) -> list[RunRow]:
    """The run that the algorithm ends with, for each seed, as one treatment."""
    ends = []
    for seed, chain in steps(runs).items():
        last = [step for step in chain if step.verdict in ("start", "accepted")][-1]
        changes = {"treatment": treatment, "label": label, "recipe": treatment, "seed": seed}
        ends.append(last.trained.run.model_copy(update=changes))
    return ends


# --- the trace ------------------------------------------------------------------------------------


def draw_trace(spec: ExhibitSpec, title: str) -> dict[str, bytes]:
    """Every stage of every seed with its dev error and its verdict, as csv, md, tex and json."""
    groups = by_group(spec.runs)
    blocks = tuple(_block(runs) for runs in groups.values())
    rows = (heading(spec) | row for runs in groups.values() for row in _rows(runs))
    return written(Grid(f"{spec.study}-{spec.name}", title, spec.note, blocks), as_csv(COLUMNS, rows))


def _block(runs: Sequence[RunRow]) -> Block:
    place = place_of(runs[0])
    rates = [measure.heading for measure in MEASURES.values() if measure.key in _measured(runs[0])]
    titles = ("Best epoch", "Epochs", "Epochs so far", *(f"Test {name}" for name in rates))
    whole = (Column(f"Dev {error_name(place)}"), Column("Algorithm 1", text=True), *map(Column, titles))
    rows = [_printed(step, rates) for chain in steps(runs).values() for step in chain]
    rows += [_printed(Step(one, "start", one.epochs), rates, NONE) for one in map(trained, of_role(runs, LONGER))]
    return Block(place.label, "Training", whole, tuple(rows), tuple(_notes(runs)))


def _printed(step: Step, rates: Sequence[str], verdict: str = "") -> tuple[Printed, ...]:
    one = step.trained
    values = _measured(one.run)
    texts = [f"Seed {one.run.seed}: {one.run.label}", _error_text(one), verdict or step.verdict, f"{one.best}"]
    texts += [f"{one.epochs}", f"{step.so_far}", *(f"{value:.1f}" for value in values.values())]
    texts += [NONE] * (len(rates) - len(values))
    return tuple(Printed(text, runs=(one.run.id,)) for text in texts)


def _notes(runs: Sequence[RunRow]) -> Iterator[str]:
    judge = error_name(place_of(runs[0]))
    yield (
        f"Algorithm 1 goes on as long as the dev {judge} does not rise, so a tie is accepted. It is that of the epoch "
        "whose weights are kept, as training measures it. Stages that it would never have reached were trained too."
    )
    chains = steps(runs)
    for longer in of_role(runs, LONGER):
        one, chain = trained(longer), chains.get(longer.seed)
        if chain and one.epochs < chain[-1].so_far:
            yield (
                f"Seed {longer.seed}: the longer training has {one.epochs} epochs, all stages {chain[-1].so_far}: give "
                "it more to tell better training from longer training."
            )


def error_name(place: Place) -> str:
    """The dev error of the break rule, as tables call it: "CER %", "loss"."""
    return f"{place.judge.upper()} %" if place.judge != "loss" else "loss"


def _error_text(one: Trained) -> str:
    return f"{one.error:.3f}" if one.place.judge == "loss" else f"{100 * one.error:.2f}"


def _measured(run: RunRow) -> dict[str, float]:
    """The rates of its first decode on test, as shown, by the key of the measure."""
    decode = next((decode for decode in run.decodes if decode.split == "test"), None)
    if decode is None:
        return {}
    one = read_judged(run, decode)
    return {measure.key: measure.shown(float(one.scores[measure.key]["rate"])) for measure in one.measures}


def _rows(runs: Sequence[RunRow]) -> Iterator[Row]:
    done = [(step, str(step.verdict)) for chain in steps(runs).values() for step in chain]
    done += [(Step(one, "start", one.epochs), "") for one in map(trained, of_role(runs, LONGER))]
    for step, verdict in done:
        one, place = step.trained, step.trained.place
        row: Row = {"group": place.group, "group_label": place.label, "seed": one.run.seed, "stage": f"{place.at:g}"}
        row |= {"treatment": one.run.treatment, "label": one.run.label, "judge": place.judge, "verdict": verdict}
        row |= {"dev_error": round(one.error, 6), "best_epoch": one.best, "epochs": one.epochs, "run": one.run.id}
        row |= {"epochs_so_far": step.so_far}
        values = _measured(one.run)
        if not values:
            yield row
        for key, value in values.items():
            yield row | {"split": "test", "measure": MEASURES[key].heading, "value": round(value, 4)}
