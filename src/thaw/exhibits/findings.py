"""What a study found, in sentences made from its numbers and their noise, with the paper's own finding beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from thaw.exhibits.frame import Cell, Frame, change, grouped, read_frame
from thaw.exhibits.grid import markdown_text
from thaw.exhibits.notes import bounds_text, smallest_text, with_unit
from thaw.exhibits.published import Published, read_rates
from thaw.exhibits.spec import ExhibitSpec
from thaw.scoring.statistics import SIGNIFICANT


@dataclass(frozen=True)
class Findings:
    """The findings of a study by one measure, as Markdown and as JSON for the report."""

    paper: str  # its short name
    finding: str  # in the paper's own numbers
    published: Published | None = None
    measure: str = "word"

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """{paper, finding, note, general: sentences, parts: [{title, sentences}]}, as md and json."""
        frame = read_frame(spec, [self.measure])
        found: dict[str, Any] = {
            "paper": self.paper,
            "finding": self.finding,
            "note": spec.note,
            "general": general(frame) + self._agreement(spec, frame),
            "parts": [part(spec, cells, frame) for cells in grouped(frame, lambda cell: cell.column).values()],
        }
        return written_findings(found)

    def _agreement(self, spec: ExhibitSpec, frame: Frame) -> list[str]:
        """Whether differences that are more than noise go the way of the published ones on the same target."""
        if self.published is None:
            return []
        known = [rate for rate in read_rates(spec, self.published.file) if not rate.bound]
        rates = {(rate.target, rate.treatment): rate.rates.get(self.measure) for rate in known}
        alike: list[str] = []
        against: list[str] = []
        for cell in frame:
            theirs = rates.get((cell.run.target, cell.run.treatment))
            for base, test in cell.tests.items():
                first = rates.get((cell.run.target, base))
                if test.p is not None and test.p < SIGNIFICANT and theirs is not None and first is not None:
                    pair = f"“{cell.label}” to “{spec.treatments[base]}”"
                    name = f"{cell.run.target_label} {pair} ({cell.decode.label})"
                    (alike if (theirs < first) == (test.comparison.difference < 0) else against).append(name)
        if not alike and not against:
            return []
        both = len(alike) + len(against)
        text = f"Of {both} differences beyond noise that the paper has numbers for, {len(alike)} go its way"
        return [f"{text}; the other way go: {', '.join(against)}." if against else f"{text}."]


def general(frame: Frame) -> list[str]:
    """What holds for all of a study: what its numbers speak of, and whether its trainings were finished."""
    runs = {one.run.id for cell in frame for one in cell.judged}
    late = {run for cell in frame for run in cell.unfinished}
    sentences = []
    if all(not cell.noise.degrees for cell in frame):
        sentences.append(
            "No random seed is repeated: what follows is true of these trained models, and says nothing of what the "
            "same treatments would give in another training."
        )
    if late:
        sentences.append(
            f"{len(late)} of {len(runs)} trainings had their best epoch at their end: they were stopped, not finished, "
            "so rates say how fast a treatment learns as much as how far it gets."
        )
    return sentences


def part(spec: ExhibitSpec, cells: Sequence[Cell], frame: Sequence[Cell]) -> dict[str, Any]:
    """What one column of rates shows, of all cells of the findings."""
    title = f"{cells[0].run.target_label}: {cells[0].decode.way_label}"
    best = min(cells, key=lambda cell: cell.rate)
    sentences = [f"Lowest {best.measure.name}: {_named(best)}."]
    # Where that holds of all columns, it is said of the whole (`general`).
    if any(cell.noise.degrees for cell in frame) and not any(cell.noise.degrees for cell in cells):
        sentences.insert(0, "No random seed is repeated here: this is true of these trained models alone.")
    for base in dict.fromkeys((spec.baseline, spec.reference)):
        first = next((cell for cell in cells if cell.row == (base, "")), None)
        # How the reference compares to the baseline is said once.
        tested = [
            cell
            for cell in cells
            if base in cell.tests and (base == spec.baseline or cell.run.treatment != spec.baseline)
        ]
        if first and tested:
            sentences += compared(first, tested)
    return {"title": title, "sentences": sentences}


def compared(first: Cell, others: Sequence[Cell]) -> list[str]:
    """Which treatments differ from `first` by more than their noise, and which cannot be told apart from it."""
    base = first.run.treatment
    tests = {cell.row: cell.tests[base] for cell in others}
    trained = all(test.p is None for test in tests.values())

    def beyond(cell: Cell) -> bool:
        test = tests[cell.row]
        low, high = test.comparison.low, test.comparison.high
        if trained:
            return low is not None and high is not None and (low > 0 or high < 0)
        return test.p is not None and test.p < SIGNIFICANT

    lower = [cell for cell in others if beyond(cell) and tests[cell.row].comparison.difference < 0]
    higher = [cell for cell in others if beyond(cell) and tests[cell.row].comparison.difference > 0]
    rest = [cell for cell in others if cell not in lower and cell not in higher]
    why = (
        "by more than other speakers would change (its interval leaves out 0)"
        if trained
        else f"beyond noise (p < {SIGNIFICANT}, Holm)"
    )
    sentences = [
        f"{word} than {_named(first)}, {why}: {_differences(found, base)}."
        for word, found in (("Lower", lower), ("Higher", higher)) if found
    ]  # fmt: skip
    if rest:
        smallest = smallest_text([*others], base)
        size = f" (smallest difference that could have been shown: {smallest})" if smallest else ""
        same = f"Cannot be told apart from “{first.run.label}” at this size{size}"
        sentences.append(f"{same}: {_differences(rest, base)}.")
    return sentences


def _named(cell: Cell) -> str:
    found = cell.estimate
    return f"“{cell.label}” ({with_unit(bounds_text(cell.measure, found.rate, found.low, found.high), cell.measure)})"


def _differences(cells: Iterable[Cell], base: str) -> str:
    texts = []
    for cell in cells:
        difference = cell.tests[base].comparison.difference
        moved = f"{change(cell, difference, cell.rate - difference):+.1f}".replace("-", "−")
        texts.append(f"“{cell.label}” ({moved})")
    return ", ".join(texts)


def written_findings(found: dict[str, Any]) -> dict[str, bytes]:
    """{paper, finding, note, general, parts} as Markdown, and as JSON for the report."""
    text = json.dumps(found, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    return {"md": _markdown(found).encode(), "json": text.encode()}


def _markdown(found: dict[str, Any]) -> str:
    lines = ["# Findings", "", f"**{markdown_text(found['note'])}**", ""]
    lines += [f"- {markdown_text(sentence)}" for sentence in found["general"]]
    for one in found["parts"]:
        lines += ["", f"## {markdown_text(one['title'])}", ""]
        lines += [f"- {markdown_text(sentence)}" for sentence in one["sentences"]]
    lines += ["", f"## The paper's own finding ({markdown_text(found['paper'])})", "", markdown_text(found["finding"])]
    return "\n".join(lines) + "\n"
