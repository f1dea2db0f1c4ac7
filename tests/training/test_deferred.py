"""Steps that are read one step later: the bits, counts and words of those that are read at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.conftest import Bench, same_but_for_time
from tests.training.test_central import BOTH_HEADS, QUARTZNET, make_learner, poison, run_to_end
from tests.training.test_federated import federated
from tests.training.test_streams import learner as text_learner
from tests.training.test_streams import text  # noqa: F401  (a fixture)
from thaw.config.run import RunRecipe
from thaw.training.begin import Job, begin
from thaw.training.central import Central
from thaw.training.clients import Clients
from thaw.training.deferred import Deferred, Held, Told
from thaw.training.distributed import World
from thaw.training.learner import Diverged
from thaw.training.streams import Streams

Disturb = Callable[[Central], None]
CONFORMER = {"model": {"kind": "conformer", "variant": "mini-S"}}
NOVOGRAD = {"optimizer": "novograd", "weight_decay": 1e-3, "betas": (0.95, 0.25)}


def quiet(learner: Central) -> None:
    """Nothing is wrong."""


def infinite(learner: Central) -> None:
    """Losses of three utterances are, two of which stand in neighbouring batches."""
    poison(learner, *(learner.examples.utterances[place].id for place in (3, 9, 17)))


def whole_batch(learner: Central) -> None:
    """All losses of a batch are."""
    poison(learner, *(utterance.id for utterance in learner.examples.utterances[8:16]))


def unlike_numbers(learner: Central) -> None:
    """Features of an utterance are; a clipped unit may make a finite loss of that."""
    features = np.full_like(learner.examples.features(4), math.inf)
    learner.examples.cache[4, 1.0] = features


def steep(learner: Central) -> None:
    """The gradient of the second step of every epoch is."""
    head = next(reversed(list(learner.model.parameters())))
    head.register_hook(lambda gradient: gradient * (math.inf if trying(learner) == 1 else 1.0))


def trying(learner: Central) -> int:
    """The batch whose gradient is being computed."""
    return learner.progress.batch


def last_of_all(learner: Central) -> None:
    """The last step's, which no other one follows."""
    poison(learner, learner.examples.utterances[20].id)


CASES = [
    ({"dropout": 0.2, "max_gradient_norm": 1.0}, quiet),
    ({"model": QUARTZNET, "dropout": 0.1, **NOVOGRAD}, infinite),
    ({"model": QUARTZNET}, steep),
    ({"model": QUARTZNET}, whole_batch),
    ({"dropout": 0.1, "augmentation": {"speed": [0.9, 1.1], "dither": 1e-4}}, infinite),
    ({"dropout": 0.1}, unlike_numbers),
    ({}, last_of_all),
    ({**BOTH_HEADS, "momentum": 0.9}, infinite),
    (CONFORMER, infinite),
    ({"optimizer": "adam"}, steep),
    ({"optimizer": "adadelta", "learning_rate": 1.0}, whole_batch),
    ({"optimizer": "asgd"}, infinite),
    ({"optimizer": "adagrad"}, steep),
    ({"dropout": 0.1, "microbatch_seconds": 3.0}, quiet),
    ({"model": QUARTZNET, "microbatch_seconds": 3.0}, infinite),
]


@pytest.mark.parametrize(("how", "disturb"), CASES)
def test_what_is_read_later_comes_to_the_same_bits(tmp_path: Path, how: dict[str, Any], disturb: Disturb) -> None:
    found = []
    for deferred in (False, True):
        said: list[str] = []
        learner = make_learner(tmp_path, said=said, epochs=2, order="sorted", **how)
        learner.deferred = Deferred(learner) if deferred else None
        disturb(learner)
        rows = run_to_end(learner)
        found.append((learner, rows, said))
    (one, rows, said), (other, other_rows, other_said) = found
    assert same_but_for_time(rows, other_rows)
    assert said == other_said
    assert bool(said) == (disturb is not quiet)
    same = zip(tensors(one).items(), tensors(other).values(), strict=True)
    assert [name for name, tensor, its in ((*pair, its) for pair, its in same) if not torch.equal(tensor, its)] == []


class Numbers:
    """Numbers on a GPU, as far as what brings them to the host looks at them."""

    is_cuda, shape, dtype = True, (2,), torch.float64
    device = torch.device("cuda", 1)


class Memory:
    """Pinned memory."""

    def copy_(self, numbers: Numbers, non_blocking: bool) -> None:
        assert non_blocking

    def tolist(self) -> list[float]:
        return [1.0, 2.0]


class Event:
    """An event that remembers where it was put into a queue, and when somebody waited for it."""

    heard: ClassVar[list[object]] = []

    def __init__(self, blocking: bool) -> None:
        assert blocking

    def record(self, stream: object = "of the current device") -> None:
        self.heard.append(stream)

    def synchronize(self) -> None:
        self.heard.append("waited")


def test_what_is_waited_for_is_the_queue_of_the_gpu_that_the_numbers_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event in the queue of another GPU has happened at once, and what is read then is no number of the step."""
    monkeypatch.setattr(torch, "empty", lambda *shape, dtype, pin_memory: Memory())
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"of {device}")
    told = Told(cast(Tensor, Numbers()))
    assert told.read() == [1.0, 2.0]
    assert Event.heard == ["of cuda:1", "waited"]


def tensors(learner: Central) -> dict[str, Tensor]:
    return {**learner.model.state_dict(), **learner.optimizer.state()}


def test_nothing_is_looked_at_twice_where_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(tmp_path, epochs=2)
    learner.deferred = Deferred(learner)
    monkeypatch.setattr(learner, "carefully", lambda indices: pytest.fail("a step was taken again"))
    run_to_end(learner)


def test_a_step_is_settled_before_it_is_saved(tmp_path: Path) -> None:
    """Saved behind a step that has to be taken again, a training ends as if it had not been saved."""
    whole = make_learner(tmp_path, epochs=2, order="sorted")
    infinite(whole)
    rows = run_to_end(whole)
    broken, resumed = (make_learner(tmp_path, epochs=2, order="sorted") for _ in range(2))
    for learner in (broken, resumed):
        infinite(learner)
        learner.deferred = Deferred(learner)
    next(broken.run())
    broken.settle()
    resumed.restore(broken.tensors(), broken.facts())
    assert same_but_for_time(run_to_end(resumed), rows)
    assert all(torch.equal(tensor, tensors(resumed)[name]) for name, tensor in tensors(whole).items())


@pytest.mark.parametrize("most", [0, 1])
def test_too_many_in_a_row_end_it_with_the_same_words(tmp_path: Path, most: int) -> None:
    words = []
    for deferred in (False, True):
        learner = make_learner(tmp_path, order="sorted", max_skipped_steps=most)
        learner.deferred = Deferred(learner) if deferred else None
        before = {name: tensor.clone() for name, tensor in tensors(learner).items()}
        learner.model.layers["layer_6"].bias.register_hook(lambda gradient: gradient * math.inf)
        with pytest.raises(Diverged) as error:
            run_to_end(learner)
        words.append(str(error.value))
        assert all(torch.equal(before[name], tensor) for name, tensor in tensors(learner).items())
    assert words[0] == words[1]


@pytest.mark.parametrize("bad", [(), (2,), (2, 3), (0,)])
def test_a_language_model_is_read_later_too(text: Any, bad: tuple[int, ...]) -> None:  # noqa: F811
    """Steps of `bad` have a gradient that is not finite: hidden state and average stay as they were."""
    found = []
    for deferred in (False, True):
        learner = text_learner(text, epochs=3)
        learner.held = Held(learner.optimizer) if deferred else None
        bias = learner.model.layer("decoder").bias
        bias.register_hook(lambda g, learner=learner: g * (math.inf if learner.progress.batch in bad else 1.0))
        for _ in learner.run():
            pass
        found.append(learner)
    one, other = found
    assert isinstance(one, Streams)
    assert same_but_for_time(one.progress.rows, other.progress.rows)
    assert [row["skipped"] for row in one.progress.rows] == [len(bad)] * 3
    assert all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())


def test_clients_of_a_federated_training_are_read_later_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a learner of its own, whose last step nothing follows."""
    recipe = RunRecipe.model_validate(federated(bench, clients=3, local_epochs=2).with_recipe(batch_size=2).recipe)
    found = []
    for deferred in (False, True):
        job = Job(recipe, [bench.train], [bench.dev], {}, bench.folder / "state")
        learner = begin(job, World(), print).learner
        honest = Clients.central

        def central(
            self: Clients, name: str, said: list[str], honest: Any = honest, deferred: bool = deferred
        ) -> Central:
            made = honest(self, name, said)
            made.deferred = Deferred(made) if deferred else None
            poison(made, made.examples.utterances[1].id, made.examples.utterances[-1].id)
            return made

        with monkeypatch.context() as patch:
            patch.setattr(Clients, "central", central)
            for _ in learner.run():
                pass
        found.append(learner)
    one, other = found
    assert one.rows[0]["non_finite"] > 0
    assert same_but_for_time(one.rows, other.rows)
    assert all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())
