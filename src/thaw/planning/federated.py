"""What a plan shows to be impossible of its federated trainings, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from math import fsum
from typing import TYPE_CHECKING

from thaw.config.learners import FederatedSpec
from thaw.config.models import hidden_layers, running_statistics
from thaw.config.sources import PromptsSource, Source, SyntheticSource, TableSource, UnionSource

if TYPE_CHECKING:
    from thaw.planning.artifacts import Run


def problems(run: Run) -> Iterator[str]:
    """One line for each thing that a federated training would find out too late."""
    learner, here = run.recipe.recipe.learner, f"run {run.name}"
    if not isinstance(learner, FederatedSpec):
        if run.recipe.ranking:
            yield f"{here}: a ranking of layers, and no federated learner whose dropout wants one"
        return
    if run.recipe.optimizer_state != "fresh":
        yield f"{here}: optimizer_state: clients begin every round anew; set fresh"
    if run.recipe.heads:
        yield f"{here}: corpora: a federated training has one output layer, not one for each language"
    if learner.buffers == "refuse" and running_statistics(run.recipe.model):
        yield f"{here}: learner.buffers: statistics of batch norms are no weights; take group norm, or set average"
    yield from _speakers(here, run, learner)
    yield from _units(here, run, learner)


def _speakers(here: str, run: Run, learner: FederatedSpec) -> Iterator[str]:
    corpus = run.manifest.corpus
    known = speakers_of(corpus.spec.source)
    if known == 0:
        yield f"{here}: the corpus {corpus.name!r} names no speakers, and clients are speakers; give columns.speaker"
    elif known is not None and learner.clients > known:
        there = f"{corpus.name!r} has {known:.0f} speakers to train on"
        yield f"{here}: learner.clients: {learner.clients} in each round, and {there}"


def speakers_of(source: Source) -> float | None:
    """How many speakers a source has at most in its training split; None where only its files tell."""
    if isinstance(source, UnionSource):
        every = [speakers_of(part) for part in source.parts.values()]
        return None if None in every else fsum(one for one in every if one is not None)
    if isinstance(source, SyntheticSource):
        return source.speakers.train
    if isinstance(source, PromptsSource):
        return 1
    if isinstance(source, TableSource) and not source.columns.speaker:
        return 0
    return None


def _units(here: str, run: Run, learner: FederatedSpec) -> Iterator[str]:
    dropout, layers = learner.dropout, hidden_layers(run.recipe.model)
    if bool(run.recipe.ranking) != bool(dropout and dropout.ranked):
        yield f"{here}: learner.dropout: critical and ambient go with a ranking, which the study of kind ambient makes"
    if dropout is None:
        return
    if not layers:
        yield f"{here}: learner.dropout: {run.model} has no layer with hidden units that a client could do without"
        return
    if wrong := sorted(set(dropout.layers) - set(layers)):
        yield f"{here}: learner.dropout.layers: {wrong[0]!r} has no hidden units; those that have: {', '.join(layers)}"
    if (wanted := dropout.critical or dropout.ambient) > len(layers):
        yield f"{here}: learner.dropout: {wanted} layers wanted, {len(layers)} have hidden units"
