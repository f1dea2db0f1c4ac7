"""What one exhibit is drawn from: rows of runs and corpora with the paths of their files. Plain data, cheap to import.

The plan writes an `ExhibitSpec` as canonical JSON, cut down to what the exhibit needs (`ExhibitSpec.trimmed`), so that
an edit of a colour draws figures again and leaves tables alone. Paths are relative to the current directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from thaw.config.schema import ScoringSpec
from thaw.config.starts import BEST
from thaw.config.strict import Strict
from thaw.errors import UserError

Scale = Literal["mini", "paper"]
Speech = Literal["synthesised", "recorded", "mixed", "text"]  # of the target corpora; text: no speech at all
Need = Literal[
    "corpora", "scores", "sources", "metrics", "style", "setup", "evidence", "probes", "record", "tuning"
]  # setup: how runs were trained (SETUP); tuning: what a decoder was tuned to

# Raise it when drawing changes its meaning (statistics, what is counted, what is marked): every exhibit is drawn anew.
EXHIBIT_VERSION = 3

TABLE = ("csv", "md", "tex", "json")  # the forms of exhibits, by suffix
FIGURE = ("png", "pdf", "csv")
FINDINGS = ("md", "json")

Spec = TypeVar("Spec", bound=Strict)


def parse(kind: type[Spec], text: str, option: str) -> Spec:
    """A spec from its JSON, or from the file named after an @; UserError says which key of which option is wrong."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{option}: cannot read {text[1:]}: {error.strerror}") from error
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'JSON'}: {e['msg']}" for e in error.errors()]
        raise UserError(f"{option}: " + "; ".join(lines)) from error


class DecodeRow(Strict):
    """One judgement of a run: a snapshot of it, after operations if any, on a split, by a decoder."""

    id: str
    decoder: str  # its name in the config
    label: str  # as tables print it
    kind: str = ""  # "greedy", "beam"
    split: str = "test"
    snapshot: str = BEST
    operation: str = ""  # what was done to the weights before, as tables print it; empty: nothing
    ids: str = ""  # a pattern of the utterances that count (sw_*); empty: all
    scores: str = ""  # scores.json of `thaw score`
    counts: str = ""  # counts.jsonl of `thaw score`
    hypotheses: str = ""  # JSON Lines of `thaw decode`
    record: str = ""  # JSON of `thaw decode`: settings, tuned weights, cost

    @property
    def way(self) -> tuple[str, str, str]:
        """How it was judged: only rates that were found in the same way stand in one column."""
        return self.decoder, self.split, self.snapshot

    @property
    def way_label(self) -> str:
        """The same in words; what is usual is left out."""
        more = (self.split if self.split != "test" else "", self.snapshot if self.snapshot != BEST else "")
        return ", ".join(filter(None, (self.label, *more)))


class Place(Strict):
    """What a run is in a study that holds several experiments; each is compared within itself."""

    group: str  # the experiment
    label: str  # of it, as tables print it
    role: str  # in it, e.g. "baseline", "stage"
    at: float = 0.0  # which of its kind: number of a stage, a share, an epoch
    exhibit: str = ""  # the table that shows the experiment
    judge: str = ""  # what decides on dev between runs: "cer" of `dev_cer` in metrics.jsonl
    subsets: dict[str, str] = {}  # noqa: RUF012  parts of its test set that have rates of their own: label, pattern of ids


class ProbeRow(Strict):
    """The probes of a run that one job made."""

    name: str  # in the config
    rows: str  # rows.jsonl of `thaw probe`
    counts: str  # counts.jsonl
    record: str  # probe.json
    snapshots: tuple[str, ...] = ()  # whose layers were reset, beside the best epoch's
    modules: bool = False  # whether parts of layers were reset alone
    churn: bool = False  # whether its record says how far weights have moved


class RunRow(Strict):
    """One training."""

    id: str
    treatment: str
    label: str  # the treatment, as tables print it
    target: str  # the corpus it was trained on
    target_label: str
    seed: int
    fold: int = 0  # of its corpus, from 1; 0: not in folds
    recipe: str = ""  # runs with the same value differ in random seeds alone
    study: str = ""  # where runs of several studies are shown together
    model: str = ""  # its name in the config
    source_label: str = ""  # the corpus or checkpoint that transfer starts from in its study, as tables print it
    scratch: bool = True  # not started from the source
    new_output: bool = False  # started from the source, with a new output layer
    frozen: int = 0  # layers that keep the source's weights for good
    frozen_first: bool = True  # and they are the first ones, counted from the input side
    layers: int = 0  # layers of the model
    learning_rate: float = 0.0
    learner: str = ""  # the kind of its learner, where that is not the central one
    alike: str = ""  # runs on one target with the same value differ in learning rate and random seed alone
    place: Place | None = None
    language: str = ""  # of its target, where it learnt several
    record: str = ""  # run.json of `thaw train`
    metrics: str = ""  # metrics.jsonl of `thaw train`
    decodes: tuple[DecodeRow, ...] = ()
    probes: tuple[ProbeRow, ...] = ()
    stack: tuple[str, ...] = ()  # the names of its layers, input side first; only where it was probed
    traits: dict[str, str] = {}  # noqa: RUF012  what its model is like, by key of its spec; likewise


SETUP = {
    name: RunRow.model_fields[name].default
    for name in (
        *("model", "source_label", "scratch", "new_output", "frozen", "frozen_first", "layers", "learning_rate"),
        "alike",
        "learner",
    )
}


class CorpusRow(Strict):
    """One corpus, as a manifest counts it."""

    name: str
    label: str
    models: str = ""  # those that its utterances were filtered for, where one corpus has several rows
    counts: str  # counts.json of `thaw manifest`
    alphabet: str = ""  # the output classes, blank not included
    source: str = ""  # where it comes from: "synthetic", "commonvoice"
    licence: str = ""
    citation: str = ""

    @property
    def shown(self) -> str:
        """As tables name it."""
        return f"{self.label} ({self.models})" if self.models else self.label


class TriedRow(Strict):
    """A set of layers that was tried frozen in a transfer."""

    treatment: str
    frozen: tuple[str, ...]
    runs: tuple[str, ...]  # their ids, one for each seed


class TransferRow(Strict):
    """One transfer of a study of them: which runs freeze what, and what was known beforehand."""

    name: str
    label: str  # as tables print it
    model: str  # its name in the config
    layers: tuple[str, ...]  # all but the heads, input side first
    tried: tuple[TriedRow, ...]  # the first freezes none
    measure: str = "word"  # that harm is shown by first
    evidence: str  # evidence.json of `thaw evidence`


def row_label(run: RunRow, decode: DecodeRow) -> str:
    """What was judged: a treatment, and an operation after it where there is one."""
    return ": ".join(filter(None, (run.label, decode.operation)))


def scale_note(scale: Scale, speech: Speech) -> str:
    """The words that every file of results carries, so that a mini number is never taken for a published one."""
    if scale == "paper" and speech in ("recorded", "text"):
        return "paper scale"
    kind = {"synthesised": "synthesised speech", "recorded": "recorded speech", "mixed": "partly synthesised speech"}
    return f"{scale} scale: {kind.get(speech, speech)}; not comparable with the published numbers"


class ExhibitSpec(Strict):
    """One exhibit. Targets, treatments, decoders and seeds are shown in the order in which `runs` brings them."""

    study: str  # its name in the config
    kind: str  # the module of `thaw.studies` that draws it
    name: str  # a key of that module's EXHIBITS
    version: int  # EXHIBIT_VERSION
    config: str
    scale: Scale
    speech: Speech
    scoring: ScoringSpec = ScoringSpec()
    style: dict[str, str] = {}  # noqa: RUF012  (pydantic copies it) colours by treatment
    baseline: str = ""  # treatments that others are compared to; empty: none
    reference: str = ""
    runs: tuple[RunRow, ...] = ()
    others: tuple[RunRow, ...] = ()  # not shown; with `runs` they say how much random seeds change
    sources: tuple[RunRow, ...] = ()  # the runs that transfer started from
    corpora: tuple[CorpusRow, ...] = ()
    transfers: tuple[TransferRow, ...] = ()
    published: dict[str, str] = {}  # noqa: RUF012  paths by the names in `Exhibit.published`

    @property
    def note(self) -> str:
        """The scale in words."""
        return scale_note(self.scale, self.speech)

    @property
    def comparable(self) -> bool:
        """Whether published numbers may stand beside these."""
        return self.scale == "paper" and self.speech in ("recorded", "text")

    @property
    def targets(self) -> dict[str, str]:
        """Target corpora with their labels, in order."""
        return {run.target: run.target_label for run in self.runs}

    @property
    def treatments(self) -> dict[str, str]:
        """Treatments with their labels, in order."""
        return {run.treatment: run.label for run in self.runs}

    @property
    def rows(self) -> dict[tuple[str, str], str]:
        """Treatments, and what was done to their weights before they were judged, with the labels of both."""
        return {
            (run.treatment, decode.operation): row_label(run, decode) for run in self.runs for decode in run.decodes
        }

    @property
    def decoders(self) -> dict[str, str]:
        """Decoders with their labels, in order."""
        return {decode.decoder: decode.label for run in self.runs for decode in run.decodes}

    def trimmed(self, needs: Iterable[Need]) -> ExhibitSpec:
        """This spec without what an exhibit with such `needs` does not read."""
        needs = set(needs)
        runs = bool({"scores", "metrics", "probes"} & needs)
        return self.model_copy(
            update={
                "scoring": self.scoring if {"scores", "probes"} & needs else ScoringSpec(),
                "baseline": self.baseline if "scores" in needs else "",
                "reference": self.reference if "scores" in needs else "",
                "style": self.style if "style" in needs else {},
                "runs": tuple(_trimmed_run(run, needs) for run in self.runs) if runs else (),
                "others": self._others() if "scores" in needs else (),
                "sources": tuple(_trimmed_run(run, needs) for run in self.sources) if "sources" in needs else (),
                "corpora": self.corpora if "corpora" in needs else (),
                "transfers": self.transfers if "evidence" in needs else (),
            }
        )

    def _others(self) -> tuple[RunRow, ...]:
        """`others` as far as they were judged on the same targets in the same way as the runs shown."""
        ways = {(run.target, decode.way) for run in self.runs for decode in run.decodes}
        found = []
        for run in self.others:
            decodes = tuple(decode for decode in run.decodes if (run.target, decode.way) in ways)
            unnamed = {"decodes": decodes, "record": "", "label": "", "target_label": ""}
            found += [_trimmed_run(run.model_copy(update=unnamed), {"scores"})] if decodes else []
        return tuple(found)

    def files(self) -> list[str]:
        """Every file that is read to draw this exhibit: the inputs of its rule."""
        more = (*(transfer.evidence for transfer in self.transfers), *self.published.values())
        return input_files((*self.runs, *self.others, *self.sources), self.corpora, more)


def _trimmed_run(run: RunRow, needs: set[Need]) -> RunRow:
    left_out = {"hypotheses": ""} | ({} if "tuning" in needs else {"record": ""})
    decodes = tuple(decode.model_copy(update=left_out) for decode in run.decodes)
    return run.model_copy(
        update={
            # Whether it was finished stands beside its rates, and which epoch was kept in its curves.
            "record": run.record if {"scores", "record", "metrics"} & needs else "",
            "metrics": run.metrics if "metrics" in needs else "",
            "decodes": decodes if "scores" in needs else (),
            **({} if "probes" in needs else {"probes": (), "stack": (), "traits": {}}),
            **({} if "setup" in needs else SETUP),
        }
    )


def input_files(runs: Iterable[RunRow], corpora: Iterable[CorpusRow], others: Iterable[str] = ()) -> list[str]:
    """The files that rows name, each once, in a fixed order."""
    files: dict[str, None] = {}
    for run in runs:
        files.update(dict.fromkeys((run.record, run.metrics)))
        for decode in run.decodes:
            files.update(dict.fromkeys((decode.scores, decode.counts, decode.hypotheses, decode.record)))
        for probe in run.probes:
            files.update(dict.fromkeys((probe.rows, probe.counts, probe.record)))
    files.update(dict.fromkeys(corpus.counts for corpus in corpora))
    files.update(dict.fromkeys(others))
    return [file for file in files if file]


def every_run(spec: ExhibitSpec) -> tuple[RunRow, ...]:
    """The runs of an exhibit that shows all of its study."""
    return spec.runs


def of_target(place: int) -> Callable[[ExhibitSpec], tuple[RunRow, ...]]:
    """The runs of an exhibit that shows one target corpus alone: the one at `place` in the study's order."""

    def runs(spec: ExhibitSpec) -> tuple[RunRow, ...]:
        shown = list(spec.targets)[place : place + 1]
        return tuple(run for run in spec.runs if run.target in shown)

    return runs


@dataclass(frozen=True)
class Exhibit:
    """One table or figure of a study: what it needs, what it makes, and how."""

    title: str
    suffixes: tuple[str, ...]  # of the files it makes, without the dot
    needs: tuple[Need, ...]
    draw: Callable[[ExhibitSpec], dict[str, bytes]]  # contents by suffix; the same spec and files give the same bytes
    published: tuple[str, ...] = ()  # names of files in config/published
    runs: Callable[[ExhibitSpec], tuple[RunRow, ...]] = every_run  # those that it shows, of all of a study


def drawable(exhibits: dict[str, Exhibit], study: ExhibitSpec) -> dict[str, ExhibitSpec]:
    """The specs of those exhibits that a study has something to show in, each with the runs that it shows.

    They are not trimmed yet, and bring no paths of published files.
    """
    shown = {name: exhibit.runs(study) for name, exhibit in exhibits.items()}
    specs = {}
    for name, runs in shown.items():
        ids = {(run.study, run.id) for run in runs}
        others = tuple(run for run in study.others or study.runs if (run.study, run.id) not in ids)
        if runs:
            specs[name] = study.model_copy(update={"name": name, "runs": runs, "others": others})
    return specs
