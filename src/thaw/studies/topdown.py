"""Zhang et al. (ICASSP 2021): train the classifier first, freeze it, and train the layers below it anew.

The module is imported while the workflow is parsed, so nothing heavy is imported here: what draws is imported when an
exhibit is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from thaw.config.schema import StudySpec
from thaw.config.sources import Name, Split
from thaw.errors import suggestion
from thaw.exhibits.spec import FIGURE, FINDINGS, TABLE, Exhibit, ExhibitSpec, RunRow
from thaw.planning import cascade, checks
from thaw.planning.grid import Grid, TreatmentsSpec
from thaw.planning.plan import Study, decodes

if TYPE_CHECKING:
    from thaw.config.config import Config
    from thaw.exhibits.frame import Cell
    from thaw.exhibits.rates import Kind, Ticks
    from thaw.planning.cascade import CascadeSpec, DonorsSpec, Made

PAPER = "Zhang et al. 2021"
CREDIT = (
    "S. Zhang, C.-T. Do, R. Doddipatla, E. Loweimi, P. Bell and S. Renals, Train your classifier first: Cascade Neural "
    "Networks Training from upper layers to lower layers, ICASSP 2021"
)
PAPER_FINDING = (
    "With its classifier frozen and the layers below drawn anew and trained again on the same data, every model gets "
    "better: CTC on WSJ eval92 from 10.1 (mean of three seeds) to 8.5 % CER when all layers but the lowest go the same "
    "way one after the other, from 7.6 to 6.3 % with dropout; CTC-attention from 6.2 to 5.4 %, VGG from 5.4 to 5.2 %; "
    "Switchboard from 9.0 to 8.6 and CallHome from 18.1 to 17.2 % WER; WikiText-2 from 65.6 to 65.2 perplexity. With "
    "the lowest layer frozen instead it gets worse (10.5). A classifier serves the better the more data it has seen, "
    "and the better the less it has over-trained. One to three seeds, no intervals."
)
PUBLISHED = "topdown.csv"
TABLE2_NOTE = (
    "Character error rates on WSJ; each row one training, no intervals. The rows quoted from other papers are as the "
    "paper quotes them. No language model."
)
TABLE3_NOTE = "Word error rates on eval2000, Switchboard and CallHome; one training each, no intervals."
TABLE4_NOTE = "Perplexity on WikiText-2; one training each, no intervals."


class Spec(StudySpec):
    """What a config says of this study."""

    kind: Literal["topdown"]
    cascades: Annotated[dict[Name, cascade.CascadeSpec], Field(min_length=1)]  # Algorithm 1, on one model each
    donors: cascade.DonorsSpec | None = None  # Section 3
    splits: Annotated[tuple[Split, ...], Field(min_length=1)] = ("test",)  # that are decoded


# --- runs -----------------------------------------------------------------------------------------


def plan(name: str, spec: Spec, config: Config) -> Study:
    """All stages of every cascade with every seed, its controls, and the donors. The config has passed `check`."""
    made = cascade.treatments(spec, config)
    grid = _grid(made.values(), made, config)
    runs = tuple(grid.run(one.cascade.corpus, key, seed) for key, one in made.items() for seed in one.seeds)
    decoded = tuple(
        decode
        for run in runs
        for split in spec.splits
        for decode in decodes(run, made[run.treatment].cascade.decoders, config, split)
    )
    return Study(name, spec, runs, decoded, places={key: one.place for key, one in made.items()})


def _grid(shown: Iterable[Made], made: Mapping[str, Made], config: Config) -> Grid:
    """The runs of some of the treatments; all others are there to be started from."""
    shown = list(shown)
    names = tuple(key for key, one in made.items() if one in shown)
    first = shown[0].cascade
    spec = TreatmentsSpec(
        kind="topdown",
        targets=tuple(dict.fromkeys(one.cascade.corpus for one in shown)),
        model=first.model,
        recipe=first.recipe,
        treatments=names,
        baseline=names[0],
        decoders=tuple(dict.fromkeys(decoder for one in shown for decoder in one.cascade.decoders)),
    )
    return Grid(spec, config.model_copy(update={"treatments": {key: one.treatment for key, one in made.items()}}))


# --- mistakes -------------------------------------------------------------------------------------


def check(name: str, spec: Spec, config: Config) -> Iterator[str]:
    """One line for each mistake that the schema cannot see."""
    where = f"studies.{name}"
    lines = [
        line for key, one in spec.cascades.items() for line in _names(f"{where}.cascades.{key}", one, spec, config)
    ]
    lines += _donor_names(f"{where}.donors", spec.donors, spec, config) if spec.donors else []
    yield from lines
    if lines:
        return
    try:
        made = cascade.treatments(spec, config)
    except KeyError as error:
        yield f"{where}: a model has no layer {error.args[0]!r}, which `stages` or `classifier` names"
        return
    for key, one in spec.cascades.items():
        yield from _nested(f"{where}.cascades.{key}.stages", cascade.Stack.of(one.model, config).stages(one))
    for group in dict.fromkeys(one.place.group for one in made.values()):
        grid = _grid((one for one in made.values() if one.place.group == group), made, config)
        found = checks.check(name, grid.spec, grid.config)
        yield from (_in_words(line, where, made) for line in found)


def _nested(where: str, stages: list[cascade.Layers]) -> Iterator[str]:
    """What stood still stays so: every stage freezes the layers of the one before, and more."""
    for number, (before, after) in enumerate(pairwise(stages), start=2):
        if not set(before) < set(after):
            yield f"{where}: stage {number} freezes other layers than stage {number - 1}, or no more"


def _in_words(line: str, where: str, made: Mapping[str, Made]) -> str:
    """A mistake in a treatment that the study made, where the config has it."""
    match = re.match(r"treatments\.([a-z0-9-]+)", line)
    if match is None or match[1] not in made:
        return line
    group = made[match[1]].place.group
    place = f"{where}.donors" if group == "donors" else f"{where}.cascades.{group}"
    return f"{place} ({match[1]}){line[match.end() :]}"


def _names(where: str, one: CascadeSpec, spec: Spec, config: Config) -> Iterator[str]:
    tables: list[tuple[str, Iterable[str], Mapping[str, Any]]] = [
        ("corpus", [one.corpus], config.corpora),
        ("model", [one.model], config.models),
        ("recipe", [one.recipe], config.recipes),
        ("decoders", one.decoders, config.decoders),
        ("swaps", one.swaps, spec.cascades),
    ]
    yield from _unknown(where, tables)
    for other in one.swaps:
        if other in spec.cascades and spec.cascades[other].corpus != one.corpus:
            yield f"{where}.swaps: {other!r} is trained on another corpus; its classes may mean other letters"
    if one.start_seed is not None and one.lowest + bool(one.swaps) and one.start_seed not in one.seeds:
        yield f"{where}.start_seed: {one.start_seed} is none of the seeds"


def _donor_names(where: str, donors: DonorsSpec, spec: Spec, config: Config) -> Iterator[str]:
    tables: list[tuple[str, Iterable[str], Mapping[str, Any]]] = [
        ("cascade", [donors.cascade], spec.cascades),
        ("corpus", [donors.corpus] if donors.corpus else [], config.corpora),
        ("shares", donors.shares, config.parts),
        ("unseen", [donors.unseen], config.parts),
    ]
    lines = list(_unknown(where, tables))
    yield from lines
    if lines:
        return
    shares, unseen = [config.parts[name] for name in donors.shares], config.parts[donors.unseen]
    if not unseen.rest or any(part.rest for part in shares):
        yield f"{where}: `unseen` is what a share leaves (`rest: true` in `parts`), and `shares` are shares"
    elif any((part.by, part.seed) != (unseen.by, unseen.seed) or part.share > unseen.share for part in shares):
        yield f"{where}.unseen: {donors.unseen} and the shares overlap; take shares within what it leaves out"
    if [part.share for part in shares] != sorted(part.share for part in shares):
        yield f"{where}.shares: give them from the smallest to the largest"
    if spec.cascades.keys() & {"donor", "from"}:
        yield f"{where}: a cascade is called donor or from; call it otherwise"


def _unknown(where: str, tables: Iterable[tuple[str, Iterable[str], Mapping[str, Any]]]) -> Iterator[str]:
    for key, names, table in tables:
        for wanted in names:
            if wanted not in table:
                yield f"{where}.{key}: {wanted!r} is not there; {suggestion(wanted, table)}"


# --- exhibits -------------------------------------------------------------------------------------


def _findings(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.topdown import draw_findings

    return draw_findings(spec, PAPER, PAPER_FINDING)


def _table_corpora(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.corpora import CorporaTable

    return CorporaTable("Corpora").draw(spec)


def _table1(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.tables import RatesTable
    from thaw.exhibits.topdown import published_block

    note = "Character error rates, one training each. The paper's heading says dev92 and eval93, a slip."
    apart = published_block(spec, PUBLISHED, "table1", note)
    return RatesTable("Trained on a share of the data", stub="Share", apart=(apart,)).draw(spec)


def _cascades_table(name: str, title: str, note: str) -> Exhibit:
    """A table of the cascades that the config puts there."""

    def draw(spec: ExhibitSpec) -> dict[str, bytes]:
        from thaw.exhibits.topdown import CascadesTable

        return CascadesTable(title, PUBLISHED, name, note).draw(spec)

    def runs(spec: ExhibitSpec) -> tuple[RunRow, ...]:
        return tuple(run for run in spec.runs if run.place and run.place.exhibit == name)

    heading = f"Table {name[-1]}: {title[0].lower()}{title[1:]}"
    return Exhibit(heading, TABLE, ("scores", "metrics"), draw, (PUBLISHED,), runs)


def _trace(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.cascade import draw_trace

    return draw_trace(spec, "Algorithm 1, stage by stage")


def _stages(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.rates import RatesFigure

    return RatesFigure(
        "Character error rate by stage", "Stage (0: baseline)", "char", _group, _at, _line, _whole_ticks, spread=0.06
    ).draw(spec)


def _figure1(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.rates import RatesFigure

    axis = "Share of the data that the classifier is from (%)"
    return RatesFigure(
        "Trained on unseen data below a frozen classifier", axis, "char", _group, _at, _line_and_level, _ticks,
        (("level", "without a donor"),), spread=0.5,
    ).draw(spec)  # fmt: skip


def _figure2a(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.curves import CurvesFigure

    return CurvesFigure("The donor's training, past its optimum", legend_title="Trained on").draw(spec)


def _figure2b(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.rates import RatesFigure

    return RatesFigure(
        "Trained on unseen data below a frozen classifier", "Epoch that the classifier is from", "char", _group, _at,
        _line_and_level, _ticks, (("level", "without a donor"),), spread=0.3,
    ).draw(spec)  # fmt: skip


def _group(cell: Cell) -> str:
    return cell.run.place.label if cell.run.place else ""


def _at(cell: Cell) -> float:
    return cell.run.place.at if cell.run.place else 0.0


def _line(cells: Sequence[Cell]) -> list[Kind]:
    return ["line" for _ in cells]


def _line_and_level(cells: Sequence[Cell]) -> list[Kind]:
    return ["level" if cell.run.place and cell.run.place.role == "none" else "line" for cell in cells]


def _ticks(cells: Sequence[Cell]) -> Ticks:
    return {0.0: "none"} | {_at(cell): f"{_at(cell):g}" for cell in cells if _at(cell)}


def _whole_ticks(cells: Sequence[Cell]) -> Ticks:
    return {_at(cell): f"{_at(cell):g}" for cell in cells}


def _roles(*roles: str) -> Callable[[ExhibitSpec], tuple[RunRow, ...]]:
    """The runs with one of these roles, if some have the last of them."""

    def runs(spec: ExhibitSpec) -> tuple[RunRow, ...]:
        found = tuple(run for run in spec.runs if run.place and run.place.role in roles)
        return found if any(run.place and run.place.role == roles[-1] for run in found) else ()

    return runs


def _cascades(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """The runs that belong to a cascade."""
    return tuple(run for run in spec.runs if run.place and run.place.exhibit)


def _chains(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """The baselines, stages and longer trainings of cascades with a break rule to apply."""
    found = [run for run in _cascades(spec) if run.place and run.place.role in ("baseline", "stage", "longer")]
    deep = {run.place.group for run in found if run.place and run.place.role == "stage" and run.place.at > 1}
    return tuple(run for run in found if run.place and run.place.group in deep)


def _stage_runs(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    return tuple(run for run in _chains(spec) if run.place and run.place.role != "longer")


def _goes_on(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """The training whose epochs are donors, where there are such."""
    shares = _roles("share")(spec) if _roles("epoch")(spec) else ()
    most = max((run.place.at for run in shares if run.place), default=0)
    return tuple(run for run in shares if run.place and run.place.at == most)


EXHIBITS: dict[str, Exhibit] = {
    "findings": Exhibit("Findings", FINDINGS, ("scores", "metrics"), _findings, runs=_cascades),
    "table-corpora": Exhibit("Corpora", TABLE, ("corpora",), _table_corpora),
    "table1": Exhibit(
        "Table 1: trained on a share of the data", TABLE, ("scores",), _table1, (PUBLISHED,), runs=_roles("share")
    ),
    "figure1": Exhibit(
        "Figure 1: classifiers by share of the data", FIGURE, ("scores",), _figure1, runs=_roles("none", "donor")
    ),
    "figure2a": Exhibit("Figure 2a: the donor's training", FIGURE, ("metrics", "style"), _figure2a, runs=_goes_on),
    "figure2b": Exhibit(
        "Figure 2b: classifiers by epoch", FIGURE, ("scores",), _figure2b, runs=_roles("none", "epoch")
    ),
    "table2": _cascades_table("table2", "Error rates of top-down training", TABLE2_NOTE),
    "table3": _cascades_table("table3", "Error rates of top-down training, larger corpus", TABLE3_NOTE),
    "table4": _cascades_table("table4", "Perplexity of top-down training", TABLE4_NOTE),
    "table-trace": Exhibit("Algorithm 1, stage by stage", TABLE, ("scores", "metrics"), _trace, runs=_chains),
    "figure-stages": Exhibit("Character error rate by stage", FIGURE, ("scores",), _stages, runs=_stage_runs),
}
