"""The tables and findings of the top-down study: each cascade a block of its own, compared within itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from thaw.exhibits.cascade import BASELINE, LONGER, STAGE, by_group, of_role, outcome, place_of, steps, trained
from thaw.exhibits.findings import general, part, written_findings
from thaw.exhibits.frame import COLUMNS, Frame, as_csv, frame_rows, grouped, read_frame
from thaw.exhibits.grid import NONE, Block, Column, Grid, Printed, written
from thaw.exhibits.published import read_table
from thaw.exhibits.spec import ExhibitSpec, RunRow
from thaw.exhibits.tables import RatesTable
from thaw.scoring.measures import MEASURES

SWAP, LOWEST = "swap", "lowest"
GROUP_COLUMNS = (*COLUMNS[:3], "group", "group_label", *COLUMNS[3:])


@dataclass(frozen=True)
class Experiment:
    """One cascade as the tables show it: its baseline, what Algorithm 1 makes of it, and its controls."""

    label: str
    spec: ExhibitSpec  # with these rows alone
    frame: Frame


def experiments(spec: ExhibitSpec) -> Iterator[Experiment]:
    """Every cascade of the spec's runs, compared to its own baseline and to its own outcome."""
    for group, runs in by_group(spec.runs).items():
        stages = {run.treatment: run.label for run in of_role(runs, STAGE)}
        first = of_role(runs, BASELINE)
        end = f"{group}-top-down"
        if len(stages) == 1:  # no break rule: there is nothing to go back to
            label = "Classifier from itself" if of_role(runs, SWAP) else "Top-down"
            ends = [run.model_copy(update={"treatment": end, "label": label}) for run in of_role(runs, STAGE)]
        else:
            ends = outcome(runs, end, "Top-down (Algorithm 1)") if stages else []
        rows = _subsets([*first, *ends, *of_role(runs, SWAP, LOWEST, LONGER)])
        changes = {"runs": tuple(rows), "others": (), "baseline": first[0].treatment, "reference": end if ends else ""}
        mine = spec.model_copy(update=changes)
        yield Experiment(place_of(runs[0]).label, mine, read_frame(mine))


def _subsets(runs: Sequence[RunRow]) -> list[RunRow]:
    """The runs, once for each part of their test set that has rates of its own."""
    found = []
    for run in runs:
        tested = [decode for decode in run.decodes if decode.split == "test"]
        for label, pattern in place_of(run).subsets.items():
            decodes = tuple(decode.model_copy(update={"ids": pattern}) for decode in tested)
            found.append(run.model_copy(update={"target": label, "target_label": label, "decodes": decodes}))
        if not place_of(run).subsets:
            found.append(run)
    return found


# --- tables ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CascadesTable:
    """Rates of several cascades: blocks of each, the published cells apart."""

    title: str
    published: str  # the file in config/published, a row for each cell as printed
    name: str  # of the table in it
    note: str

    def draw(self, spec: ExhibitSpec) -> dict[str, bytes]:
        """The table as csv, md, tex and json."""
        results: list[Block] = []
        tests: list[Block] = []
        rows: list[dict[str, Any]] = []
        for one in experiments(spec):
            mine, differences = RatesTable(one.label).blocks(one.spec, one.frame)
            results += mine
            tests += [Block(f"{one.label}. {b.title}", b.stub, b.columns, b.rows, b.notes) for b in differences]
            rows += [row | {"group_label": one.label} for row in frame_rows(one.spec, one.frame)]
        apart = (published_block(spec, self.published, self.name, self.note),)
        grid = Grid(f"{spec.study}-{spec.name}", self.title, spec.note, tuple(results), apart, tuple(tests))
        return written(grid, as_csv(GROUP_COLUMNS, rows))


def published_block(spec: ExhibitSpec, file: str, table: str, note: str) -> Block:
    """One of the paper's tables as it prints it: rows by `row`, columns by `column`, cells as `printed`."""
    cells = [row for row in read_table(spec, file) if row["exhibit"] == table]
    titles = list(dict.fromkeys(cell["column"] for cell in cells))
    rows = []
    for label, mine in grouped(cells, lambda cell: (cell["group"], cell["row"])).items():
        texts = {cell["column"]: cell["printed"] for cell in mine}
        name = ": ".join(filter(None, label))
        rows.append((Printed(name), *(Printed(texts.get(title) or NONE) for title in titles)))
    title = "Published (Zhang et al. 2021, paper scale)"
    return Block(title, "Training", tuple(map(Column, titles)), tuple(rows), (note,))


# --- findings -------------------------------------------------------------------------------------


def draw_findings(spec: ExhibitSpec, paper: str, finding: str) -> dict[str, bytes]:
    """What each cascade shows, as md and json: by its first measure, or by words where that is counted."""
    found: list[dict[str, Any]] = []
    every = [*experiments(spec)]
    whole = tuple(cell for one in every for cell in one.frame)
    for one in every:
        measures = [cell.measure for cell in one.frame]
        shown = next((measure for measure in MEASURES.values() if measure in measures), measures[0])
        columns = grouped((cell for cell in one.frame if cell.measure == shown), lambda cell: cell.column)
        for cells in columns.values():
            mine = part(one.spec, cells, whole)
            said = [*mine["sentences"], *_endings(spec, one.spec.baseline)]
            found.append({"title": f"{one.label}, {mine['title']}", "sentences": said})
    about = {"paper": paper, "finding": finding, "note": spec.note}
    return written_findings({**about, "general": general(whole), "parts": found})


def _endings(spec: ExhibitSpec, baseline: str) -> list[str]:
    """Where Algorithm 1 ended with each seed, and how long it took."""
    runs = next(runs for runs in by_group(spec.runs).values() if runs[0].treatment == baseline)
    chains = steps(runs)
    if not chains or len(next(iter(chains.values()))) <= 2:
        return []
    total = len(next(iter(chains.values()))) - 1
    texts = []
    for seed, chain in chains.items():
        accepted = sum(step.verdict == "accepted" for step in chain)
        texts.append(f"{accepted} of {total} with seed {seed} ({chain[-1].so_far} epochs for all)")
    longer = [f"{trained(run).epochs} epochs with seed {run.seed}" for run in of_role(runs, LONGER)]
    more = f" The longer training of the baseline has {', '.join(longer)}." if longer else ""
    return [f"Stages that Algorithm 1 accepted, one after the other: {', '.join(texts)}.{more}"]
