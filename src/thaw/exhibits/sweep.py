"""Word error rate by learning rate: one line for each target, and the run from scratch at its own learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from thaw.errors import UserError
from thaw.exhibits.figures import DASHED, error_bars
from thaw.exhibits.measures import Result, level_text, load_results
from thaw.exhibits.spec import ExhibitSpec
from thaw.exhibits.style import TARGET_COLOURS, Look, figure_bytes, from_zero, house_style, looks, titled
from thaw.exhibits.tidy import Row, as_csv, columns, heading, interval_over, points
from thaw.exhibits.units import bars_over, units_of_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = columns(
    "scale scale_note study target target_label model treatment label scratch learning_rate decoder decoder_label "
    "seeds wer_percent low high interval_over runs"
)


def draw_sweep(spec: ExhibitSpec, title: str) -> dict[str, bytes]:
    """The figure as png and pdf, its data as csv."""
    from matplotlib.figure import Figure

    results = load_results(spec)
    if not results:
        raise UserError(f"exhibit {spec.name}: the study has no decoded run")
    rates = {run.treatment: run.learning_rate for run in spec.runs}
    [decoder] = spec.decoders.values()
    style = looks(spec.targets, palette=TARGET_COLOURS)
    with house_style():
        figure = Figure(figsize=(6.4, 4.1), layout="constrained")
        axis = figure.subplots()
        axis.set_xscale("log")
        for place, target in enumerate(spec.targets):
            mine = [result for result in results.values() if result.target == target]
            shift = 1.025 ** (place - (len(spec.targets) - 1) / 2)  # so that intervals do not lie on each other
            _target(axis, mine, rates, style[target], shift, spec.targets[target])
        _axes(axis, sorted(set(rates.values())), decoder)
        over = bars_over(units_of_results(results.values(), spec.targets))
        note = f"{spec.note}; bars: {level_text(spec.scoring.level)} intervals{over}"
        titled(axis, title, note)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=min(3, len(spec.targets)))
        drawn = figure_bytes(figure)
    rows = [_row(spec, result) for result in results.values()]
    return drawn | {"csv": as_csv(COLUMNS, rows).encode()}


def _target(
    axis: Axes, results: Sequence[Result], rates: Mapping[str, float], look: Look, shift: float, label: str
) -> None:
    tuned = sorted((r for r in results if not r.seeds[0].run.scratch), key=lambda r: rates[r.treatment])
    scratch = [r for r in results if r.seeds[0].run.scratch]
    for drawn, kind in ((tuned, "fine-tuned"), (scratch, "from scratch")):
        if not drawn:
            continue
        fresh = kind == "from scratch"
        wer = [100 * result.rate("word") for result in drawn]
        axis.errorbar(
            [shift * rates[result.treatment] for result in drawn], wer, yerr=error_bars(drawn),
            color=look.colour, marker=look.marker, markersize=5.5, capsize=2.5, elinewidth=1.1,
            linestyle=DASHED if fresh else "-", markerfacecolor="white" if fresh else look.colour,
            label=f"{label}, {kind}",
        )  # fmt: skip
        if fresh:
            axis.axhline(wer[0], color=look.colour, linewidth=0.9, linestyle=DASHED)


def _axes(axis: Axes, rates: Sequence[float], decoder: str) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_xlim(rates[0] / 1.35, rates[-1] * 1.35)
    axis.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axis.xaxis.set_minor_locator(NullLocator())
    if len(rates) > 7:
        axis.tick_params(axis="x", rotation=35)
    from_zero([axis])
    axis.set_xlabel("Peak learning rate (logarithmic)")
    axis.set_ylabel(f"Test WER, {decoder} (%)")


def _row(spec: ExhibitSpec, result: Result) -> Row:
    run, decode, scores = result.seeds[0].run, result.seeds[0].decode, result.pooled["word"]
    return heading(spec) | {
        "target": run.target,
        "target_label": run.target_label,
        "model": run.model,
        "treatment": run.treatment,
        "label": run.label,
        "scratch": int(run.scratch),
        "learning_rate": run.learning_rate,
        "decoder": decode.decoder,
        "decoder_label": decode.label,
        "seeds": len(result.seeds),
        "wer_percent": points(result.rate("word")),
        "low": points(scores["low"]),
        "high": points(scores["high"]),
        "interval_over": interval_over(result.pooled),
        "runs": " ".join(result.runs),
    }
