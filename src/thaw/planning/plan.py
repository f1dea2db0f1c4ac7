"""From a config to immutable runs: one fast function, without torch. Of files, it looks at the user's own alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from thaw.config.alignment import SearchSpec
from thaw.config.decoders import BeamSpec, HybridSpec, LanguageModelSpec
from thaw.config.schema import StudySpec
from thaw.config.sources import Split
from thaw.config.starts import BEST
from thaw.exhibits.spec import Place
from thaw.planning import contents
from thaw.planning.alignments import Alignment, GmmDecode, Graph, Lexicon, graph_of
from thaw.planning.artifacts import Checkpoint, Decode, Evidence, Probe, Run
from thaw.planning.corpora import Corpus, CountedUnits, Data, LanguageModel, Manifest, Part
from thaw.planning.emissions import Emission, emissions_of
from thaw.planning.folds import expanded
from thaw.planning.limits import check
from thaw.studies import study_module

if TYPE_CHECKING:
    from thaw.config.config import Config


@dataclass(frozen=True)
class Transfer:
    """A source run and a target: what is known beforehand, and the sets of layers that are tried frozen."""

    name: str  # in the config
    label: str  # as tables print it
    evidence: Evidence
    layers: tuple[str, ...]  # all but the heads, input side first
    tried: dict[str, tuple[str, ...]]  # treatment -> the layers it freezes; the first freezes none
    runs: dict[str, tuple[Run, ...]]  # treatment -> its runs, one for each seed
    measure: str  # a key of `thaw.scoring.measures`: what harm is shown by first


@dataclass(frozen=True)
class Study:
    """A study's runs, decodes and probes, in the order its tables show them."""

    name: str
    spec: StudySpec
    runs: tuple[Run, ...]
    decodes: tuple[Decode, ...]
    probes: tuple[Probe, ...] = ()
    gmms: tuple[GmmDecode, ...] = ()  # what the models of alignments recognise themselves
    judged: tuple[tuple[Run, Manifest], ...] = ()  # on what, where a run may be judged on several corpora
    sources: tuple[Run, ...] = ()  # runs that the others start from, and that are no results themselves
    source_label: str = ""  # what transfer starts from, as tables print it
    baseline: str = ""  # the treatment that the others are compared to
    reference: str = ""  # a second one
    places: Mapping[str, Place] = field(default_factory=dict)  # by treatment, where the study holds several experiments
    transfers: tuple[Transfer, ...] = ()  # whose runs are among `runs`

    @property
    def kind(self) -> str:
        """The name of its module in `thaw.studies`."""
        return self.spec.kind

    @property
    def rows(self) -> tuple[tuple[Run, Manifest], ...]:
        """Its runs, each with what it is judged on."""
        return self.judged or tuple((run, run.manifest) for run in self.runs)


@dataclass(frozen=True)
class Plan:
    """All that a config asks for. The mappings go from id to thing."""

    config: Config
    studies: tuple[Study, ...]
    sources: dict[str, Corpus] = field(default_factory=dict)
    audio: dict[str, Corpus] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    lms: dict[str, LanguageModel] = field(default_factory=dict)
    units: dict[str, CountedUnits] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    emissions: dict[str, Emission] = field(default_factory=dict)
    decodes: dict[str, Decode] = field(default_factory=dict)
    probes: dict[str, Probe] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    lexicons: dict[str, Lexicon] = field(default_factory=dict)
    alignments: dict[str, Alignment] = field(default_factory=dict)
    graphs: dict[str, Graph] = field(default_factory=dict)
    gmms: dict[str, GmmDecode] = field(default_factory=dict)

    def study(self, name: str) -> Study:
        """The study called `name`."""
        return next(study for study in self.studies if study.name == name)


def resolve(config: Config) -> Plan:
    """The plan of a checked config; equal configs, and equal files of the user's, give equal plans.

    UserError where its files could not be.
    """
    config = expanded(config)
    plan = Plan(
        config, tuple(study_module(spec.kind).plan(name, spec, config) for name, spec in config.studies.items())
    )
    for study in plan.studies:
        for run in (*study.sources, *study.runs):
            for one in with_origins(run):
                _add_start(plan, one)
        plan.probes.update((probe.id, probe) for probe in study.probes)
        plan.evidence.update((one.evidence.id, one.evidence) for one in study.transfers)
        for decode in study.decodes:
            plan.decodes[decode.id] = decode
            if decode.lm:
                plan.lms[decode.lm.id] = decode.lm
            if decode.graph:
                add_graph(plan, decode.graph)
        plan.emissions.update(emissions_of(study.decodes))
        for gmm in study.gmms:
            plan.gmms[gmm.id] = gmm
            add_graph(plan, gmm.graph)
    check(plan)
    return plan


def _add_start(plan: Plan, one: Run | Checkpoint) -> None:
    if isinstance(one, Checkpoint):
        plan.checkpoints[one.id] = one
        return
    plan.runs[one.id] = one
    if one.ranking:
        plan.probes[one.ranking.id] = one.ranking
    if one.units:
        plan.units[one.units.id] = one.units
    for data in one.data:
        _add_data(plan, data)
    for alignment in one.alignments:
        add_alignment(plan, alignment)


def _add_data(plan: Plan, data: Data) -> None:
    if isinstance(data, Part):
        plan.parts[data.id] = data
    manifest = data.manifest
    plan.manifests[manifest.id] = manifest
    plan.audio[manifest.corpus.audio_id] = manifest.corpus
    plan.sources[manifest.corpus.source_id] = manifest.corpus


def add_alignment(plan: Plan, alignment: Alignment) -> None:
    """An alignment, and all that it is made from."""
    plan.alignments[alignment.id] = alignment
    plan.lexicons[alignment.lexicon.id] = alignment.lexicon
    _add_data(plan, alignment.data)


def add_graph(plan: Plan, graph: Graph) -> None:
    """A decoding graph, and all that it is made from."""
    plan.graphs[graph.id] = graph
    plan.lexicons[graph.lexicon.id] = graph.lexicon
    add_alignment(plan, graph.alignment)


def with_origins(run: Run | Checkpoint) -> Iterator[Run | Checkpoint]:
    """A run, and before it all runs and checkpoints that it waits for, however far back; each once."""
    seen: dict[str, Run | Checkpoint] = {}

    def add(one: Run | Checkpoint) -> None:
        for before in one.waits_for if isinstance(one, Run) else ():
            add(before)
        seen.setdefault(one.id, one)

    add(run)
    yield from seen.values()


def decodes(
    run: Run,
    names: Iterable[str],
    config: Config,
    split: Split = "test",
    snapshot: str = BEST,
    other: Manifest | None = None,
) -> Iterator[Decode]:
    """A snapshot of a run on a split of its target, or of `other` of its corpora, with each of the named decoders."""
    for name in names:
        decoder = config.decoders[name]
        decode = Decode(run, name, decoder, None, split, snapshot, None if other == run.manifest else other)
        match decoder:
            case BeamSpec():
                decode = replace(decode, lm=_language_model(decoder.language_model, decode.manifest))
            case HybridSpec():
                assert decode.alignment is not None  # see planning/checks.py
                search = SearchSpec(language_model=decoder.language_model)
                decode = replace(decode, graph=graph_of(config, decode.alignment, search))
        yield decode


def _language_model(spec: LanguageModelSpec, manifest: Manifest) -> LanguageModel:
    return LanguageModel(spec, manifest, contents.of_file(spec.extra_text))


def describe(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON: ids by kind (for `thaw runs --json` and golden tests)."""
    return {
        "config": plan.config.name,
        "runs": {run.id: run.recipe_json for run in plan.runs.values()},
        "decodes": sorted(plan.decodes),
        "manifests": sorted(plan.manifests),
        "lms": sorted(plan.lms),
    }
