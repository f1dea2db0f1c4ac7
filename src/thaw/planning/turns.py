"""Whose turn it is: studies end one after the other, in the config's order, so that the first pages are there early."""

from __future__ import annotations

from collections.abc import Iterator

from thaw.planning.alignments import GmmDecode, Graph
from thaw.planning.artifacts import Checkpoint, Decode, Probe, Run
from thaw.planning.emissions import emissions_of
from thaw.planning.plan import Plan, Study, with_origins


def places(plan: Plan) -> dict[str, int]:
    """How early each study is to end, by name: the higher, the earlier."""
    return {study.name: place for place, study in enumerate(reversed(plan.studies))}


def places_of_jobs(plan: Plan) -> dict[str, int]:
    """The same of everything that is made, by id: that of the first study that wants it."""
    of_study = places(plan)
    return {made: of_study[study.name] for study in reversed(plan.studies) for made in _made_for_study(study)}


def awaited(plan: Plan) -> set[str]:
    """Ids of all that trainings wait for, with what it is made from: within a study, these go first."""
    waited = (run for later in plan.runs.values() for run in later.waits_for if run.id in plan.runs)
    return {*plan.units, *plan.lexicons, *plan.alignments, *(made for run in waited for made in _made_for(run))}


def _made_for_study(study: Study) -> Iterator[str]:
    for run in (*study.sources, *study.runs):
        for one in with_origins(run):
            yield from _made_for(one)
    for transfer in study.transfers:
        yield transfer.evidence.id
    judgements: list[Decode | Probe | GmmDecode] = [*study.decodes, *study.probes, *study.gmms]
    for each in judgements:
        yield each.id
        yield from emissions_of([each] if isinstance(each, Decode) else [])
        lm, graph = getattr(each, "lm", None), getattr(each, "graph", None)
        if lm:
            yield lm.id
        if graph:
            yield from _made_for_graph(graph)


def _made_for_graph(graph: Graph) -> Iterator[str]:
    yield from (graph.id, graph.lexicon.id, graph.alignment.id, graph.alignment.lexicon.id)


def _made_for(one: Run | Checkpoint) -> Iterator[str]:
    """A run, or an imported checkpoint, and what it is made from."""
    yield one.id
    if isinstance(one, Checkpoint):
        return
    for data in one.data:
        yield from (data.id, data.manifest.id, data.manifest.corpus.audio_id, data.manifest.corpus.source_id)
    for alignment in one.alignments:
        yield from (alignment.id, alignment.lexicon.id)
    if one.units:
        yield one.units.id
    if one.ranking:
        yield one.ranking.id
