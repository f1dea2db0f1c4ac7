"""One HTML page on everything a config made: it opens offline, without scripts, and holds no link to anywhere else.

Every number in a table links to the section of the run behind it: recipe, checks, decoder settings, curve, samples.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from thaw import __version__
from thaw.config.strict import Strict
from thaw.errors import UserError
from thaw.exhibits.corpora import read_counts, reasons_text
from thaw.exhibits.curves import best_epoch, read_epochs
from thaw.exhibits.frame import Judged, is_finished, read_judged
from thaw.exhibits.notes import UNFINISHED, count_text, scores_text
from thaw.exhibits.spec import EXHIBIT_VERSION, CorpusRow, DecodeRow, RunRow, Scale, Speech, input_files, scale_note
from thaw.files import read_bytes, read_json, write_text
from thaw.report.computed import computed
from thaw.report.samples import Sample, samples
from thaw.scoring.measures import Measure
from thaw.studies import TOGETHER


class ReportExhibit(Strict):
    """One exhibit, drawn: its json (tables) or png (figures) is shown, its other files are named."""

    study: str
    name: str
    title: str
    files: tuple[str, ...]


class ReportSpec(Strict):
    """What `thaw report` is given."""

    version: int  # EXHIBIT_VERSION
    config: str
    scale: Scale
    speech: Speech
    unfinished: tuple[str, ...] = ()  # studies that the page leaves out, since they have not ended yet
    credits: dict[str, str] = {}  # noqa: RUF012  (pydantic copies it) by study: what it repeats
    members: dict[str, tuple[str, ...]] = {}  # noqa: RUF012  by study: the ids of its runs
    exhibits: tuple[ReportExhibit, ...] = ()
    runs: tuple[RunRow, ...] = ()
    sources: tuple[RunRow, ...] = ()
    corpora: tuple[CorpusRow, ...] = ()

    @property
    def note(self) -> str:
        """The scale in words."""
        return scale_note(self.scale, self.speech)

    def files(self) -> list[str]:
        """Every file that is read for the page: the inputs of its rule."""
        drawn = [file for exhibit in self.exhibits for file in exhibit.files]
        return input_files((*self.sources, *self.runs), self.corpora, drawn)


# --- what the template sees -----------------------------------------------------------------------


@dataclass(frozen=True)
class ExhibitView:
    """A table (`grid`, as `thaw.exhibits.grid.Grid` in JSON), findings, or a figure (`image`, a data URI)."""

    row: ReportExhibit
    anchor: str
    grid: dict[str, Any] | None
    findings: dict[str, Any] | None
    image: str


@dataclass(frozen=True)
class StudyView:
    """One study's part of the page. `computed` says in sentences what its runs were computed on."""

    heading: str
    credit: str
    computed: list[str]
    exhibits: list[ExhibitView]


@dataclass(frozen=True)
class DecodeView:
    """One decode: rates and edits as text, settings as JSON text, sample transcriptions."""

    row: DecodeRow
    rates: tuple[tuple[str, str, str], ...]  # measure, rate with its interval, what was counted
    intervals: str  # what they are over
    settings: str
    seconds: float | None
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class RunView:
    """One run. `checks` pairs a check with its outcome and whether that is a failure."""

    row: RunRow
    record: dict[str, Any]
    recipe: str
    checks: tuple[tuple[str, str, bool], ...]
    cost: dict[str, Any]
    best: tuple[int, float]
    epochs: int
    mark: str  # behind the best epoch, where it is the last
    curve: Curve
    decodes: tuple[DecodeView, ...]

    @property
    def failed(self) -> int:
        """How many checks failed."""
        return sum(failed for _, _, failed in self.checks)


@dataclass(frozen=True)
class Curve:
    """Dev and train loss as SVG polylines (lists of "x,y" points) in a box of WIDTH x HEIGHT, with axis labels."""

    dev: str
    train: str
    best: tuple[float, float] | None
    low: float
    high: float


WIDTH, HEIGHT = 320.0, 90.0


def write_report(spec: ReportSpec, out: Path) -> None:
    """Write the page. Raises UserError where an input is missing or of another shape."""
    if spec.version != EXHIBIT_VERSION:
        raise UserError(f"this thaw writes reports of version {EXHIBIT_VERSION}, not {spec.version}")
    for file in spec.files():
        if not Path(file).is_file():
            raise UserError(f"{file}: no such file (the report is drawn from it)")
    write_text(out, render(spec))


def finished(spec: ReportSpec) -> ReportSpec:
    """The page of those studies of `spec` whose every file is there; it names the others."""
    # A run that studies share may be judged in another one too, which has not come to that yet.
    runs = {run.id: _judged_so_far(run) for run in (*spec.sources, *spec.runs)}
    there: list[str] = []
    for study, members in spec.members.items():
        drawn = [file for exhibit in spec.exhibits if exhibit.study == study for file in exhibit.files]
        files = input_files((runs[id_] for id_ in members), (), drawn)
        there += [study] if _are_there(files) else []
    kept = {id_ for study in there for id_ in spec.members[study]}
    return spec.model_copy(
        update={
            "unfinished": tuple(study for study in spec.members if study not in there),
            "members": {study: members for study, members in spec.members.items() if study in there},
            # Those of all studies together are no study's own.
            "exhibits": tuple(one for one in spec.exhibits if one.study in there or _drawn(one, spec)),
            "runs": tuple(runs[run.id] for run in spec.runs if run.id in kept),
            "sources": tuple(runs[run.id] for run in spec.sources if run.id in kept),
            "corpora": tuple(row for row in spec.corpora if Path(row.counts).is_file()),
        }
    )


def _judged_so_far(run: RunRow) -> RunRow:
    return run.model_copy(
        update={"decodes": tuple(one for one in run.decodes if _are_there((one.scores, one.counts, one.record)))}
    )


def _drawn(exhibit: ReportExhibit, spec: ReportSpec) -> bool:
    return exhibit.study not in spec.members and _are_there(exhibit.files)


def _are_there(files: Iterable[str]) -> bool:
    return all(Path(file).is_file() for file in files)


def render(spec: ReportSpec) -> str:
    """The page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("thaw.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"pretty": pretty, "duration": duration, "groupby_runs": _groups}
    exhibits = [_exhibit_view(row) for row in spec.exhibits]
    runs = [_run_view(row) for row in (*spec.sources, *spec.runs)]
    return environment.get_template("report.html.j2").render(
        spec=spec,
        studies=[_study_view(spec, study, shown, runs) for study, shown in _by_study(exhibits).items()],
        runs=runs,
        anchors={run.row.id: f"run-{run.row.id}" for run in runs},
        corpora=[_corpus_view(row) for row in spec.corpora],
        environments=_environments(runs),
        version=__version__,
        unfinished=UNFINISHED,
        box=(WIDTH, HEIGHT),
    )


def pretty(value: Any) -> str:
    """Plain values as people read them; lists and mappings as JSON."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "none"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def duration(seconds: float | None) -> str:
    """75.3 -> "1 min 15 s"."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _groups(columns: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """Headings over neighbouring columns, with how many columns each spans."""
    return [(group, len(list(members))) for group, members in groupby(columns, key=lambda column: column["group"])]


def _by_study(exhibits: Iterable[ExhibitView]) -> dict[str, list[ExhibitView]]:
    """Exhibits by study, in the order of the spec."""
    found: dict[str, list[ExhibitView]] = {}
    for exhibit in exhibits:
        found.setdefault(exhibit.row.study, []).append(exhibit)
    return found


def _study_view(spec: ReportSpec, study: str, shown: list[ExhibitView], runs: Sequence[RunView]) -> StudyView:
    heading = "All studies together" if study == TOGETHER else f"Study: {study}"
    records = [run.record for run in runs if run.row.id in spec.members.get(study, ())]
    return StudyView(heading, spec.credits.get(study, ""), computed(records), shown)


def _exhibit_view(row: ReportExhibit) -> ExhibitView:
    data = next((read_json(Path(file)) for file in row.files if file.endswith(".json")), None)
    findings = data is not None and "finding" in data
    picture = next((read_bytes(Path(file)) for file in row.files if file.endswith(".png")), b"")
    image = "data:image/png;base64," + base64.b64encode(picture).decode() if picture else ""
    return ExhibitView(row, f"{row.study}-{row.name}", None if findings else data, data if findings else None, image)


def _run_view(row: RunRow) -> RunView:
    record = read_json(Path(row.record))
    epochs = read_epochs(row, "train_loss")
    train, dev = ([epoch.values[key] for epoch in epochs] for key in ("train_loss", "dev_loss"))
    best = epochs.index(best_epoch(row, epochs))
    try:
        checks, cost = dict(record["checks"]), dict(record["cost"])
        recipe = json.dumps(record["recipe"], indent=2, sort_keys=True, ensure_ascii=False)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{row.record}: not the record that `thaw train` writes ({error!r})") from error
    return RunView(
        row,
        record,
        recipe,
        tuple(_checks(checks)),
        cost,
        (best + 1, dev[best]),
        len(dev),
        "" if is_finished(row) else UNFINISHED,
        curve_of(train, dev, best),
        tuple(_decode_view(row, decode) for decode in row.decodes),
    )


def _checks(checks: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Each check of a run's surgery, its outcome in words, and whether it failed.

    A training stops where a check fails, so a finished one has passed; the digests are compared again all the same.
    """
    start, end = checks.get("start", {}), checks.get("end", {})
    if "frozen" in start and "frozen" in end:
        layers = sorted(start["frozen"])
        failed = start["frozen"] != end["frozen"]
        verdict = f"{'FAILED' if failed else 'passed'}: {', '.join(layers)}" if layers else "nothing is frozen"
        yield "frozen layers bit-identical after training", verdict, failed
    if "kept" in start:
        yield "layers that began as the start's, bit for bit", pretty(start["kept"]), False
    if "drawn" in start:
        yield "layers drawn anew", pretty(start["drawn"]), False
    if "trainable" in start:
        yield "tensors trained", _by_layer(start["trainable"]), False
    if "optimizer" in start:
        yield "tensors that the optimiser holds, no other", pretty(start["optimizer"]), False
    if "output_rows_kept" in start:
        yield "rows of the output layer that began as the start's", pretty(start["output_rows_kept"]), False
    if "without_gradient" in end:
        still = end["without_gradient"]
        moved = f"passed, but for {pretty(still)} (every gradient zero)" if still else "passed"
        yield "every trained parameter changed", moved, False
    if "gradient_through_frozen" in end:
        yield "gradients came through frozen layers to", pretty(end["gradient_through_frozen"]), False
    for name, value in sorted(checks.items()):
        if name not in ("start", "end"):
            words = {True: "passed", False: "FAILED"}[value] if isinstance(value, bool) else pretty(value)
            yield name.replace("_", " "), words, value is False


def _by_layer(tensors: Sequence[str]) -> str:
    """["layers.lstm.bias", "layers.lstm.weight"] -> "2: lstm 2"; the record has the names."""
    layers = Counter(name.removeprefix("layers.").partition(".")[0] for name in tensors)
    ordered = sorted(
        layers.items(), key=lambda item: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", item[0])]
    )
    return f"{len(tensors)}: " + ", ".join(f"{name} {count}" for name, count in ordered) if layers else "none"


def _decode_view(run: RunRow, row: DecodeRow) -> DecodeView:
    judged = read_judged(run, row)
    record = read_json(Path(row.record))
    settings = {key: value for key, value in record.items() if key != "cost"}
    return DecodeView(
        row,
        tuple((one.heading, scores_text(judged.scores, one), _counted(judged, one)) for one in judged.measures),
        count_text(judged.scores),
        json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False),
        record.get("cost", {}).get("seconds"),
        samples(judged),
    )


def _counted(judged: Judged, measure: Measure) -> str:
    """ "3 sub, 0 del, 1 ins of 20 words": the edits of a measure, where they are told apart, over its total."""
    found = judged.scores[measure.key]
    edits = [f"{found[kind]:,} {kind}" for kind in ("sub", "del", "ins") if kind in found]
    total = found["ref"] if edits else found["total"]
    return f"{', '.join(edits) or pretty(found['errors'])} of {total:,} {measure.unit}s"


def curve_of(train: Sequence[float], dev: Sequence[float], best: int) -> Curve:
    """Losses scaled to the box; values that are not finite are left out."""
    finite = [value for value in (*train, *dev) if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0
    step = WIDTH / max(len(dev) - 1, 1)

    def place(epoch: int, value: float) -> tuple[float, float]:
        return round(epoch * step, 1), round(HEIGHT * (high - value) / span, 1)

    def line(values: Iterable[float]) -> str:
        places = [place(epoch, value) for epoch, value in enumerate(values) if math.isfinite(value)]
        return " ".join(f"{x},{y}" for x, y in places)

    mark = place(best, dev[best]) if math.isfinite(dev[best]) else None
    return Curve(line(dev), line(train), mark, low, high)


def _corpus_view(row: CorpusRow) -> tuple[CorpusRow, list[dict[str, Any]]]:
    splits = []
    for split, counts in read_counts(row).items():
        rejected: Any = counts["rejected"]
        splits.append(counts | {"split": split, "reasons": reasons_text(rejected), "lost": sum(rejected.values())})
    return row, splits


def _environments(runs: Sequence[RunView]) -> list[tuple[dict[str, Any], int]]:
    """The software environments that runs were trained in, each once, with how many runs used it."""
    found: dict[str, int] = {}
    for run in runs:
        facts = run.record.get("environment", {})
        if facts.get("thaw") == "":  # as trainings outside a git clone were recorded once
            facts = facts | {"thaw": "version not recorded"}
        key = json.dumps(facts, sort_keys=True, ensure_ascii=False)
        found[key] = found.get(key, 0) + 1
    return [(json.loads(key), count) for key, count in found.items()]
