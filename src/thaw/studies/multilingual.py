"""Heigold et al. (ICASSP 2013): networks for single languages, from English, and one for all languages together.

GMM-HMMs give every frame a tied state; networks learn these, and are decoded as hybrids. The same design with CTC is a
study of its own: another entry of `studies` with a recipe whose task is ctc, and exhibits of its own.

The module is imported while the workflow is parsed, so nothing heavy is imported here: what draws is imported when an
exhibit is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from thaw.config.sources import Name
from thaw.config.starts import BEST
from thaw.errors import suggestion
from thaw.exhibits.spec import FIGURE, FINDINGS, TABLE, Exhibit, ExhibitSpec, RunRow
from thaw.planning import checks, grid
from thaw.planning.alignments import gmm_decode_of
from thaw.planning.plan import Study

if TYPE_CHECKING:
    from thaw.config.config import Config

PAPER = "Heigold et al. 2013"
CREDIT = (
    "G. Heigold, V. Vanhoucke, A. Senior, P. Nguyen, M. Ranzato, M. Devin, J. Dean: Multilingual acoustic models using "
    "distributed deep neural networks. ICASSP 2013"
)
PAPER_FINDING = (
    "Networks beat GMM-HMMs by 9 to 25 % of their word errors in all eleven languages. Starting from English helps, by "
    "4 % on average where a language has up to 270 hours and by 2 % where it has 920 or more; one network for all "
    "languages, with the lower three hidden layers shared, helps by 7 and 2 %. Scarce languages gain most. One "
    "training of each, no intervals."
)
RATES = "multilingual.csv"
GMM = "gmm"  # the treatment whose words the alignment's own model found: nobody trains it in epochs
TREATMENTS = (GMM, "scratch", "cross-top-2", "cross-top-3", "cross-all", "multilingual")  # colours stay the same


class Spec(grid.GridSpec):
    """What a config says of this study."""

    kind: Literal["multilingual"]
    curves: tuple[Name, ...] = ()  # further treatments, of the first target and seed alone, that are not decoded


def check(name: str, spec: Spec, config: Config) -> Iterator[str]:
    """One line for each mistake that the schema cannot see."""
    where = f"studies.{name}.curves"
    unknown = [one for one in spec.curves if one not in config.treatments]
    yield from (f"{where}: {one!r} is not there; {suggestion(one, config.treatments)}" for one in unknown)
    yield from (f"{where}: {one!r} is among the treatments already" for one in spec.curves if one in spec.treatments)
    more = tuple(one for one in spec.curves if one not in (*unknown, *spec.treatments))
    yield from checks.check(name, spec.model_copy(update={"treatments": (*spec.treatments, *more)}), config)


def plan(name: str, spec: Spec, config: Config) -> Study:
    """The grid, what GMM-HMMs recognise themselves, and trainings for curves alone."""
    study = grid.plan(name, spec, config)
    made = grid.Grid(spec, config)
    first, seed = spec.targets[0], spec.seeds[0]
    more = tuple((made.run(first, one, seed), made.manifest(first, one)) for one in spec.curves)
    gmms = {
        one.id: gmm_decode_of(config, one)
        for run, manifest in study.rows
        for data, one in zip(run.data, run.alignments, strict=bool(run.alignments))
        if data == manifest
    }
    runs = (*study.runs, *(run for run, _ in more))
    return replace(study, runs=runs, judged=(*study.rows, *more), gmms=tuple(gmms.values()))


# --- exhibits ---------------------------------------------------------------------------------------------------------

PUBLISHED_TITLE = f"Published ({PAPER}, paper scale)"
PUBLISHED_NOTE = (
    "At least 5 hours of test speech and 25,000 words a language, a trigram, one training each, no intervals. The GMM "
    "was trained discriminatively, ours by maximum likelihood. Cells that the paper leaves empty are empty."
)


def judged(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """All that was decoded, at its best epoch: trainings and snapshots for curves alone are left out."""
    best = (
        run.model_copy(update={"decodes": tuple(one for one in run.decodes if one.snapshot == BEST)})
        for run in spec.runs
    )
    return tuple(run for run in best if run.decodes)


def networks(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """The networks of the first target, which the paper's figure 4 shows alone."""
    shown = list(spec.targets)[:1]
    return tuple(run for run in spec.runs if run.target in shown and run.metrics)


def central(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """Those that one optimiser trained."""
    return tuple(run for run in networks(spec) if not run.learner)


def languages(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """The networks of all targets that one optimiser trained, where there are several targets."""
    found = tuple(run for run in spec.runs if run.metrics and not run.learner)
    return found if len({run.target for run in found}) > 1 else ()


def learners(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """Those that several replicas trained, and before them the same treatment by one optimiser."""
    late = tuple(run for run in networks(spec) if run.learner)
    seeds = {run.seed for run in late}
    plain = [run for run in central(spec) if run.treatment == spec.baseline and run.seed in seeds]
    return (*plain, *late) if late else ()


def _findings(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.findings import Findings
    from thaw.exhibits.multilingual import is_hybrid, published

    return Findings(PAPER, PAPER_FINDING, published() if is_hybrid(spec) else None).draw(spec)


def _table1(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.multilingual import draw_table

    return draw_table(spec)


def _corpora(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.corpora import CorporaTable

    return CorporaTable("Corpora").draw(spec)


def _figure4(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.progress import draw_progress

    return draw_progress(spec)


def _languages(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.progress import draw_languages

    return draw_languages(spec)


def _gains(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.multilingual import draw_gains

    return draw_gains(spec)


def _learners(spec: ExhibitSpec) -> dict[str, bytes]:
    from thaw.exhibits.progress import draw_learners

    return draw_learners(spec)


EXHIBITS: dict[str, Exhibit] = {
    "findings": Exhibit("Findings", FINDINGS, ("scores",), _findings, (RATES,), runs=judged),
    "table-corpora": Exhibit("Corpora", TABLE, ("corpora",), _corpora, runs=judged),
    "table1": Exhibit(
        "Table 1: word error rates by language", TABLE, ("scores", "corpora", "tuning"), _table1, (RATES,), runs=judged
    ),
    "figure4": Exhibit(
        "Figure 4: held-out frames and words by time, steps and epochs", FIGURE, ("scores", "metrics", "style"),
        _figure4, runs=central,
    ),
    "figure-languages": Exhibit(
        "Held-out frames of each language by epochs", FIGURE, ("scores", "metrics", "style"), _languages, runs=languages
    ),
    "figure-gain": Exhibit(
        "Gain over single languages by hours of speech", FIGURE, ("scores", "corpora", "style"), _gains, (RATES,),
        runs=judged,
    ),
    "figure-learners": Exhibit(
        "Asynchronous training: held-out frames by updates and by time", FIGURE, ("metrics", "style"), _learners,
        runs=learners,
    ),
}  # fmt: skip
