"""The clients of a federated training: each trains the server's weights on its own utterances, as `Central` trains.

What a client does is a function of the weights, the round and its name. So clients may be spread over processes of this
machine (`Pool`), and the bits are those of one process (`Clients`).
"""

from __future__ import annotations

import pickle
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from typing import Any, Protocol

import torch
from torch import Tensor

from thaw.config.learners import FederatedSpec
from thaw.config.run import RunRecipe
from thaw.corpora.listing import UNKNOWN
from thaw.errors import Unfinished, UserError
from thaw.models.layered import LayeredModel
from thaw.surgery.surgery import Surgery
from thaw.training.aggregation import Update
from thaw.training.central import Central
from thaw.training.data import CACHE_BYTES, Examples
from thaw.training.distributed import World
from thaw.training.learner import Diverged
from thaw.training.submodels import cut, draw_cuts, put
from thaw.training.torch_optim import optimizer_for


class Trainers(Protocol):
    """Who lets clients train."""

    def train(self, round_: int, names: Sequence[str], weights: Mapping[str, Tensor]) -> Iterator[Update]:
        """The updates of the named clients, in their order, in a 1-based round that begins from `weights`."""


def spec_of(recipe: RunRecipe) -> FederatedSpec:
    """What a recipe says of its federated learner."""
    learner = recipe.recipe.learner
    assert isinstance(learner, FederatedSpec)  # see `begin`
    return learner


def by_speaker(examples: Examples) -> dict[str, Examples]:
    """The utterances of each speaker, speakers sorted; UserError where there are nameless ones."""
    found = defaultdict(list)
    for utterance in examples.utterances:
        found[utterance.speaker].append(utterance)
    nameless = sum(len(found[name]) for name in found if not name or name.rpartition("/")[2] == UNKNOWN)
    if nameless:
        raise UserError(f"{nameless} of {len(examples)} training utterances name no speaker, and clients are speakers")
    whole = sum(utterance.samples for utterance in examples.utterances)
    shares = {name: sum(one.samples for one in utterances) / whole for name, utterances in found.items()}
    clients = {}
    for name in sorted(found):
        room = int(CACHE_BYTES * shares[name])
        clients[name] = Examples(found[name], examples.tasks, examples.frontend, room, store=examples.store)
        clients[name].front_end = examples.front_end
    return clients


class Clients:
    """All clients, one after the other in this process, in one network whose weights each of them gets anew."""

    def __init__(
        self,
        recipe: RunRecipe,
        model: LayeredModel,
        surgery: Surgery,
        examples: Mapping[str, Examples],
        rates: Mapping[str, float],
        device: torch.device,
    ) -> None:
        """`rates`: the share of hidden units that a client lacks, by layer; `surgery` is that of `model`."""
        self.recipe, self.spec = recipe, spec_of(recipe)
        self.model = deepcopy(model)
        self.parameters = [name for name, _ in model.named_parameters()]
        self.surgery = surgery
        self.examples = examples
        self.rates = rates
        self.world = World(device=device)

    def train(self, round_: int, names: Sequence[str], weights: Mapping[str, Tensor]) -> Iterator[Update]:
        """See `Trainers`."""
        for name in names:
            yield self.client(round_, name, weights)

    def client(self, round_: int, name: str, weights: Mapping[str, Tensor]) -> Update:
        """One client's part of a round. `weights`: parameters and buffers, by their names in `state_dict`."""
        drawn_by = name if self.spec.dropout is None or self.spec.dropout.units == "client" else ""
        cuts = draw_cuts(self.surgery.model, self.rates, self.recipe.seed, round_, drawn_by)
        for parameter in self.parameters:
            put(self.model, parameter, cut(weights[parameter].to(self.world.device), cuts.get(parameter)))
        for buffer, value in self.buffers().items():
            value.copy_(weights[buffer])
        said: list[str] = []
        central = self.central(name, said)
        audio = 0.0
        diverged = ""
        first = 1 + (round_ - 1) * self.spec.local_epochs
        self.model.train()
        try:
            for epoch in range(first, first + self.spec.local_epochs):
                central.progress.epoch = epoch
                for batch in central.batches(epoch):
                    central.step(batch)
                central.settle()
        except Diverged as error:
            diverged = str(error)
        audio, sums = central.progress.audio_seconds, central.progress.sums
        trained = {} if diverged else {n: p.detach().cpu() for n, p in self.model.named_parameters() if p.requires_grad}
        buffers = {name: value.detach().cpu().clone() for name, value in self.buffers().items()}
        facts = {
            "loss": sums.loss,
            "utterances": sums.utterances,
            "weight": sums.weight,
            "steps": sums.steps,
            "skipped": sums.skipped,
            "non_finite": sums.non_finite,
            "audio_seconds": audio,
            "down": sum(value.numel() * value.element_size() for value in self.model.state_dict().values()),
            "up": sum(value.numel() * value.element_size() for sent in (trained, buffers) for value in sent.values()),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "said": said,
            "diverged": diverged,
        }
        return Update(name, trained, buffers, cuts, len(self.examples[name]), facts)

    def central(self, name: str, said: list[str]) -> Central:
        """A learner of the client's network on its own utterances, with an optimiser that knows nothing yet."""
        optimizer = optimizer_for(
            self.recipe.recipe, {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        )
        own = self.examples[name]
        return Central(self.recipe, self.model, self.surgery, optimizer, own, own, self.world, said.append)

    def buffers(self) -> dict[str, Tensor]:
        """Those of the network's buffers that are part of its weights."""
        return buffers_of(self.model)


def buffers_of(model: LayeredModel) -> dict[str, Tensor]:
    """The buffers that are part of a model's weights, by their names in `state_dict`."""
    kept = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name in kept}


# --- several processes -----------------------------------------------------------------------------------------------


class Pool:
    """Clients spread over processes of this machine: each takes the next one when it is done with one.

    Updates come in the order of the names, so the sums that the server draws from them have the same bits.
    """

    def __init__(self, size: int, make: Callable[[], Clients]) -> None:
        """`make` is called in each process; it must survive pickling."""
        context = get_context("spawn")
        self.connections: list[Connection] = []
        self.processes = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, make), daemon=True)
            process.start()
            theirs.close()
            self.connections.append(ours)
            self.processes.append(process)
        self.close = Finalize(self, end, args=(self.processes,), exitpriority=10)  # before its children are waited for

    def train(self, round_: int, names: Sequence[str], weights: Mapping[str, Tensor]) -> Iterator[Update]:
        """See `Trainers`. Raises Unfinished where a process was killed."""
        message = pickle.dumps((round_, {name: value.detach().cpu().numpy() for name, value in weights.items()}))
        waiting = list(enumerate(names))[::-1]
        done: dict[int, Update] = {}
        busy: dict[Connection, int] = {}
        told: set[int] = set()
        for place in range(len(names)):
            while place not in done:
                for number, connection in enumerate(self.connections):
                    if waiting and connection not in busy:
                        if number not in told:
                            connection.send_bytes(message)
                            told.add(number)
                        busy[connection], name = waiting.pop()
                        connection.send_bytes(pickle.dumps(name))
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    done[busy.pop(ready)] = received(ready)
            yield done.pop(place)


def received(connection: Connection) -> Update:
    """What a process answers; raises what it raised."""
    try:
        answer = pickle.loads(connection.recv_bytes())
    except (EOFError, ConnectionError) as error:
        raise Unfinished("a process that trains clients was killed; the same command goes on") from error
    if isinstance(answer, Exception):
        raise answer
    assert isinstance(answer, Update)
    return answer


def serve(connection: Connection, make: Callable[[], Clients]) -> None:
    """A process's life: the weights of a round come as a pair, then names of clients, until the other end is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what comes to all of a job is for the one who saves
    clients: Clients | None = None
    weights: dict[str, Tensor] = {}
    round_ = 0
    while True:
        try:
            message = pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionError):
            return
        if isinstance(message, tuple):
            round_, arrays = message
            weights = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
            continue
        answer: Any
        try:
            clients = clients or make()
            answer = clients.client(round_, message, weights)
        except Exception as error:
            answer = error
        connection.send_bytes(pickle.dumps(answer))


def end(processes: Sequence[Any]) -> None:
    """Nothing that these processes hold is worth keeping."""
    for process in processes:
        process.kill()
        process.join()
