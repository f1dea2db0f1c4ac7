"""Which runs the table of federated dropout shows: cheap to import, for the study's module."""

from __future__ import annotations

from thaw.config.starts import BEST, FIRST
from thaw.exhibits.spec import ExhibitSpec, RunRow

SCHEMES = "ambient-federated.csv"  # the paper's table
BASE = "federated-base"  # the treatment that the weights before the first round are shown as


def federated_rows(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """The federated runs of a study; before them, what they start from: the first weights of those that kept them."""
    runs = [run for run in spec.runs if run.learner == "federated"]
    bases = [before(run) for run in runs if any(decode.snapshot == FIRST for decode in run.decodes)]
    return (*bases, *(kept(run) for run in runs))


def before(run: RunRow) -> RunRow:
    """A run's weights from before its first round, as a treatment of their own, judged as the others are."""
    first = tuple(d.model_copy(update={"snapshot": BEST}) for d in run.decodes if d.snapshot == FIRST)
    own = {"treatment": BASE, "label": "Before federated training", "recipe": f"{run.recipe}@{FIRST}", "record": ""}
    return run.model_copy(update={**own, "id": f"{run.id}@{FIRST}", "decodes": first})


def kept(run: RunRow) -> RunRow:
    """A run with the judgements of its best weights alone."""
    return run.model_copy(update={"decodes": tuple(d for d in run.decodes if d.snapshot == BEST)})
