"""What the studies of a config say together: error rates by share of frozen layers, model and pair of languages.

This is no study of its own: its runs are those of the others, and `thaw.planning.showing` brings them. Like every
module here it is imported while the workflow is parsed, so what draws is imported when an exhibit is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

from thaw.exhibits.spec import Exhibit, ExhibitSpec, RunRow
from thaw.studies import TOGETHER, study_module

Pair = tuple[str, str, str]  # model, source, target


def pair(run: RunRow) -> Pair:
    """The model and the two languages of a run."""
    return run.model, run.source_label, run.target


def together(studies: Sequence[ExhibitSpec]) -> ExhibitSpec:
    """All studies as one spec: of each study the runs that show what freezing does, none twice.

    These are its transferred runs with a new output layer and at least one frozen layer, and of those with none the
    reference (or else the first); with them the runs from scratch of the same model.
    """
    rows = {(run.id, run.source_label): run for study in studies for run in _of_study(study)}
    first = studies[0]
    return first.model_copy(
        update={"study": TOGETHER, "kind": TOGETHER, "style": {}, "baseline": "", "reference": "",
                "runs": tuple(rows.values()), "sources": (), "corpora": ()}
    )  # fmt: skip


def _of_study(study: ExhibitSpec) -> list[RunRow]:
    moved = [run for run in study.runs if run.new_output and not run.scratch]
    unfrozen = dict.fromkeys(run.treatment for run in moved if not run.frozen)
    plain = study.reference if study.reference in unfrozen else next(iter(unfrozen), "")
    moved = [run for run in moved if run.frozen or run.treatment == plain]
    models = {run.model for run in moved}
    scratch = [run for run in study.runs if run.scratch and run.model in models]
    treatments = dict.fromkeys(run.treatment for run in scratch)
    base = study.baseline if study.baseline in treatments else next(iter(treatments), "")
    return [*(run for run in scratch if run.treatment == base), *moved]


def _comparable_runs(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """All runs, where something is frozen, and there are at least two pairs to compare."""
    moved = [run for run in spec.runs if not run.scratch]
    enough = any(run.frozen for run in moved) and len({pair(run) for run in moved}) > 1
    return spec.runs if enough else ()


def _table(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.depth import draw_table

    return draw_table(spec, "Word error rates by frozen layers, model and languages")


def _figure(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.depth import draw_figure

    return draw_figure(spec, "Word error rate by share of frozen layers")


EXHIBITS: dict[str, Exhibit] = {
    "figure-depth": Exhibit(
        "Word error rate by share of frozen layers, model and languages", ("png", "pdf", "csv"), ("scores", "setup"),
        _figure, runs=_comparable_runs,
    ),
    "table-depth": Exhibit(
        "Word error rates by frozen layers, model and languages", ("csv", "md", "tex", "json"), ("scores", "setup"),
        _table, runs=_comparable_runs,
    ),
}  # fmt: skip


def exhibits(kind: str) -> dict[str, Exhibit]:
    """The exhibits of a kind of study by name, or those drawn from all studies; UserError for a kind there is not."""
    found: dict[str, Exhibit] = EXHIBITS if kind == TOGETHER else study_module(kind).EXHIBITS
    return found
