"""Predictions of what freezing a layer does, as a table: correlations, what a choice costs, the transfers behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from thaw.exhibits.frame import Row, as_csv, columns, heading, rounded
from thaw.exhibits.grid import MINUS, NONE, Block, Column, Grid, Printed, written
from thaw.exhibits.notes import level_text
from thaw.exhibits.predictions import Tried, Verdict, measures_of, read_tried, verdicts
from thaw.exhibits.spec import ExhibitSpec
from thaw.layers.predictors import BASELINE, PREDICTORS
from thaw.scoring.ranks import MOST_TRIALS, Pooled, layers_needed, pooled
from thaw.scoring.statistics import SIGNIFICANT

TITLE = "Which layers to freeze: predictions against trials"
WANTED = 0.9  # reliability of layers' effects that the number of seeds is said for
COLUMNS = columns(
    "scale scale_note study row transfer transfer_label model measure layer treatment predictor value low high p "
    "p_holm sd transfers needed beyond_depth beyond_depth_low beyond_depth_high beyond_depth_p beyond_depth_p_holm "
    "beyond_depth_needed given_depth given_depth_low given_depth_high "
    "regret_alone regret_together size reliability_single reliability seeds seeds_needed "
    "layers layers_needed seconds runs"
)


def draw_table(spec: ExhibitSpec) -> dict[str, bytes]:
    """The table as csv, md, tex and json: by the study's measure, and for those who look closer by the other one."""
    blocks: list[tuple[Block, ...]] = []
    rows: list[Row] = []
    for measure in measures_of(spec):
        tried = read_tried(spec, measure)
        found = verdicts(tried, spec.scoring.level)
        blocks.append((_correlations(spec, tried, found), _choices(spec, tried, found), _transfers(tried)))
        rows += _rows(spec, tried, found)
    grid = Grid(f"{spec.study}-{spec.name}", TITLE, spec.note, blocks[0], more=blocks[1])
    return written(grid, as_csv(COLUMNS, rows))


# --- what is printed ------------------------------------------------------------------------------


def signed(number: float, digits: int = 2) -> str:
    """A number with a sign, zero without."""
    text = f"{number:.{digits}f}"
    return (text if float(text) else text.lstrip("-")).replace("-", MINUS)


def pooled_text(found: Pooled | None, shown: Callable[[float], float] = float, digits: int = 2) -> str:
    """A mean with its interval, where there is one."""
    if found is None:
        return NONE
    mean = signed(shown(found.mean), digits)
    if found.low is None or found.high is None:
        return mean
    return f"{mean} [{signed(shown(found.low), digits)}, {signed(shown(found.high), digits)}]"


def p_text(p: float | None) -> str:
    """A p value."""
    return NONE if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def needed_text(found: Pooled | None) -> str:
    """How many transfers would show the mean."""
    if found is None or found.low is None:
        return NONE
    return f"{found.needed:,}" if found.needed is not None else f">{MOST_TRIALS:,}"


def seconds_text(seconds: float) -> str:
    """A time, in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _correlations(spec: ExhibitSpec, tried: Sequence[Tried], found: Sequence[Verdict]) -> Block:
    level, measure = level_text(spec.scoring.level), tried[0].measure
    shown = tuple(
        Column(f"{one.row.label} ({len(one.layers)} layers)", "Spearman's ρ in a transfer (p)") for one in tried
    )
    whole, more = "All transfers", "Beyond depth"
    over = (Column(f"mean ρ [{level}]", whole), Column("p (Holm)", whole), Column("transfers to show it", whole),
            Column(f"ρ above depth's [{level}]", more), Column("p (Holm)", more), Column("transfers to show it", more),
            Column(f"ρ with depth held [{level}]", more))  # fmt: skip
    best = max((one.rho.mean for one in found if one.rho is not None), default=None)
    rows = []
    for verdict in found:
        cells = []
        for one in tried:
            rho = one.rho(verdict.predictor)
            text = NONE if rho is None else f"{signed(rho)} ({p_text(one.p(verdict.predictor))})"
            cells.append(Printed(text, runs=_runs(one)))
        bold = verdict.rho is not None and verdict.rho.mean == best
        cells += [
            Printed(pooled_text(verdict.rho), bold),
            Printed(p_text(verdict.p_holm)),
            Printed(needed_text(verdict.rho)),
            Printed(pooled_text(verdict.beyond)),
            Printed(p_text(verdict.beyond_holm)),
            Printed(needed_text(verdict.beyond)),
            Printed(pooled_text(verdict.given_depth)),
        ]
        rows.append((Printed(PREDICTORS[verdict.predictor].label), *cells))
    return Block(
        f"Predicted and measured harm of freezing each layer alone ({measure.name})", "Predictor", (*shown, *over),
        tuple(rows), tuple(_correlation_notes(tried, found)),
    )  # fmt: skip


def _correlation_notes(tried: Sequence[Tried], found: Sequence[Verdict]) -> Iterator[str]:
    yield (
        "Harm is what freezing one layer, and no other, adds to the error rate with nothing frozen, on the same test "
        "set, mean over seeds. ρ above 0: as predicted, by signs that were fixed beforehand (docs/layers.md). p in a "
        "transfer is over all orders of its layers: with five layers only ρ = 1 is below 0.05, with sixteen ρ above "
        "0.50."
    )
    if len(tried) > 1:
        yield (
            f"Over all transfers: Student's t over {len(tried)} of them, each with its own seeds; Holm over the "
            f"{len(found)} predictors, and over those that are compared to depth. Transfers that share a source run "
            "are not quite as independent as this takes them to be. “Transfers to show it”: so many, with the spread "
            f"that is seen here, would show a mean of the size seen at p < {SIGNIFICANT} (without Holm) in four of "
            "five studies. With depth held: partial rank correlation, left out where depth says all."
        )
    else:
        yield "One transfer: nothing is known of others, so there is no interval and no p over transfers."
    lacking = {
        f"{PREDICTORS[name].label} in {one.row.label}: {reason}"
        for one in tried for name, reason in one.evidence["missing"].items() if name in PREDICTORS
    }  # fmt: skip
    yield from sorted(lacking)


def _choices(spec: ExhibitSpec, tried: Sequence[Tried], found: Sequence[Verdict]) -> Block:
    level, shown = level_text(spec.scoring.level), tried[0].measure.shown
    trials = sum(one.seconds for one in tried) / len(tried)
    group = f"Worse than the best set tried, points of {tried[0].measure.name}"
    titles = (Column(f"one layer [{level}]", group), Column(f"several [{level}]", group),
              Column("seconds", "A prediction"), Column("of trying all", "A prediction"))  # fmt: skip
    rows: list[tuple[Printed, ...]] = []
    for verdict in found:
        share = verdict.seconds / trials if trials else 0.0
        rows.append(
            (
                Printed(PREDICTORS[verdict.predictor].label),
                Printed(pooled_text(verdict.alone, shown, 1)),
                Printed(pooled_text(verdict.together, shown, 1)),
                Printed(f"{verdict.seconds:.1f}"),
                Printed(f"{100 * share:.1f} %"),
            )
        )
    rows += [_chance(spec, tried), _nothing(spec, tried)]
    sizes = sorted({one.together for one in tried})
    several = " or ".join(map(str, sizes))
    notes = [
        "A predictor chooses among the sets that were tried: the one layer, or of the sets of "
        f"{several} layers the one, whose predicted harm is least. The best set (nothing frozen included) is found on "
        "all seeds but one and judged with the chosen one on that seed, in turn; below 0, the choice was better than "
        "the best that such trials find.",
        f"Trying all sets with all seeds took {seconds_text(trials)} of training for a transfer, decoding left out; a "
        "prediction's seconds count reading the model and the target, too.",
    ]
    return Block(
        f"What it costs to follow a prediction ({tried[0].measure.name})",
        "Predictor",
        titles,
        tuple(rows),
        tuple(notes),
    )


def _chance(spec: ExhibitSpec, tried: Sequence[Tried]) -> tuple[Printed, ...]:
    level = spec.scoring.level
    alone = pooled([one.regret_by_chance(1) for one in tried], level)
    together = pooled([one.regret_by_chance(one.together) for one in tried], level)
    cells = (Printed(pooled_text(found, tried[0].measure.shown, 1)) for found in (alone, together))
    return (Printed("Any, with equal chance"), *cells, Printed(NONE), Printed(NONE))


def _nothing(spec: ExhibitSpec, tried: Sequence[Tried]) -> tuple[Printed, ...]:
    lost = pooled([one.regret_of(one.nothing) for one in tried], spec.scoring.level)
    text = pooled_text(lost, tried[0].measure.shown, 1)
    return (Printed("Nothing frozen"), Printed(text), Printed(text), Printed(NONE), Printed(NONE))


def _transfers(tried: Sequence[Tried]) -> Block:
    shown, heading = tried[0].measure.shown, tried[0].measure.heading
    titles = (
        Column("layers"), Column("seeds"), Column("nothing frozen", heading), Column("best set", heading),
        Column("which", heading, text=True), Column("least", "Harm of one layer, points"),
        Column("most", "Harm of one layer, points"), Column("one seed", "Reliability of harm"),
        Column("all seeds", "Reliability of harm"), Column("largest ρ to expect", "Reliability of harm"),
        Column(f"seeds for {WANTED}", "Reliability of harm"), Column("layers to show ρ = 0.5"),
    )  # fmt: skip
    rows = []
    for one in tried:
        means = one.rates.mean(axis=1)
        best = list(one.sets)[int(means.argmin())]
        harm = one.effects.mean(axis=1)
        sure = one.reliability
        seeds = sure.seeds_for(WANTED) if sure else None
        cells = (
            *(str(len(one.layers)), str(one.rates.shape[1])),
            *(f"{shown(float(rate)):.1f}" for rate in (means[0], means.min())),
            ", ".join(one.sets[best]) or "nothing",
            *(signed(shown(float(value)), 1) for value in (harm.min(), harm.max())),
            *((f"{sure.single:.2f}", f"{sure.mean:.2f}", f"{sure.ceiling:.2f}") if sure else (NONE,) * 3),
            NONE if sure is None else str(seeds) if seeds is not None else ">1,000",
            str(layers_needed(0.5)),
        )
        rows.append((Printed(one.row.label), *(Printed(cell, runs=_runs(one)) for cell in cells)))
    note = (
        "Reliability: the share of the variance of layers' harm that is no seed noise (intraclass correlation of "
        "consistency). No prediction, however good, can be expected to correlate with such measurements by more than "
        "its root."
    )
    return Block(f"The transfers ({tried[0].measure.name})", "Transfer", titles, tuple(rows), (note,))


def _runs(one: Tried) -> tuple[str, ...]:
    return tuple(judged.run.id for group in one.judged.values() for judged in group)


# --- the same as rows -----------------------------------------------------------------------------


def _rows(spec: ExhibitSpec, tried: Sequence[Tried], found: Sequence[Verdict]) -> Iterator[Row]:
    for one in tried:
        yield from _transfer_rows(spec, one, found)
    for verdict in found:
        yield heading(spec) | {"row": "predictor", "measure": tried[0].measure.heading, **_verdict_columns(verdict)}


def _transfer_rows(spec: ExhibitSpec, one: Tried, found: Sequence[Verdict]) -> Iterator[Row]:
    place = {"transfer": one.row.name, "transfer_label": one.row.label, "model": one.row.model}
    common = heading(spec) | place | {"measure": one.measure.heading, "seeds": one.rates.shape[1]}
    sure = one.reliability
    yield common | {
        "row": "transfer", "layers": len(one.layers), "seconds": round(one.seconds, 1), "runs": " ".join(_runs(one)),
        "reliability_single": rounded(sure.single) if sure else "", "reliability": rounded(sure.mean) if sure else "",
        "seeds_needed": "" if sure is None else sure.seeds_for(WANTED) or "",
    }  # fmt: skip
    shown = one.measure.shown
    for treatment, frozen in one.sets.items():
        compared = one.comparisons.get(treatment)
        rate = float(one.rates[one.place(treatment)].mean())
        yield common | {"row": "set", "treatment": treatment, "layer": " ".join(frozen), "value": rounded(shown(rate))}
        if compared is not None:
            ends = {"low": compared.low, "high": compared.high}
            yield common | {
                "row": "harm", "treatment": treatment, "layer": " ".join(frozen), "p": rounded(compared.p),
                "value": rounded(shown(compared.difference)),
                **{key: "" if end is None else rounded(shown(end)) for key, end in ends.items()},
            }  # fmt: skip
    for verdict in found:
        yield from _prediction_rows(one, common | {"predictor": verdict.predictor})


def _prediction_rows(one: Tried, common: Row) -> Iterator[Row]:
    name = common["predictor"]
    for layer, score in one.evidence["scores"].get(name, {}).items():
        yield common | {"row": "score", "layer": layer, "value": float(f"{score:.6g}")}
    rho = one.rho(name)
    if rho is not None:
        alone, together = (one.regret(name, count) for count in (1, one.together))
        yield common | {
            "row": "rho", "value": rounded(rho), "p": rounded(one.p(name)), "layers_needed": layers_needed(rho) or "",
            "regret_alone": "" if alone is None else rounded(one.measure.shown(alone)), "size": one.together,
            "regret_together": "" if together is None else rounded(one.measure.shown(together)),
            "seconds": round(one.cost(name), 3),
        }  # fmt: skip


def _verdict_columns(verdict: Verdict) -> Row:
    row: Row = {"predictor": verdict.predictor, "seconds": round(verdict.seconds, 3)}
    if verdict.rho is not None:
        rho = verdict.rho
        row |= {"value": rounded(rho.mean), "low": rounded(rho.low), "high": rounded(rho.high), "p": rounded(rho.p)}
        row |= {"sd": rounded(rho.sd), "transfers": rho.transfers, "needed": rho.needed or ""}
        row |= {"p_holm": rounded(verdict.p_holm)}
    if verdict.beyond is not None and verdict.predictor != BASELINE:
        more = verdict.beyond
        row |= {"beyond_depth": rounded(more.mean), "beyond_depth_low": rounded(more.low)}
        row |= {"beyond_depth_high": rounded(more.high), "beyond_depth_p": rounded(more.p)}
        row |= {"beyond_depth_p_holm": rounded(verdict.beyond_holm), "beyond_depth_needed": more.needed or ""}
    if verdict.given_depth is not None:
        held = verdict.given_depth
        row |= {"given_depth": rounded(held.mean), "given_depth_low": rounded(held.low)}
        row |= {"given_depth_high": rounded(held.high)}
    for key, found in (("regret_alone", verdict.alone), ("regret_together", verdict.together)):
        row[key] = "" if found is None else rounded(100 * found.mean)
    return row
