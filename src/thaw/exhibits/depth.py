"""Word error rate by how many layers stay frozen, over all studies: one line for each model and pair of languages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thaw.errors import UserError
from thaw.exhibits.figures import DASHED, error_bars
from thaw.exhibits.grid import NONE, Block, Cell, Column, Grid, written
from thaw.exhibits.measures import Result, level_text, load_results
from thaw.exhibits.spec import ExhibitSpec, RunRow
from thaw.exhibits.style import TARGET_COLOURS, Look, figure_bytes, figure_titled, from_zero, house_style, looks
from thaw.exhibits.tables import rate_cell
from thaw.exhibits.tidy import Row, as_csv, columns, heading, interval_over, points
from thaw.exhibits.units import Pairs, bars_over, interval_note, units_of_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

SCRATCH = -18  # where runs from scratch stand, on an axis in per cent
COLUMNS = columns(
    "scale scale_note model source target target_label treatment label scratch frozen layers frozen_first decoder "
    "decoder_label seeds wer_percent low high interval_over runs"
)


@dataclass(frozen=True)
class Treated:
    """One treatment of a pair: its results by decoder."""

    run: RunRow  # of its first seed
    results: dict[str, Result]

    @property
    def share(self) -> float:
        """Frozen layers in per cent of the model's layers."""
        return 100 * self.run.frozen / max(self.run.layers, 1)


@dataclass(frozen=True)
class Pair:
    """A model and two languages. `treated` holds transferred runs in the order of the studies."""

    label: str
    scratch: Treated | None
    treated: tuple[Treated, ...]

    @property
    def line(self) -> list[Treated]:
        """At each depth the first treatment that freezes the first layers, shallow ones first."""
        by_depth: dict[float, Treated] = {}
        for one in self.treated:
            if one.run.frozen_first:
                by_depth.setdefault(one.share, one)
        return [by_depth[share] for share in sorted(by_depth)]


def read_pairs(spec: ExhibitSpec) -> list[Pair]:
    """The scores of every pair that has a transferred run. Treatments of two studies with one name are kept apart."""
    by_pair: dict[tuple[str, str, str], list[RunRow]] = {}
    for run in spec.runs:
        by_pair.setdefault((run.model, run.source_label, run.target), []).append(run)
    pairs = [_pair(spec, runs) for runs in by_pair.values() if not all(run.scratch for run in runs)]
    if not any(one.results for pair in pairs for one in pair.treated):
        raise UserError(f"exhibit {spec.name}: the studies have no decoded run")
    return pairs


def _pair(spec: ExhibitSpec, runs: list[RunRow]) -> Pair:
    results = load_results(spec.model_copy(update={"runs": tuple(runs)}))
    treated = []
    for treatment, run in {run.treatment: run for run in reversed(runs)}.items():
        mine = {decoder: result for (_, decoder, name), result in results.items() if name == treatment}
        treated.append(Treated(run, mine))
    order = [run.treatment for run in runs]
    treated.sort(key=lambda one: order.index(one.run.treatment))
    first = runs[0]
    return Pair(
        f"{first.model}, {first.source_label} → {first.target_label}",
        next((one for one in treated if one.run.scratch), None),
        tuple(one for one in treated if not one.run.scratch),
    )


def _units(spec: ExhibitSpec, pairs: list[Pair]) -> Pairs:
    """What the intervals of the pairs are over, by target."""
    shown = [one for pair in pairs for one in (*([pair.scratch] if pair.scratch else []), *pair.treated)]
    return units_of_results((result for one in shown for result in one.results.values()), spec.targets)


def _rows(spec: ExhibitSpec, pairs: list[Pair]) -> Iterator[Row]:
    for pair in pairs:
        for one in (*([pair.scratch] if pair.scratch else []), *pair.treated):
            for result in one.results.values():
                yield _row(spec, one.run, result)


def _row(spec: ExhibitSpec, run: RunRow, result: Result) -> Row:
    decode, scores = result.seeds[0].decode, result.pooled["word"]
    row = {key: value for key, value in heading(spec).items() if key != "study"}
    return row | {
        "model": run.model,
        "source": run.source_label,
        "target": run.target,
        "target_label": run.target_label,
        "treatment": run.treatment,
        "label": run.label,
        "scratch": int(run.scratch),
        "frozen": run.frozen,
        "layers": run.layers,
        "frozen_first": int(run.frozen_first),
        "decoder": decode.decoder,
        "decoder_label": decode.label,
        "seeds": len(result.seeds),
        "wer_percent": points(result.rate("word")),
        "low": points(scores["low"]),
        "high": points(scores["high"]),
        "interval_over": interval_over(result.pooled),
        "runs": " ".join(result.runs),
    }


# --- table ----------------------------------------------------------------------------------------


def draw_table(spec: ExhibitSpec, title: str) -> dict[str, bytes]:
    """One block for each model and pair of languages, as csv, md, tex and json."""
    pairs = read_pairs(spec)
    note = (
        f"{interval_note(spec.scoring, _units(spec, pairs))} Bold: lowest of its column. Of runs with nothing frozen "
        "only the study's reference is shown."
    )
    blocks = tuple(_block(spec, pair, (note,) if pair is pairs[-1] else ()) for pair in pairs)
    grid = Grid(f"{spec.study}-{spec.name}", title, spec.note, blocks)
    return written(grid, as_csv(COLUMNS, _rows(spec, pairs)))


def _block(spec: ExhibitSpec, pair: Pair, notes: tuple[str, ...]) -> Block:
    shown = [*([pair.scratch] if pair.scratch else []), *sorted(pair.treated, key=lambda one: one.share)]
    decoders = {d: label for d, label in spec.decoders.items() if any(d in one.results for one in shown)}
    best = {d: min(one.results[d].rate("word") for one in shown if d in one.results) for d in decoders}
    rows = []
    for one in shown:
        depth = NONE if one.run.scratch else f"{one.run.frozen} of {one.run.layers}"
        cells = [rate_cell(one.results[d], "word", best[d]) if d in one.results else Cell(NONE) for d in decoders]
        rows.append((Cell(one.run.label), Cell(depth), *cells))
    titles = [Column(f"WER % [{level_text(spec.scoring.level)}], {label}") for label in decoders.values()]
    return Block(pair.label, "Treatment", (Column("Layers frozen"), *titles), tuple(rows), notes)


# --- figure ---------------------------------------------------------------------------------------


def draw_figure(spec: ExhibitSpec, title: str) -> dict[str, bytes]:
    """WER by share of frozen layers: a panel for each decoder; png, pdf, and the data as csv."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    pairs = read_pairs(spec)
    step = min(1.1, 4.4 / max(len(pairs) - 1, 1))  # lines stand beside each other, also where there are many
    style = looks([pair.label for pair in pairs], palette=TARGET_COLOURS)
    with house_style():
        figure = Figure(figsize=(max(6.4, 3.7 * len(spec.decoders)), 4.6), layout="constrained")
        axes = figure.subplots(1, len(spec.decoders), squeeze=False, sharey=True)[0]
        for axis, (decoder, label) in zip(axes, spec.decoders.items(), strict=True):
            axis.set_title(label, fontweight="normal")
            for place, pair in enumerate(pairs):
                _draw_pair(axis, pair, decoder, style[pair.label], step * (place - (len(pairs) - 1) / 2))
            _share_axis(axis, any(pair.scratch for pair in pairs))
            axis.set_xlabel("Frozen layers (% of the model's layers)")
        axes[0].set_ylabel("Test WER (%)")
        from_zero(axes)
        over = bars_over(_units(spec, pairs))
        figure_titled(figure, title, f"{spec.note}; bars: {level_text(spec.scoring.level)} intervals{over}")
        handles = [
            Line2D([], [], color=look.colour, marker=look.marker, markersize=5, label=label)
            for label, look in style.items()
        ]
        handles += _kinds(pairs)
        figure.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=2.6)
        drawn = figure_bytes(figure)
    return drawn | {"csv": as_csv(COLUMNS, _rows(spec, pairs)).encode()}


def _share_axis(axis: Axes, scratch: bool) -> None:
    """Per cent of frozen layers; left of them, where there are any, a place for runs from scratch."""
    ticks = {share: str(share) for share in range(0, 101, 20)}
    if scratch:
        ticks = {SCRATCH: "from\nscratch"} | ticks
    axis.set_xticks(list(ticks), list(ticks.values()))
    axis.set_xlim(min(ticks) - (10 if scratch else 7), 106)


def _draw_pair(axis: Axes, pair: Pair, decoder: str, look: Look, shift: float) -> None:
    line = [one for one in pair.line if decoder in one.results]
    others = [one for one in pair.treated if one not in line and decoder in one.results]
    scratch = [pair.scratch] if pair.scratch and decoder in pair.scratch.results else []
    for shown, face, joined in ((line, look.colour, "-"), (others, "white", ""), (scratch, look.colour, "")):
        if shown:
            places = [SCRATCH + 2 * shift if one.run.scratch else one.share for one in shown]  # they lie close
            results = [one.results[decoder] for one in shown]
            rates = [100 * result.rate("word") for result in results]
            axis.errorbar(
                [place + shift for place in places], rates, yerr=error_bars(results),
                color=look.colour, marker=look.marker, markersize=5, markerfacecolor=face, linestyle=joined,
                capsize=2.2, elinewidth=1.0,
            )  # fmt: skip
    if scratch:
        level = 100 * scratch[0].results[decoder].rate("word")
        axis.axhline(level, color=look.colour, linewidth=0.9, linestyle=DASHED)


def _kinds(pairs: list[Pair]) -> list[Line2D]:
    """What dashes and hollow marks mean, where there are any."""
    from matplotlib.lines import Line2D

    dark = "#333333"
    kinds = []
    if any(pair.scratch for pair in pairs):
        kinds.append(Line2D([], [], color=dark, linewidth=0.9, linestyle=DASHED, label="from scratch"))
    if any(len(pair.line) < len(pair.treated) for pair in pairs):
        label = "other layers, or frozen in another way"
        kinds.append(Line2D([], [], color=dark, marker="o", markersize=5, markerfacecolor="white", linestyle="",
                            label=label))  # fmt: skip
    return kinds
