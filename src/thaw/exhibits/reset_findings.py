"""What an ambient study found, in sentences made from its numbers and their noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thaw.config.starts import BEST
from thaw.exhibits.criticality import AMBIENT, agreement, ranks, whole_layers
from thaw.exhibits.federated import share_text, tested_pairs
from thaw.exhibits.findings import part, written_findings
from thaw.exhibits.frame import Cell, Tested, grouped, read_frame
from thaw.exhibits.notes import bounds_text
from thaw.exhibits.resets import KINDS, ResetCell, ResetPlace, read_resets
from thaw.exhibits.spec import ExhibitSpec
from thaw.scoring.paired import DIFFERENCE, differences, mean_over, paired
from thaw.scoring.statistics import SIGNIFICANT, seed_noise


def draw(spec: ExhibitSpec, paper: str, finding: str) -> dict[str, bytes]:
    """{paper, finding, note, general, parts: [{title, sentences}]}, as md and json: a part for each model, and one for
    federated dropout.
    """
    cells = read_resets(spec)
    models = grouped(cells, lambda cell: cell.run.treatment)
    return written_findings(
        {
            "paper": paper,
            "finding": finding,
            "note": spec.note,
            "general": _general(cells),
            "parts": [
                *({"title": mine[0].run.label, "sentences": _model(spec, mine)} for mine in models.values()),
                *federated_parts(spec),
            ],
        }
    )


def _general(cells: Sequence[ResetCell]) -> list[str]:
    once = [*dict.fromkeys(cell.run.label for cell in cells if cell.estimate.seeds == 1)]
    if not once:
        return []
    return [f"Trained with one random seed, and so true of these trained models alone: {', '.join(once)}."]


def _model(spec: ExhibitSpec, cells: Sequence[ResetCell]) -> list[str]:
    base = next(cell for cell in cells if cell.place == ResetPlace(BEST))
    found = base.estimate
    sentences = [f"As trained: {base.measure.name} {bounds_text(base.measure, found.rate, found.low, found.high)} %."]
    for to in ("draw", "first"):
        if layers := whole_layers(cells, to):
            sentences += _resets(base, layers, to)
    if difference := _milder(spec, whole_layers(cells, "draw"), whole_layers(cells, "first")):
        sentences.append(difference)
    return sentences


def federated_parts(spec: ExhibitSpec) -> list[dict[str, Any]]:
    """What the table of federated dropout shows, one part for each way of judging."""
    runs = tuple(run for run in spec.runs if run.decodes and not run.probes)
    if not runs:
        return []
    own = spec.model_copy(update={"runs": runs})
    found = []
    frame = read_frame(own, ["word"])
    for cells in grouped(frame, lambda cell: cell.column).values():
        shown = part(own, cells, frame)
        sentences = [*shown["sentences"], *(_pair(*pair) for pair in tested_pairs(own, cells))]
        found.append({"title": f"Federated dropout, {shown['title']}", "sentences": sentences})
    return found


def _pair(critical: Cell, ambient: Cell, tested: Tested) -> str:
    """Units left out of critical layers against as many of ambient ones."""
    test = tested.comparison
    change = f"{100 * test.difference:+.1f} points".replace("-", "−")
    noise = "" if tested.p is not None and tested.p < SIGNIFICANT else ", which is within noise"
    how = f"“{critical.label}” to “{ambient.label}”, both without {share_text(ambient)} of the parameters"
    return f"{how}: {change} {critical.measure.name}{noise}."


def _resets(base: ResetCell, layers: Sequence[ResetCell], to: str) -> list[str]:
    penalties = {cell.place.layer: _penalty(cell) for cell in layers}
    worst = max(penalties, key=penalties.__getitem__)
    ambient = [layer for layer, penalty in penalties.items() if penalty < AMBIENT * base.estimate.rate]
    which = f"{len(ambient)} of {len(layers)} layers ({', '.join(ambient)})" if ambient else f"none of {len(layers)}"
    most = f"{worst} ({100 * penalties[worst]:+.1f} points)"
    text = f"{KINDS[to].capitalize()}: most critical is {most}; ambient are {which}."
    agreed = agreement(ranks(layers))
    return [text] + (
        [f"Seeds agree on the order with a rank correlation of {agreed:.2f}."] if agreed is not None else []
    )


def _penalty(cell: ResetCell) -> float:
    assert cell.penalty is not None  # only the model as it is has none
    return cell.penalty.comparison.difference


def _milder(spec: ExhibitSpec, drawn: Sequence[ResetCell], first: Sequence[ResetCell]) -> str:
    """By how much re-init differs from re-rand, over all layers of a model; empty where one of them is not there."""
    if not drawn or len(drawn) != len(first):
        return ""
    pairs = [differences(one.samples, other.samples, one.measure.key) for one, other in zip(drawn, first, strict=True)]
    every = mean_over(pairs)
    test = paired(every, spec.scoring, seed_noise([every], DIFFERENCE))
    change = f"{100 * test.difference:+.1f} points".replace("-", "−")
    if test.low is None or test.high is None:
        return f"Re-init against re-rand, mean over layers: {change}."
    sure = test.low > 0 or test.high < 0 if test.p is None else test.p < SIGNIFICANT
    bounds = f"[{100 * test.low:+.1f}, {100 * test.high:+.1f}]".replace("-", "−")
    word = "" if sure else ", which is within noise"
    return f"Re-init against re-rand, mean over layers: {change} {bounds}{word}."
