"""From a plan to what is shown of it: one spec for each exhibit, and the inputs and outputs of its rule."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from thaw.canonical import canonical_json, digest
from thaw.config.models import head_names, layer_names
from thaw.config.sources import Source, SyntheticSource, TextSource, WikiTextSource
from thaw.config.starts import BEST
from thaw.config.strict import semantic
from thaw.corpora.credits import credit
from thaw.exhibits.spec import (
    EXHIBIT_VERSION,
    CorpusRow,
    DecodeRow,
    Exhibit,
    ExhibitSpec,
    ProbeRow,
    RunRow,
    Speech,
    TransferRow,
    TriedRow,
    drawable,
)
from thaw.exhibits.together import exhibits as exhibits_of
from thaw.exhibits.together import together
from thaw.planning import layout
from thaw.planning.alignments import GmmDecode
from thaw.planning.artifacts import Decode, Probe, Run
from thaw.planning.corpora import Manifest
from thaw.planning.folds import fold_of, whole_name
from thaw.planning.plan import Plan, Study, Transfer
from thaw.report.page import ReportExhibit, ReportSpec
from thaw.studies import study_module

PUBLISHED = "config/published"
PROBE_FILES = {"rows": "rows.jsonl", "counts": "counts.jsonl", "record": "probe.json"}


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
    """Every exhibit by (study, exhibit): those of each study, then those of all studies together."""
    studies = [study_spec(plan, study) for study in plan.studies]
    corpora = [manifest.corpus for study in plan.studies for _, manifest in study.rows]
    kinds = {whole_name(one.name, one.spec): one.spec.source for one in corpora}
    shown = {}
    for whole in (*studies, together(studies)):
        found = exhibits_of(whole.kind)
        for name, spec in drawable(found, whole).items():
            exhibit = found[name]
            more = {
                "speech": speech(kinds[target] for target in spec.targets),
                "published": {file: f"{PUBLISHED}/{file}" for file in exhibit.published},
            }
            shown[spec.study, name] = Showing(exhibit, spec.model_copy(update=more).trimmed(exhibit.needs))
    return shown


def study_spec(plan: Plan, study: Study) -> ExhibitSpec:
    """All that the exhibits of one study are drawn from; each is cut down to what it needs."""
    decodes, probes = by_run(study.decodes), by_run(study.probes)
    source = study.source_label
    return ExhibitSpec(
        study=study.name,
        kind=study.kind,
        name="",
        version=EXHIBIT_VERSION,
        config=plan.config.name,
        scale=plan.config.scale,
        speech="mixed",  # each exhibit says it of the targets that it shows
        scoring=plan.config.scoring,
        style=study.spec.style,
        baseline=study.baseline,
        reference=study.reference,
        runs=(
            *(gmm_row(gmm, study) for gmm in study.gmms),
            *(
                run_row(run, decodes, source, manifest).model_copy(
                    update={"place": study.places.get(run.treatment), **probed(run, probes.get(run.id, ()))}
                )
                for run, manifest in study.rows
            ),
        ),
        sources=tuple(run_row(run, decodes) for run in study.sources),
        corpora=corpus_rows([study], manifests([study])),
        transfers=tuple(transfer_row(one) for one in study.transfers),
    )


def speech(sources: Iterable[Source]) -> Speech:
    """Whether the target corpora are synthesised, recorded or both; text, which is neither, where there is no other."""
    every = [*sources]
    spoken = [source for source in every if not isinstance(source, TextSource | WikiTextSource)]
    found = {isinstance(source, SyntheticSource) for source in spoken}
    if every and not spoken:
        return "text"
    if len(found) == 2:
        return "mixed"
    return "synthesised" if found == {True} else "recorded"


def manifests(studies: Iterable[Study]) -> list[Manifest]:
    """What the runs of studies are judged on, each once: first what their sources are."""
    listed = [*studies]
    found = [run.manifest for study in listed for run in study.sources]
    found += [manifest for study in listed for _, manifest in study.rows]
    return list({manifest.id: manifest for manifest in found}.values())


Of = TypeVar("Of", Decode, Probe)


def by_run(those: Iterable[Of]) -> dict[str, list[Of]]:
    """The decodes or probes of each run, by the run's id: looked up, not searched, since there may be thousands."""
    found: dict[str, list[Of]] = {}
    for one in those:
        found.setdefault(one.run.id, []).append(one)
    return found


def run_row(
    run: Run, decodes: Mapping[str, Sequence[Decode]], source: str = "", manifest: Manifest | None = None
) -> RunRow:
    """One run and its decodes, with the paths of their files.

    `source`: the label of what its study starts from. `manifest`: what it is judged on; its target where not given.
    """
    manifest = manifest or run.manifest
    corpus = manifest.corpus
    recipe = run.recipe
    layers, heads = layer_names(recipe.model, recipe.heads), head_names(recipe.model, recipe.heads)
    return RunRow(
        id=run.id,
        treatment=run.treatment,
        label=run.label,
        target=whole_name(corpus.name, corpus.spec),
        target_label=corpus.spec.label,
        seed=run.seed,
        fold=fold_of(corpus.spec),
        recipe=digest(unseeded(run)),
        model=run.model,
        source_label=source,
        scratch=run.start is None,
        new_output=set(heads) <= set(recipe.reset),
        frozen=len(recipe.freeze),
        frozen_first=set(recipe.freeze) == set(layers[: len(recipe.freeze)]),
        layers=len(layers),
        learning_rate=recipe.recipe.learning_rate,
        learner=way if (way := recipe.recipe.learner.kind) != "central" else "",
        alike=alike(run),
        language=manifest.language if recipe.heads else "",
        record=layout.run(run, "run.json"),
        metrics=layout.run(run, "metrics.jsonl"),
        decodes=tuple(decode_row(decode) for decode in decodes.get(run.id, ()) if decode.manifest == manifest),
    )


def probed(run: Run, probes: Sequence[Probe]) -> dict[str, Any]:
    """What a row says of a run that was probed."""
    if not probes:
        return {}
    traits = {key: str(value) for key, value in run.recipe.model.model_dump(mode="json").items()}
    stack = layer_names(run.recipe.model, run.recipe.heads)
    return {"probes": tuple(map(probe_row, probes)), "stack": stack, "traits": traits}


def probe_row(probe: Probe) -> ProbeRow:
    """One job of probes, with the paths of its files."""
    files = {key: layout.probe(probe, name) for key, name in PROBE_FILES.items()}
    snapshots = tuple(sorted(probe.spec.operated - {BEST}))
    return ProbeRow(
        name=probe.name, snapshots=snapshots, modules=probe.spec.modular, churn=bool(probe.spec.churn), **files
    )


def gmm_row(gmm: GmmDecode, study: Study) -> RunRow:
    """What the GMM of an alignment recognises, as a run that nobody trained in epochs.

    It was judged as the study's hybrids are, with a graph of the same kind, and so stands in one column with them; in a
    study that has none, in a column of its own.
    """
    corpus = gmm.manifest.corpus
    hybrids = [(one.decoder, one.spec.kind, one.spec.label) for one in study.decodes if one.graph]
    decoder, kind, label = hybrids[0] if hybrids else ("gmm", "gmm", "GMM")
    decode = DecodeRow(
        id=gmm.id,
        decoder=decoder,
        kind=kind,
        label=label,
        split=gmm.split,
        scores=layout.score(gmm, "scores.json"),
        counts=layout.score(gmm, "counts.jsonl"),
        hypotheses=layout.decode(gmm, "hypotheses.jsonl"),
        record=layout.decode(gmm, "decode.json"),
    )
    return RunRow(
        id=gmm.id,
        treatment="gmm",
        label="GMM-HMM",
        target=whole_name(corpus.name, corpus.spec),
        target_label=corpus.spec.label,
        seed=gmm.alignment.spec.seed,
        fold=fold_of(corpus.spec),
        recipe=gmm.hash,
        decodes=(decode,),
    )


def unseeded(run: Run) -> dict[str, Any]:
    """All that decides a run's outcome but for random seeds, its own and those of the runs its weights come from.

    The folds of a corpus count as that corpus: its results are those of all of them together.
    """
    recipe = {**json.loads(run.recipe_json), "seed": 0}
    recipe.pop("draw", None)  # which draw is free follows from the seeds
    folded = [(one.manifest.corpus.name, one.manifest.corpus.spec) for one in run.data]
    recipe["corpora"] = [
        whole_name(name, spec) if fold_of(spec) else hash_
        for (name, spec), hash_ in zip(folded, recipe["corpora"], strict=True)
    ]
    origins = {one.hash: digest(unseeded(one)) for one in run.origins if isinstance(one, Run)}
    recipe["start"] = origins.get(run.recipe.start, run.recipe.start)
    for load in recipe.get("loads", ()):
        load["start"] = origins.get(load["start"], load["start"])
    if run.ranking:
        recipe["ranking"] = digest([run.ranking.spec_json, unseeded(run.ranking.run)])
    return recipe


def alike(run: Run) -> str:
    """A hash of the same, but for the learning rate, too."""
    recipe = unseeded(run)
    how = {key: value for key, value in recipe["recipe"].items() if not key.endswith("learning_rate")}
    return digest(recipe | {"recipe": how})


def transfer_row(transfer: Transfer) -> TransferRow:
    return TransferRow(
        name=transfer.name,
        label=transfer.label,
        model=transfer.evidence.run.model,
        layers=transfer.layers,
        tried=tuple(
            TriedRow(treatment=name, frozen=frozen, runs=tuple(run.id for run in transfer.runs[name]))
            for name, frozen in transfer.tried.items()
        ),
        measure=transfer.measure,
        evidence=layout.evidence(transfer.evidence),
    )


def decode_row(decode: Decode) -> DecodeRow:
    return DecodeRow(
        id=decode.id,
        decoder=decode.decoder,
        kind=decode.spec.kind,
        label=decode.spec.label,
        split=decode.split,
        snapshot=decode.snapshot,
        scores=layout.score(decode, "scores.json"),
        counts=layout.score(decode, "counts.jsonl"),
        hypotheses=layout.decode(decode, "hypotheses.jsonl"),
        record=layout.decode(decode, "decode.json"),
    )


def corpus_rows(studies: Sequence[Study], listed: Iterable[Manifest]) -> tuple[CorpusRow, ...]:
    """What each manifest counts. Where one corpus was filtered for several models, rows say for which."""
    listed = [*listed]
    repeated = Counter(manifest.corpus.name for manifest in listed)
    users: dict[str, dict[str, None]] = {}
    for study in studies:
        runs = [*((run, run.manifest) for run in study.sources), *study.rows]
        for run, manifest in runs:
            users.setdefault(manifest.id, {})[run.model] = None
    return tuple(
        corpus_row(manifest, ", ".join(users.get(manifest.id, ())) if repeated[manifest.corpus.name] > 1 else "")
        for manifest in listed
    )


def corpus_row(manifest: Manifest, models: str = "") -> CorpusRow:
    """One corpus as a manifest counts it. `models`: those that it was filtered for, where that tells rows apart."""
    spec = manifest.corpus.spec
    return CorpusRow(
        name=manifest.corpus.name,
        label=f"{spec.label}, fold {fold_of(spec)}" if fold_of(spec) else spec.label,
        models=models,
        counts=layout.manifest(manifest, "counts.json"),
        alphabet=manifest.text.alphabet,
        source=spec.source.kind,
        licence=spec.licence or credit(spec.source)[0],
        citation=spec.citation or credit(spec.source)[1],
    )


def report_spec(plan: Plan, only: str = "") -> ReportSpec:
    """All that the report page shows: every exhibit, every run of every study once. `only`: the page of that study."""
    shown = {key: one for key, one in exhibits(plan).items() if not only or key[0] == only}
    studies = [study for study in plan.studies if not only or study.name == only]
    rows = tuple(
        ReportExhibit(study=study, name=name, title=one.exhibit.title, files=tuple(one.outputs))
        for (study, name), one in shown.items()
    )
    decodes = by_run({decode.id: decode for study in studies for decode in study.decodes}.values())
    targets = {
        (run.id, manifest.id): (run, study.source_label, manifest) for study in studies for run, manifest in study.rows
    }
    sources = {run.id: run for study in studies for run in study.sources}
    corpora = [manifest.corpus for _, _, manifest in targets.values()]
    listed = manifests(studies) if only else plan.manifests.values()
    return ReportSpec(
        version=EXHIBIT_VERSION,
        config=plan.config.name,
        scale=plan.config.scale,
        speech=speech(corpus.spec.source for corpus in corpora),
        credits={study.name: study_module(study.kind).CREDIT for study in studies},
        members={study.name: tuple(run.id for run in (*study.sources, *study.runs)) for study in studies},
        exhibits=rows,
        runs=tuple(run_row(run, decodes, source, manifest) for run, source, manifest in targets.values()),
        sources=tuple(run_row(run, decodes) for run in sources.values()),
        corpora=corpus_rows(studies, listed),
    )
