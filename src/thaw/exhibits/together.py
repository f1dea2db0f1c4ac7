"""What the studies of a config say together: rates by share of frozen layers, model and pair of languages.

This is no study of its own: its runs are those of the others, and `thaw.planning.showing` brings them. It is imported
while the workflow is parsed, so what draws is imported when an exhibit is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

from thaw.exhibits.spec import FIGURE, TABLE, Exhibit, ExhibitSpec, RunRow
from thaw.studies import TOGETHER, study_module


def together(studies: Sequence[ExhibitSpec]) -> ExhibitSpec:
    """All studies as one spec: of each study the runs that show what freezing does, none twice.

    These are its transferred runs with a new output layer and at least one frozen layer, and of those with none the
    reference (or else the first); with them the runs from scratch of the same model. Where one name stands for two
    recipes on the same languages, the study is named, too.
    """
    own = [_named(study) for study in studies if not study.transfers]  # those train briefly, to compare layers
    rows: dict[tuple[str, str], RunRow] = {}
    for run in (run for study in own for run in _of_study(study)):
        rows.setdefault((run.id, run.source_label), run)
    recipes: dict[tuple[str, ...], set[str]] = {}
    for run in rows.values():
        recipes.setdefault(_name(run), set()).add(run.recipe)
    told = (
        run.model_copy(update={"treatment": f"{run.treatment}-{run.study}", "label": f"{run.label} ({run.study})"})
        if len(recipes[_name(run)]) > 1 else run
        for run in rows.values()
    )  # fmt: skip
    every = tuple(run for study in own for run in study.runs)
    return studies[0].model_copy(
        update={"study": TOGETHER, "kind": TOGETHER, "style": {}, "baseline": "", "reference": "", "runs": tuple(told),
                "others": every, "sources": (), "corpora": ()}
    )  # fmt: skip


def _named(study: ExhibitSpec) -> ExhibitSpec:
    runs = tuple(run.model_copy(update={"study": study.study}) for run in study.runs)
    return study.model_copy(update={"runs": runs})


def _name(run: RunRow) -> tuple[str, ...]:
    return run.model, run.source_label, run.target, run.treatment


def _of_study(study: ExhibitSpec) -> list[RunRow]:
    moved = [run for run in study.runs if run.new_output and not run.scratch and run.source_label]
    unfrozen = dict.fromkeys(run.treatment for run in moved if not run.frozen)
    plain = study.reference if study.reference in unfrozen else next(iter(unfrozen), "")
    moved = [run for run in moved if run.frozen or run.treatment == plain]
    models = {run.model for run in moved}
    scratch = [run for run in study.runs if run.scratch and run.model in models]
    treatments = dict.fromkeys(run.treatment for run in scratch)
    base = study.baseline if study.baseline in treatments else next(iter(treatments), "")
    return [*(run for run in scratch if run.treatment == base), *moved]


def _comparable_runs(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """The runs of every pair with a transferred one, where something is frozen, and there are two pairs to compare."""
    pairs = {_name(run)[:3] for run in spec.runs if not run.scratch}
    enough = any(run.frozen for run in spec.runs) and len(pairs) > 1
    return tuple(run for run in spec.runs if _name(run)[:3] in pairs) if enough else ()


def _table(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.depth import draw_table

    return draw_table(spec, "Word error rates by frozen layers, model and languages")


def _figure(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.depth import draw_figure

    return draw_figure(spec, "Word error rate by share of frozen layers")


EXHIBITS: dict[str, Exhibit] = {
    "figure-depth": Exhibit(
        "Word error rate by share of frozen layers, model and languages", FIGURE, ("scores", "setup"), _figure,
        runs=_comparable_runs,
    ),
    "table-depth": Exhibit(
        "Word error rates by frozen layers, model and languages", TABLE, ("scores", "setup"), _table,
        runs=_comparable_runs,
    ),
}  # fmt: skip


def exhibits(kind: str) -> dict[str, Exhibit]:
    """The exhibits of a kind of study by name, or those drawn from all studies; UserError for a kind there is not."""
    found: dict[str, Exhibit] = EXHIBITS if kind == TOGETHER else study_module(kind).EXHIBITS
    return found
