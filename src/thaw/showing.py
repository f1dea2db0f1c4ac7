"""From a plan to what is shown of it: one spec for each exhibit, and the inputs and outputs of its rule."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from thaw import layout
from thaw.canonical import canonical_json
from thaw.config.load import semantic
from thaw.config.schema import SyntheticSource
from thaw.corpora.credits import credit
from thaw.exhibits.spec import CorpusRow, DecodeRow, Exhibit, ExhibitSpec, RunRow, Speech, drawable
from thaw.plan import Decode, Manifest, Plan, Run, Study
from thaw.report import ReportExhibit, ReportSpec

PUBLISHED = "config/published"


@dataclass(frozen=True)
class Showing:
    """One exhibit of one study, ready for its rule."""

    exhibit: Exhibit
    spec: ExhibitSpec

    @property
    def spec_json(self) -> str:
        """The canonical JSON for `thaw exhibit --exhibit`: the rule's one tracked parameter."""
        return canonical_json(semantic(self.spec))

    @property
    def inputs(self) -> list[str]:
        return self.spec.files()

    @property
    def outputs(self) -> list[str]:
        spec = self.spec
        return [layout.exhibit(spec.study, spec.config, spec.name, ending) for ending in self.exhibit.suffixes]


def exhibits(plan: Plan) -> dict[tuple[str, str], Showing]:
    """Every exhibit of every study, by (study, exhibit)."""
    shown = {}
    for study in plan.studies:
        found: dict[str, Exhibit] = importlib.import_module(f"thaw.studies.{study.spec.kind}").EXHIBITS
        decodes = by_run(study.decodes)
        runs, sources = (tuple(run_row(run, decodes) for run in part) for part in (study.runs, study.sources))
        for name, exhibit in drawable(found, study.spec.targets).items():
            shown[study.name, name] = Showing(exhibit, exhibit_spec(plan, study, name, exhibit, runs, sources))
    return shown


def exhibit_spec(
    plan: Plan, study: Study, name: str, exhibit: Exhibit, runs: tuple[RunRow, ...], sources: tuple[RunRow, ...]
) -> ExhibitSpec:
    """All that one exhibit is drawn from, cut down to what it needs."""
    spec = ExhibitSpec(
        study=study.name,
        kind=study.spec.kind,
        name=name,
        config=plan.config.name,
        scale=plan.config.scale,
        speech=speech(study.runs),
        scoring=plan.config.scoring,
        style=study.spec.style,
        baseline=study.spec.baseline,
        reference=study.spec.reference or "",
        runs=runs,
        sources=sources,
        corpora=tuple(corpus_row(manifest) for manifest in manifests((*study.sources, *study.runs))),
        published={file: f"{PUBLISHED}/{file}" for file in exhibit.published},
    )
    return spec.trimmed(exhibit.needs)


def speech(runs: Iterable[Run]) -> Speech:
    """Whether the target corpora are synthesised, recorded or both."""
    synthetic = {isinstance(run.manifest.corpus.spec.source, SyntheticSource) for run in runs}
    if len(synthetic) == 2:
        return "mixed"
    return "synthesised" if synthetic == {True} else "recorded"


def manifests(runs: Iterable[Run]) -> list[Manifest]:
    """The runs' manifests, each once, in order."""
    return list({run.manifest.id: run.manifest for run in runs}.values())


def by_run(decodes: Iterable[Decode]) -> dict[str, list[Decode]]:
    """The decodes of each run, by the run's id: looked up, not searched, since there may be thousands."""
    found: dict[str, list[Decode]] = {}
    for decode in decodes:
        found.setdefault(decode.run.id, []).append(decode)
    return found


def run_row(run: Run, decodes: Mapping[str, Sequence[Decode]]) -> RunRow:
    """One run and its decodes, with the paths of their files."""
    corpus = run.manifest.corpus
    return RunRow(
        id=run.id,
        treatment=run.treatment,
        label=run.label,
        target=corpus.name,
        target_label=corpus.spec.label,
        seed=run.seed,
        record=layout.run(run, "run.json"),
        metrics=layout.run(run, "metrics.jsonl"),
        decodes=tuple(decode_row(decode) for decode in decodes.get(run.id, ())),
    )


def decode_row(decode: Decode) -> DecodeRow:
    return DecodeRow(
        id=decode.id,
        decoder=decode.decoder,
        kind=decode.spec.kind,
        label=decode.spec.label,
        scores=layout.score(decode, "scores.json"),
        counts=layout.score(decode, "counts.jsonl"),
        hypotheses=layout.decode(decode, "hypotheses.jsonl"),
        record=layout.decode(decode, "decode.json"),
    )


def corpus_row(manifest: Manifest) -> CorpusRow:
    spec = manifest.corpus.spec
    return CorpusRow(
        name=manifest.corpus.name,
        label=spec.label,
        counts=layout.manifest(manifest, "counts.json"),
        alphabet=manifest.text.alphabet,
        source=spec.source.kind,
        licence=spec.licence or credit(spec.source)[0],
        citation=spec.citation or credit(spec.source)[1],
    )


def report_spec(plan: Plan) -> ReportSpec:
    """All that the report page shows: every exhibit, every run of every study once."""
    shown = exhibits(plan)
    rows = tuple(
        ReportExhibit(study=study, name=name, title=one.exhibit.title, files=tuple(one.outputs))
        for (study, name), one in shown.items()
    )
    decodes = by_run(plan.decodes.values())
    targets = {run.id: run for study in plan.studies for run in study.runs}
    sources = {run.id: run for study in plan.studies for run in study.sources}
    return ReportSpec(
        config=plan.config.name,
        scale=plan.config.scale,
        speech=speech(targets.values()),
        exhibits=rows,
        runs=tuple(run_row(run, decodes) for run in targets.values()),
        sources=tuple(run_row(run, decodes) for run in sources.values()),
        corpora=tuple(corpus_row(manifest) for manifest in plan.manifests.values()),
    )
