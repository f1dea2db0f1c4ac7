"""The multilingual study's table and what languages gain: rows are languages, columns ways to a network.

A gain is relative, as Heigold et al. (2013) print it: of the baseline over the GMM-HMM, of all others over the
baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaw.errors import UserError
from thaw.exhibits.corpora import read_counts
from thaw.exhibits.frame import COLUMNS, Cell, Row, as_csv, frame_rows, grouped, read_frame, rounded
from thaw.exhibits.grid import MINUS, NONE, Block, Column, Grid, Printed, written
from thaw.exhibits.notes import UNFINISHED, level_text, rate_notes, rate_text
from thaw.exhibits.published import Published, read_table
from thaw.exhibits.scales import mark, scales_note
from thaw.exhibits.spec import ExhibitSpec
from thaw.exhibits.style import figure_bytes, figure_titled, house_style, legend, looks, plain_log_axis
from thaw.exhibits.tables import RatesTable
from thaw.files import read_json
from thaw.studies.multilingual import GMM, PUBLISHED_NOTE, PUBLISHED_TITLE, RATES, TREATMENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HYBRID = "hybrid"  # the kind of decoder that the paper's numbers were found with


def published() -> Published:
    """The paper's table 1."""
    return Published(RATES, PUBLISHED_TITLE, PUBLISHED_NOTE, HYBRID)


def is_hybrid(spec: ExhibitSpec) -> bool:
    """Whether it shows hybrids, and not the same design with CTC: the paper's numbers are of these alone."""
    return any(decode.kind == HYBRID for run in spec.runs for decode in run.decodes)


@dataclass(frozen=True)
class Gains:
    """The cells of one way of judging, and what they gain."""

    spec: ExhibitSpec
    cells: tuple[Cell, ...]

    @cached_property
    def by_place(self) -> dict[tuple[str, str], Cell]:
        """Cells by target and treatment."""
        return {(cell.run.target, cell.run.treatment): cell for cell in self.cells}

    def base(self, treatment: str) -> str:
        """What a treatment is compared to; nothing for the GMM, and for the baseline where there is no GMM."""
        if treatment == GMM:
            return ""
        if treatment != self.spec.baseline:
            return self.spec.baseline
        return GMM if GMM in self.spec.treatments else ""

    def gain(self, target: str, treatment: str) -> float | None:
        """The share of the base's errors that a treatment spares; negative where it makes more."""
        mine, base = (self.by_place.get((target, name)) for name in (treatment, self.base(treatment)))
        return None if mine is None or base is None or not base.rate else 1 - mine.rate / base.rate

    def bounds(self, target: str, treatment: str) -> tuple[float, float] | None:
        """The same of the ends of the interval of the difference to the baseline, where there is one."""
        cell, base = self.by_place[target, treatment], self.by_place.get((target, self.spec.baseline))
        test = cell.tests.get(self.spec.baseline)
        if base is None or not base.rate or test is None:
            return None
        low, high = test.comparison.low, test.comparison.high
        return None if low is None or high is None else (-high / base.rate, -low / base.rate)


def hours(spec: ExhibitSpec) -> dict[str, float]:
    """Hours to train on, by corpus."""
    return {corpus.name: float(read_counts(corpus)["train"]["hours"]) for corpus in spec.corpora}


def classes(spec: ExhibitSpec) -> dict[str, int]:
    """Outputs of the networks of a language alone, by target: tied states of a hybrid."""
    found = {}
    for run in spec.runs:
        if run.treatment == spec.baseline and run.record:
            try:
                (found[run.target],) = read_json(Path(run.record))["classes"].values()
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise UserError(f"{run.record}: not the record that `thaw train` writes ({error!r})") from error
    return found


# --- the table --------------------------------------------------------------------------------------------------------


def draw_table(spec: ExhibitSpec) -> dict[str, bytes]:
    """Table 1 as csv, md, tex and json; differences with their p values behind it."""
    frame = read_frame(spec, ["word"])
    ways = [Gains(spec, tuple(cells)) for cells in grouped(frame, lambda cell: cell.decode.way).values()]
    hybrid = is_hybrid(spec)
    title = "Word error rates by language" if hybrid else "The same design with CTC: word error rates by language"
    blocks = tuple(_block(spec, gains, title) for gains in ways)
    _, tests = RatesTable(title).blocks(spec, frame)
    apart = (_published(spec),) if hybrid else ()
    grid = Grid(f"{spec.study}-{spec.name}", title, spec.note, blocks, apart, tuple(tests))
    return written(grid, _csv(spec, ways))


def _block(spec: ExhibitSpec, gains: Gains, title: str) -> Block:
    amounts, sizes = hours(spec), classes(spec)
    decode = gains.cells[0].decode
    columns = [Column("Hours"), Column("States" if decode.kind == HYBRID else "Classes")]
    columns += [Column(f"{label} [{level_text(spec.scoring.level)}] / gain") for label in spec.treatments.values()]
    rows = []
    for target, label in spec.targets.items():
        row = [Printed(label), Printed(f"{amounts[target]:.2f}" if target in amounts else NONE)]
        row.append(Printed(f"{sizes[target]:,}" if target in sizes else NONE))
        found = {cell.run.treatment: cell for cell in gains.cells if cell.run.target == target}
        best = min((cell.rate for cell in found.values()), default=None)
        for treatment in spec.treatments:
            row.append(_printed(found.get(treatment), gains.gain(target, treatment), best))
        rows.append(tuple(row))
    notes = [note.replace("Bold: lowest of its column.", "Bold: lowest of its row.")
             for note in rate_notes(spec, gains.cells)]  # fmt: skip
    notes += scales_note(gains.cells)
    notes.append(f"WER %. Gain: relative, {_compared(spec)}.")
    return Block(f"{title}: {decode.way_label}", "Language", tuple(columns), tuple(rows), tuple(notes))


def _compared(spec: ExhibitSpec) -> str:
    base = spec.treatments.get(spec.baseline, "the baseline")
    over = f"of “{base}” over “{spec.treatments[GMM]}”, " if GMM in spec.treatments else ""
    return f"{over}of the others over “{base}”"


def _printed(cell: Cell | None, gain: float | None, best: float | None) -> Printed:
    if cell is None:
        return Printed(NONE)
    text = rate_text(cell) + ("" if gain is None else f" / {percent(-gain)}")
    return Printed(text, cell.rate == best, (UNFINISHED if cell.unfinished else "") + mark(cell), cell.runs)


def percent(change: float) -> str:
    """A relative change as the paper prints it: "−14 %"."""
    shown = round(100 * change)
    return f"{MINUS if shown < 0 else '+' if shown > 0 else ''}{abs(shown)} %"


def _published(spec: ExhibitSpec) -> Block:
    """The paper's table, cell by cell."""
    table = read_table(spec, RATES)
    labels = {row["treatment"]: row["label"] for row in table}
    labels = {treatment: labels[treatment] for treatment in TREATMENTS if treatment in labels}
    rows = []
    for mine in grouped(table, lambda row: row["target"]).values():
        cells = {row["treatment"]: row for row in mine}
        numbers = [Printed(mine[0]["target_label"]), Printed(mine[0]["hours"]), Printed(mine[0]["states"])]
        rows.append((*numbers, *(_published_cell(cells.get(treatment)) for treatment in labels)))
    columns = (Column("Hours"), Column("States"), *(Column(f"{label} / gain") for label in labels.values()))
    return Block(PUBLISHED_TITLE, "Language", columns, tuple(rows), (f"WER %. {PUBLISHED_NOTE}",))


def _published_cell(row: Mapping[str, str] | None) -> Printed:
    if row is None:
        return Printed(NONE)
    wer = f"{100 * float(row['wer']):.1f}"
    return Printed(f"{wer} / {percent(-float(row['gain']) / 100)}" if row["gain"] else wer)


def _csv(spec: ExhibitSpec, ways: Sequence[Gains]) -> bytes:
    amounts, sizes = hours(spec), classes(spec)
    rows: list[Row] = []
    for gains in ways:
        for cell in gains.cells:
            target, treatment = cell.run.target, cell.run.treatment
            more: dict[str, Any] = {"hours": rounded(amounts.get(target)), "states": sizes.get(target, "")}
            more |= {"gain": rounded(gains.gain(target, treatment)), "gain_over": gains.base(treatment)}
            more |= {"scale_at_end": int(bool(mark(cell)))}
            rows += [row | more for row in frame_rows(spec, [cell])]
    return as_csv((*COLUMNS, "hours", "states", "gain", "gain_over", "scale_at_end"), rows)


# --- gain by hours ----------------------------------------------------------------------------------------------------

GAIN_COLUMNS = ("scale", "scale_note", "study", "target", "target_label", "hours", "treatment", "label", "gain", "low",
                "high")  # fmt: skip


def draw_gains(spec: ExhibitSpec) -> dict[str, bytes]:
    """Gain over the networks of single languages by hours of speech: ours, and the published ones in a panel apart."""
    from matplotlib.figure import Figure

    frame = read_frame(spec, ["word"])
    first = next(iter(grouped(frame, lambda cell: cell.decode.way).values()))
    rows = _gain_rows(spec, Gains(spec, tuple(first)))
    theirs = _published_gains(spec) if is_hybrid(spec) else []
    names = dict.fromkeys(row["treatment"] for row in (*rows, *theirs))
    style = looks(names, TREATMENTS, spec.style)
    panels = [(rows, f"Ours: {spec.scale} scale")] + ([(theirs, PUBLISHED_TITLE)] if theirs else [])
    with house_style():
        figure = Figure(figsize=(3.4 * len(panels) + 0.6, 3.9), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (mine, title) in zip(axes, panels, strict=True):
            axis.set_title(title, fontweight="normal")
            _gain_panel(axis, mine, style)
        axes[0].set_ylabel(f"Relative gain in WER over “{spec.treatments.get(spec.baseline, '')}” %")
        bars = f"bars: {level_text(spec.scoring.level)} intervals of differences"
        figure_titled(figure, "Gain by hours of speech", f"{spec.note}; {bars}")
        labels = {row["treatment"]: row["label"] for row in (*theirs, *rows)}
        handles = [axes[0].plot([], [], linestyle="", color=style[name].colour, marker=style[name].marker,
                                label=labels[name])[0] for name in names]  # fmt: skip
        legend(figure, handles, loc="outside lower center", ncols=3)
        drawn = figure_bytes(figure)
    return drawn | {"csv": as_csv(GAIN_COLUMNS, [*rows, *theirs])}


def _gain_rows(spec: ExhibitSpec, gains: Gains) -> list[Row]:
    amounts = hours(spec)
    rows: list[Row] = []
    for cell in gains.cells:
        target, treatment = cell.run.target, cell.run.treatment
        gain = gains.gain(target, treatment)
        if treatment in (GMM, spec.baseline) or gain is None or target not in amounts:
            continue
        low, high = gains.bounds(target, treatment) or (None, None)
        rows.append(
            {"scale": spec.scale, "scale_note": spec.note, "study": spec.study, "target": target,
             "target_label": cell.run.target_label, "hours": rounded(amounts[target]), "treatment": treatment,
             "label": cell.run.label, "gain": rounded(100 * gain),
             "low": rounded(None if low is None else 100 * low), "high": rounded(None if high is None else 100 * high)}
        )  # fmt: skip
    return rows


def _published_gains(spec: ExhibitSpec) -> list[Row]:
    return [
        {"scale": "paper", "scale_note": "published numbers, paper scale", "study": spec.study,
         "target": row["target"], "target_label": row["target_label"], "hours": float(row["hours"]),
         "treatment": row["treatment"], "label": row["label"], "gain": float(row["gain"]), "low": "", "high": ""}
        for row in read_table(spec, RATES) if row["treatment"] not in (GMM, "scratch")
    ]  # fmt: skip


def _gain_panel(axis: Axes, rows: Sequence[Row], style: Mapping[str, Any]) -> None:
    axis.set_xscale("log")
    axis.axhline(0, color="#333333", linewidth=0.8)
    for row in rows:
        look = style[row["treatment"]]
        bars = None
        if row["low"] != "":
            bars = ([max(0.0, row["gain"] - row["low"])], [max(0.0, row["high"] - row["gain"])])
        axis.errorbar([row["hours"]], [row["gain"]], yerr=bars, fmt=look.marker, color=look.colour, markersize=4.5,
                      capsize=2, elinewidth=0.9)  # fmt: skip
    axis.set_xlabel("Hours of speech of the language")
    plain_log_axis(axis.xaxis)
