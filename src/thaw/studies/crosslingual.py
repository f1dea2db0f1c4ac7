"""NVIDIA's NeMo blog post of 2020: QuartzNet from English to Russian and Spanish, encoder kept, decoder new.

The module is imported while the workflow is parsed, so nothing heavy is imported here: what draws is imported when an
exhibit is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from thaw.exhibits.spec import FIGURE, FINDINGS, TABLE, Exhibit, ExhibitSpec, RunRow, of_target
from thaw.planning import checks, grid

if TYPE_CHECKING:
    from thaw.exhibits.frame import Cell
    from thaw.exhibits.published import Published
    from thaw.exhibits.rates import Kind, Ticks

PAPER = "NVIDIA NeMo blog post 2020"
CREDIT = (
    "NVIDIA, blog post on NeMo, 2020: QuartzNet fine-tuned from English to Russian and Spanish (Mozilla Common Voice)"
)
PAPER_FINDING = (
    "Fine-tuned from English, QuartzNet beats training from scratch on both languages, and by more where there is less "
    "speech: Russian (16 hours) 32.2 against 59.5 % WER, Spanish (96 hours) 14.96 against 19.82 %. A smaller network "
    "from scratch stays above 42 % on Russian. Dev sets, one training of each, no intervals."
)
RATES = "crosslingual.csv"


class Spec(grid.GridSpec):
    """What a config says of this study."""

    kind: Literal["crosslingual"]


check, plan = checks.check, grid.plan

# The treatments of the post come first: their colours stay the same whatever else a study adds.
TREATMENTS = ("scratch", "finetuned", "scratch-small")

PUBLISHED_TITLE = f"Published ({PAPER}, paper scale, dev set)"
PUBLISHED_NOTE = (
    "Mozilla Common Voice dev set, greedy decoding, one training each, no intervals. The English model that the post "
    "starts from has 3.91 % WER on LibriSpeech dev-clean, 10.58 % on dev-other."
)


def _published() -> Published:
    from thaw.exhibits.published import Published

    return Published(RATES, PUBLISHED_TITLE, PUBLISHED_NOTE, "greedy", split="dev")


def _findings(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.findings import Findings

    return Findings(PAPER, PAPER_FINDING, _published()).draw(spec)


def _table_corpora(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.corpora import CorporaTable
    from thaw.exhibits.grid import Block, Column, Printed
    from thaw.exhibits.published import read_table

    hours = {row["target_label"]: row["hours"] for row in read_table(spec, RATES)}
    rows = tuple((Printed(label), Printed("train"), Printed(stated)) for label, stated in hours.items())
    columns = (Column("Split", text=True), Column("Hours, as stated"))
    note = "Mozilla Common Voice; which release is not known. Hours as our manifests count them stand above."
    published = Block(f"Published ({PAPER}, paper scale)", "Corpus", columns, rows, (note,))
    return CorporaTable("Corpora", apart=(published,)).draw(spec)


def _table_wer(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.tables import RatesTable

    return RatesTable("Word and character error rates", _published(), models=True).draw(spec)


def _figure_loss(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.curves import CurvesFigure
    from thaw.exhibits.style import TARGET_COLOURS

    how = CurvesFigure("Train loss", TREATMENTS, "train_loss", "", "step", True, TARGET_COLOURS, "Treatment")
    return how.draw(spec)


def _figure_dev(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.curves import CurvesFigure
    from thaw.exhibits.style import TARGET_COLOURS

    title = "Word error rate on the dev set"
    return CurvesFigure(title, TREATMENTS, "dev_wer", "", "step", False, TARGET_COLOURS, "Treatment").draw(spec)


def _figure_learning_rate(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.rates import RatesFigure

    def kinds(cells: Sequence[Cell]) -> list[Kind]:
        return ["level" if cell.run.scratch else "line" for cell in cells]

    def ticks(cells: Sequence[Cell]) -> Ticks:
        return {rate: f"{rate:g}" for rate in sorted({cell.run.learning_rate for cell in cells})}

    return RatesFigure(
        "Word error rate by learning rate of fine-tuning", "Peak learning rate (logarithmic)", kinds=kinds, ticks=ticks,
        place=lambda cell: cell.run.learning_rate, words=(("level", "from scratch"),), spread=0.025, log=True,
    ).draw(spec)  # fmt: skip


def _compared(place: int) -> Callable[[ExhibitSpec], tuple[RunRow, ...]]:
    """The baseline and the reference on one target, as the post compares them; all treatments without a reference."""

    def runs(spec: ExhibitSpec) -> tuple[RunRow, ...]:
        shown = {spec.baseline, spec.reference} if spec.reference else set(spec.treatments)
        return tuple(run for run in of_target(place)(spec) if run.treatment in shown)

    return runs


def learning_rates(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """Runs with nothing frozen that differ from the reference in learning rate alone, and the baseline beside them.

    None where there is but one learning rate. Only their greedy decodes are kept (the first decoder's, without one).
    """
    moved = [run for run in spec.runs if not run.scratch and not run.frozen]
    treatments = dict.fromkeys(run.treatment for run in moved)
    first = spec.reference if spec.reference in treatments else next(iter(treatments), "")
    family = {run.alike for run in moved if run.treatment == first}
    chosen = [run for run in moved if run.alike in family]
    if len({run.learning_rate for run in chosen}) < 2:
        return ()
    chosen += [run for run in spec.runs if run.treatment == spec.baseline and run.scratch]
    decoders = {decode.decoder: decode.kind for run in chosen for decode in run.decodes}
    shown = next((name for name, kind in decoders.items() if kind == "greedy"), next(iter(decoders), ""))
    return tuple(
        run.model_copy(update={"decodes": tuple(d for d in run.decodes if d.decoder == shown)}) for run in chosen
    )


EXHIBITS: dict[str, Exhibit] = {
    "findings": Exhibit("Findings", FINDINGS, ("scores",), _findings, (RATES,)),
    "table-corpora": Exhibit("Corpora", TABLE, ("corpora",), _table_corpora, (RATES,)),
    "table-wer": Exhibit("Word and character error rates", TABLE, ("scores", "sources", "setup"), _table_wer, (RATES,)),
    "figure3": Exhibit(
        "Figure 3: train loss, first target", FIGURE, ("metrics", "style"), _figure_loss, runs=_compared(0)
    ),
    "figure4": Exhibit(
        "Figure 4: WER on dev, first target", FIGURE, ("metrics", "style"), _figure_dev, runs=_compared(0)
    ),
    "figure5": Exhibit(
        "Figure 5: train loss, second target", FIGURE, ("metrics", "style"), _figure_loss, runs=_compared(1)
    ),
    "figure6": Exhibit(
        "Figure 6: WER on dev, second target", FIGURE, ("metrics", "style"), _figure_dev, runs=_compared(1)
    ),
    "figure-learning-rate": Exhibit(
        "Word error rate by learning rate", FIGURE, ("scores", "setup"), _figure_learning_rate, runs=learning_rates
    ),
}
