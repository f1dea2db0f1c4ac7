"""From a job to a federated learner at its first round: clients, what they lack, and the processes that train them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch

from thaw.errors import UserError
from thaw.models.layered import LayeredModel
from thaw.probing.ranking import unit_rates
from thaw.training import environment
from thaw.training.clients import Clients, Pool, Trainers, buffers_of, by_speaker, spec_of
from thaw.training.distributed import World
from thaw.training.federated import Federated

if TYPE_CHECKING:
    from pathlib import Path

    from thaw.training.begin import Job, Prepared


def begin_federated(job: Job, first: Prepared, world: World, say: Callable[[str], None]) -> Federated:
    """The federated learner of a job; UserError where its recipe asks for what is not there."""
    recipe, spec = job.recipe, spec_of(job.recipe)
    if world.size > 1:
        raise UserError("a federated training is one process; clients are spread with execution.workers (--workers)")
    if recipe.heads:
        raise UserError(f"a federated training has one output layer, not one for each of {', '.join(recipe.heads)}")
    if recipe.optimizer_state != "fresh":
        raise UserError("optimizer_state: clients begin every round anew, so there is none to take over; set fresh")
    if spec.buffers == "refuse" and (held := sorted(buffers_of(first.model))):
        raise UserError(
            f"learner.buffers: {held[0]} and {len(held) - 1} more are statistics that clients move and no gradient "
            "tells a server of; take group norm, or set average"
        )
    rates = rates_of(job, first.model, job.ranking)
    examples = by_speaker(first.examples)
    if spec.clients > len(examples):
        raise UserError(f"learner.clients: {spec.clients} in each round, but only {len(examples)} speakers to train on")
    trainers: Trainers
    if job.workers > 1:
        trainers = Pool(min(job.workers, spec.clients), partial(clients_of, job, rates, world.device))
    else:
        trainers = Clients(recipe, first.model, first.surgery, examples, rates, world.device)
    speakers = {name: len(own) for name, own in examples.items()}
    return Federated(
        recipe, first.model, first.surgery, first.examples, first.dev, world, say, trainers, speakers, rates
    )


def rates_of(job: Job, model: LayeredModel, ranking: Path | None) -> dict[str, float]:
    """The share of hidden units that clients lack, by layer."""
    layers = [name for name in model.layers if model.layer(name).hidden_units()]
    return unit_rates(spec_of(job.recipe).dropout, layers, ranking)


def clients_of(job: Job, rates: Mapping[str, float], device: torch.device) -> Clients:
    """The same clients in a process of their own."""
    from thaw.training.begin import prepared  # which begins all learners, this one too

    environment.settle(job.threads)
    if job.recipe.recipe.precision == "tf32":
        environment.set_products("tf32")
    first = prepared(job, device)
    return Clients(job.recipe, first.model, first.surgery, by_speaker(first.examples), rates, device)
