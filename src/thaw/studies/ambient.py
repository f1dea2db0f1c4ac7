"""Zhou et al. (2022): which layers of a trained Conformer matter, by resetting one at a time.

The module is imported while the workflow is parsed, so nothing heavy is imported here: what draws is imported when an
exhibit is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from thaw.exhibits.schemes import SCHEMES, federated_rows
from thaw.exhibits.spec import FIGURE, FINDINGS, TABLE, Exhibit, ExhibitSpec, RunRow
from thaw.planning import ambient

if TYPE_CHECKING:
    from thaw.exhibits.resets import ResetCell

PAPER = "Zhou et al. 2022"
CREDIT = "Zhou et al. 2022: ambient layers of Conformer transducers, and federated dropout by layer"
PAPER_FINDING = (
    "Some layers of a trained Conformer may be reset at little cost (ambient), others not (critical). Federated "
    "dropout that is heavier in ambient layers costs less than the same in critical ones: 6.3 against 7.0 % WER with 9 "
    "% of the parameters dropped, 6.5 against 7.3 % with 10 %. No intervals; of resets, curves but no numbers."
)
SIZES = "ambient-sizes.csv"


class Spec(ambient.AmbientSpec):
    """What a config says of this study."""

    kind: Literal["ambient"]


check, plan = ambient.check, ambient.plan

# --- which models an exhibit shows ----------------------------------------------------------------


def _probed(**traits: str) -> Callable[[ExhibitSpec], tuple[RunRow, ...]]:
    """The probed runs whose models have these traits."""

    def runs(spec: ExhibitSpec) -> tuple[RunRow, ...]:
        return tuple(run for run in spec.runs if run.probes and traits.items() <= run.traits.items())

    return runs


def _largest(**traits: str) -> Callable[[ExhibitSpec], tuple[RunRow, ...]]:
    """The same of the models with the most layers."""

    def runs(spec: ExhibitSpec) -> tuple[RunRow, ...]:
        found = _probed(**traits)(spec)
        most = max((len(run.stack) for run in found), default=0)
        return tuple(run for run in found if len(run.stack) == most)

    return runs


def _stepped(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """Those that were probed at earlier snapshots too."""
    return tuple(run for run in spec.runs if any(probe.snapshots for probe in run.probes))


def _modular(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """Those of which modules were reset alone."""
    return tuple(run for run in spec.runs if any(probe.modules for probe in run.probes))


def _churned(**traits: str) -> Callable[[ExhibitSpec], tuple[RunRow, ...]]:
    """The largest models whose runs kept their first weights."""

    def runs(spec: ExhibitSpec) -> tuple[RunRow, ...]:
        return tuple(run for run in _largest(**traits)(spec) if all(probe.churn for probe in run.probes))

    return runs


def _found(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """What is probed, and what is federated."""
    return (*_probed()(spec), *federated_rows(spec))


PLAIN, STREAMING = {"causal": "False"}, {"causal": "True"}


# --- exhibits -------------------------------------------------------------------------------------


def _table1(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.corpora import CorporaTable

    return CorporaTable("Corpora").draw(spec)


def _table2(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits import sizes

    return sizes.draw(spec, SIZES, PAPER)


def _findings(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits import reset_findings

    return reset_findings.draw(spec, PAPER, PAPER_FINDING)


def _figure2(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.layerwise import ResetsFigure

    def series(cell: ResetCell) -> str | None:
        kept = "" if cell.place.buffers else ", statistics kept"
        return f"{cell.run.traits['norm']} norm{kept}" if cell.place.to == "draw" else None

    return ResetsFigure("Each layer drawn anew, by norm", series, lambda cell: "").draw(spec)


def _figure3(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.layerwise import ResetsFigure
    from thaw.exhibits.resets import KINDS

    def series(cell: ResetCell) -> str | None:
        return KINDS[cell.place.to] if cell.place.buffers else None

    return ResetsFigure("Each layer reset to its first values, or to a fresh draw", series, _label).draw(spec)


def _figure4(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.layerwise import ResetsFigure

    def series(cell: ResetCell) -> str | None:
        return "re-rand" if cell.place.to == "draw" and cell.place.buffers else None

    return ResetsFigure("Each layer drawn anew, by random seed of the training", series, _label, spread=True).draw(spec)


def _label(cell: ResetCell) -> str:
    return cell.run.label


def _figure5(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.churn import ChurnFigure

    return ChurnFigure("Churn by module and layer").draw(spec)


def _ranks(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.criticality import draw_ranks

    return draw_ranks(spec)


def _modules(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.criticality import draw_modules

    return draw_modules(spec)


def _steps(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.criticality import draw_steps

    return draw_steps(spec)


def _table3(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.federated import FederatedTable, published_schemes

    return FederatedTable("Federated dropout by layer", published_schemes(), stub="Scheme").draw(spec)


EXHIBITS: dict[str, Exhibit] = {
    "findings": Exhibit("Findings", FINDINGS, ("probes", "scores", "record"), _findings, runs=_found),
    "table1": Exhibit("Table 1: corpora", TABLE, ("corpora",), _table1),
    "table2": Exhibit("Table 2: models", TABLE, ("probes", "record"), _table2, (SIZES,), runs=_probed()),
    "figure2": Exhibit(
        "Figure 2: each layer drawn anew, batch and group norm", FIGURE, ("probes",), _figure2, runs=_largest(**PLAIN)
    ),
    "figure3": Exhibit(
        "Figure 3: re-init and re-rand by size", FIGURE, ("probes",), _figure3, runs=_probed(norm="group", **PLAIN)
    ),
    "figure4": Exhibit(
        "Figure 4: re-rand by random seed", FIGURE, ("probes",), _figure4, runs=_probed(norm="group", **PLAIN)
    ),
    "table3": Exhibit(
        "Table 3: federated dropout by layer", TABLE, ("scores",), _table3, (SCHEMES,), runs=federated_rows
    ),
    "table-ranks": Exhibit("Criticality of layers, and its spread over random seeds", TABLE, ("probes",), _ranks,
                           runs=_probed()),
    "table-modules": Exhibit("Modules reset alone", TABLE, ("probes",), _modules, runs=_modular),
    "table-steps": Exhibit("Re-rand during training", TABLE, ("probes",), _steps, runs=_stepped),
    "figure5a": Exhibit("Figure 5a: churn", FIGURE, ("probes",), _figure5, runs=_churned(norm="group", **PLAIN)),
    "figure5b": Exhibit("Figure 5b: churn, streaming", FIGURE, ("probes",), _figure5, runs=_churned(**STREAMING)),
}  # fmt: skip
