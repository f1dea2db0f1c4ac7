"""NVIDIA's NeMo blog post of 2020: QuartzNet from English to Russian and Spanish, encoder kept, decoder new.

The module is imported while the workflow is parsed, so nothing heavy is imported here: what draws is imported when an
exhibit is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from thaw.exhibits.spec import Exhibit, ExhibitSpec, RunRow, of_target
from thaw.planning import checks, grid

PAPER = "NVIDIA NeMo blog post 2020"
CREDIT = (
    "NVIDIA, blog post on NeMo, 2020: QuartzNet fine-tuned from English to Russian and Spanish (Mozilla Common Voice)"
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


def _table_corpora(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.grid import Block, Cell, Column
    from thaw.exhibits.published import read_table
    from thaw.exhibits.tables import CorporaTable

    hours = {row["target_label"]: row["hours"] for row in read_table(spec, RATES)}
    rows = tuple((Cell(label), Cell("train"), Cell(stated)) for label, stated in hours.items())
    columns = (Column("Split", text=True), Column("Hours, as stated"))
    note = "Mozilla Common Voice; which release is not known. Hours as our manifests count them stand above."
    published = Block(f"Published ({PAPER}, paper scale)", "Corpus", columns, rows, (note,))
    return CorporaTable("Corpora", apart=(published,)).draw(spec)


def _table_wer(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.tables import RatesTable

    return RatesTable(
        "Word and character error rates",
        RATES,
        PUBLISHED_TITLE,
        PUBLISHED_NOTE,
        "greedy",
        stub="Treatment",
        models=True,
        split="dev",
    ).draw(spec)


def _figure_loss(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.steps import draw_loss

    return draw_loss(spec, "Train loss", TREATMENTS)


def _figure_dev(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.steps import draw_dev

    return draw_dev(spec, "Word error rate on the dev set", TREATMENTS)


def _figure_learning_rate(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.sweep import draw_sweep

    return draw_sweep(spec, "Word error rate by learning rate of fine-tuning")


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


_TABLE = ("csv", "md", "tex", "json")
_FIGURE = ("png", "pdf", "csv")

EXHIBITS: dict[str, Exhibit] = {
    "table-corpora": Exhibit("Corpora", _TABLE, ("corpora",), _table_corpora, (RATES,)),
    "table-wer": Exhibit(
        "Word and character error rates", _TABLE, ("scores", "sources", "metrics", "setup"), _table_wer, (RATES,)
    ),
    "figure3": Exhibit(
        "Figure 3: train loss, first target", _FIGURE, ("metrics", "style"), _figure_loss, runs=_compared(0)
    ),
    "figure4": Exhibit(
        "Figure 4: WER on dev, first target", _FIGURE, ("metrics", "style"), _figure_dev, runs=_compared(0)
    ),
    "figure5": Exhibit(
        "Figure 5: train loss, second target", _FIGURE, ("metrics", "style"), _figure_loss, runs=_compared(1)
    ),
    "figure6": Exhibit(
        "Figure 6: WER on dev, second target", _FIGURE, ("metrics", "style"), _figure_dev, runs=_compared(1)
    ),
    "figure-learning-rate": Exhibit(
        "Word error rate by learning rate", _FIGURE, ("scores", "setup"), _figure_learning_rate, runs=learning_rates
    ),
}
