"""Eberhard & Zesch (KONVENS 2021): transfer DeepSpeech from English with its first layers frozen.

The module is imported while the workflow is parsed, so nothing heavy is imported here: what draws is imported when an
exhibit is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from thaw.exhibits.spec import FIGURE, FINDINGS, TABLE, Exhibit, ExhibitSpec, RunRow, of_target
from thaw.planning import checks, grid

if TYPE_CHECKING:
    from thaw.exhibits.published import Published

PAPER = "Eberhard & Zesch 2021"
CREDIT = (
    "O. Eberhard and T. Zesch, Effects of Layer Freezing when Transferring DeepSpeech to New Languages, KONVENS 2021"
)
PAPER_FINDING = (
    "Started from English, German gets better: 62.7 % WER with nothing frozen, 48.3 % with the first layer frozen, "
    "43.7 to 46.2 % with more, against 69.7 % from scratch. Swiss German gains less, and only with something "
    "frozen: 67.2 to 69.9 %, against 76.2 % with nothing frozen and 74.1 % from scratch. One frozen layer brings most "
    "of it; which others are frozen with it matters little, and training was no faster. One training of each, no "
    "intervals."
)
RATES = "freezing.csv"
CURVES = "deepspeech-paper-curves.json"
CORPORA = "freezing-corpora.csv"
PAPER_EPOCHS = 15  # as many as the paper's figures show


class Spec(grid.GridSpec):
    """What a config says of this study."""

    kind: Literal["freezing"]


check, plan = checks.check, grid.plan

# The treatments of the paper, in its order: their colours stay the same whatever else a study adds.
TREATMENTS = ("scratch", "frozen-0", "frozen-1", "frozen-2", "frozen-3", "frozen-4", "frozen-5", "frozen-3-5")

_LSTM = (
    "The paper's text freezes the LSTM here, and so do our runs. Its logs load optimiser state for the LSTM, so in the "
    "published rows the LSTM was most likely trained: as run, “1-4” repeats “1-3”, and “1-5” repeats “1-3, 5”."
)
REMARKS = {"frozen-4": _LSTM, "frozen-5": _LSTM}

PUBLISHED_TITLE = f"Published ({PAPER}, paper scale, logged values)"
PUBLISHED_NOTE = (
    "Rates from the authors' test logs; beam search with a German 5-gram model, one random seed, no intervals."
)


def _published() -> Published:
    from thaw.exhibits.published import Published

    return Published(RATES, PUBLISHED_TITLE, PUBLISHED_NOTE, "beam", REMARKS)


def _findings(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.findings import Findings

    return Findings(PAPER, PAPER_FINDING, _published()).draw(spec)


def _table1(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.corpora import CorporaTable
    from thaw.exhibits.grid import Block, Column, Printed
    from thaw.exhibits.published import read_table

    rows = []
    for row in read_table(spec, CORPORA):
        logged = f"{int(row['logged_low']):,} to {int(row['logged_high']):,}"
        stated = [f"{int(row[key]):,}" if row[key] else "–" for key in ("stated_hours", "stated_speakers")]
        rows.append(tuple(Printed(text) for text in (row["target_label"], row["split"], logged, *stated)))
    columns = (Column("Split", text=True), Column("Utterances, as logged"), Column("Hours, as stated"),
               Column("Speakers, as stated"))  # fmt: skip
    note = (
        "Utterances follow from the steps per epoch in the authors' logs; about 7,900 German clips cannot be the 315 "
        "hours that the text states."
    )
    published = Block(f"Published ({PAPER}, paper scale)", "Corpus", columns, tuple(rows), (note,))
    return CorporaTable("Corpora", apart=(published,)).draw(spec)


def _table2(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.tables import RatesTable

    title = "Word and character error rates"
    return RatesTable(title, _published(), stub="Frozen layers").draw(spec)


def _curves(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.curves import CurvesFigure

    return CurvesFigure("Learning curves", TREATMENTS).draw(spec)


def _many_targets(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """All runs, where there are more targets than the paper has figures for."""
    return spec.runs if len(spec.targets) > 2 else ()


def _figure_wer(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.rates import RatesFigure

    return RatesFigure("Word error rate by frozen layers", "Frozen layers").draw(spec)


def _published_curves(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.curves import PublishedCurvesFigure

    return PublishedCurvesFigure(PAPER, TREATMENTS, rates=RATES, curves=CURVES, epochs=PAPER_EPOCHS).draw(spec)


EXHIBITS: dict[str, Exhibit] = {
    "findings": Exhibit("Findings", FINDINGS, ("scores",), _findings, (RATES,)),
    "table1": Exhibit("Table 1: corpora", TABLE, ("corpora",), _table1, (CORPORA,)),
    "table2": Exhibit("Table 2: word and character error rates", TABLE, ("scores", "sources"), _table2, (RATES,)),
    "figure2": Exhibit(
        "Figure 2: learning curves, first target", FIGURE, ("metrics", "style"), _curves, runs=of_target(0)
    ),
    "figure3": Exhibit(
        "Figure 3: learning curves, second target", FIGURE, ("metrics", "style"), _curves, runs=of_target(1)
    ),
    "figure-all": Exhibit("Learning curves, every target", FIGURE, ("metrics", "style"), _curves, runs=_many_targets),
    "figure-wer": Exhibit("Word error rate by frozen layers", FIGURE, ("scores",), _figure_wer),
    "figure-published": Exhibit(
        f"The paper's own learning curves ({PAPER})", FIGURE, ("style",), _published_curves, (RATES, CURVES)
    ),
}
