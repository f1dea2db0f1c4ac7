"""The federated learner: rounds of clients instead of steps (FedAvg, McMahan et al. 2017; FedOpt, Reddi et al. 2021).

A round is one unit of work. Its cohort is drawn by (seed, round), each of its clients trains the server's weights on
its own utterances (`thaw.training.clients`), and the server takes the negative of their mean change for a gradient
(`thaw.training.aggregation`). What is called an epoch in records is a period of `rounds` rounds with dev after it; all
that is said of dev, of the best epoch and of an early stop holds of such periods. Nothing of a round is kept but what
it changed, so a round that was killed is done again, to the same bits.

The server's weights are in double precision, those that clients get, that are judged and kept are rounded from them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from thaw.config.learners import ServerSpec
from thaw.config.run import RunRecipe
from thaw.config.schema import RecipeSpec
from thaw.models.layered import LayeredModel
from thaw.randomness import rng
from thaw.surgery.surgery import Surgery
from thaw.training.aggregation import Mean, Update, mean_buffers
from thaw.training.central import Central
from thaw.training.clients import Trainers, buffers_of, spec_of
from thaw.training.data import Examples
from thaw.training.distributed import World
from thaw.training.judging import Dev
from thaw.training.learner import Diverged
from thaw.training.optim import Optimizer
from thaw.training.progress import under
from thaw.training.submodels import saved
from thaw.training.torch_optim import optimizer_for

INVISIBLE = 2.0**-22  # of a tensor's largest number: what single precision need not show of a change


class Federated(Central):
    """A central learner whose step is a round: it has the server's weights, its optimiser, and the clients' names."""

    defers = False  # its clients' steps are

    def __init__(
        self,
        run: RunRecipe,
        model: LayeredModel,
        surgery: Surgery,
        examples: Examples,
        dev: Examples,
        world: World,
        say: Callable[[str], None],
        trainers: Trainers,
        speakers: Mapping[str, int],
        rates: Mapping[str, float],
    ) -> None:
        """`speakers`: utterances of each, names sorted; `rates`: what clients lack of hidden units, by layer."""
        self.spec = spec_of(run)
        self.speakers = speakers
        self.unit_rates = dict(rates)
        self.trainers = trainers
        self.master = {n: nn.Parameter(p.detach().double()) for n, p in surgery.trainable().items()}
        self.rounds: list[dict[str, Any]] = []  # of the period at work
        self.largest = dict.fromkeys(self.master, 0.0)  # of a tensor's mean changes, over its largest number
        super().__init__(
            run, model, surgery, server_optimizer(self.spec.server, self.master), examples, dev, world, say
        )

    def batches(self, epoch: int) -> list[list[int]]:
        """The cohorts of a period's rounds, as indices of speakers; a function of (seed, round) alone."""
        first = 1 + (epoch - 1) * self.spec.rounds
        return [self.cohort(round_) for round_ in range(first, first + self.spec.rounds)]

    def cohort(self, round_: int) -> list[int]:
        """The clients of a 1-based round, sorted."""
        drawn = rng(self.run_recipe.seed, "cohort", round_).choice(len(self.speakers), self.spec.clients, replace=False)
        return sorted(int(place) for place in drawn)

    def learning_rate(self, step: int) -> float:
        """The server's rate in a 1-based round."""
        server = self.spec.server
        return server.learning_rate * min(1.0, step / max(1, server.warmup_rounds))

    # --- a round ------------------------------------------------------------------------------

    def step(self, indices: Sequence[int]) -> None:
        """One round with the clients of these indices."""
        began = time.perf_counter()
        names = list(self.speakers)
        cohort = [names[index] for index in indices]
        round_ = self.progress.step + 1
        weights = {name: tensor.detach() for name, tensor in self.model.state_dict().items()}
        trainable = {name: weights[name] for name in self.master}
        dropout = self.spec.dropout
        mean = Mean(trainable, dropout.aggregation if dropout else "masked", self.spec.clip)
        utterances = sum(self.speakers[name] for name in cohort)
        buffers: dict[str, tuple[float, Mapping[str, Tensor]]] = {}
        updates, norms = list[Update](), list[float]()
        for update in self.trainers.train(round_, cohort, weights):
            by_samples = self.spec.weighting == "samples"
            weight = self.speakers[update.client] / utterances if by_samples else 1 / len(cohort)
            norm = mean.add(update, weight)
            if math.isfinite(norm):
                buffers[update.client] = (weight, update.buffers)
            updates.append(Update(update.client, {}, {}, {}, update.utterances, update.facts))  # numbers alone
            norms.append(norm)
            self.tell(round_, update, norm)
        changed = self.take(mean, buffers) if buffers else None
        self.count(round_, updates, norms, changed, time.perf_counter() - began)

    def take(self, mean: Mean, buffers: Mapping[str, tuple[float, Mapping[str, Tensor]]]) -> float:
        """The server's step from the clients' mean change; gives its norm.

        With masked aggregation a number that no client had stays what it is, and so does what the optimiser knows of
        it.
        """
        change = mean.result()
        for name, parameter in self.master.items():
            parameter.grad = -change[name]
        norm = float(self.optimizer.gradient_norm())
        self.note_largest(change)
        untouched = mean.untouched()
        places = [(place, untouched[name]) for place, name in enumerate(self.optimizer.names) if name in untouched]
        kept = [(tensor, tensor.detach().clone(), where) for place, where in places for tensor in self.shaped(place)]
        self.optimizer.step(self.learning_rate(self.progress.step + 1))
        with torch.no_grad():
            for tensor, before, where in kept:
                tensor.copy_(torch.where(where, before, tensor))
            self.follow_master()
            for name, value in mean_buffers(buffers_of(self.model), buffers).items():
                self.model.get_buffer(name).copy_(value)
        return norm

    def note_largest(self, change: Mapping[str, Tensor]) -> None:
        """Remember how far each tensor was ever asked to move, as a share of its largest number."""
        largest = torch._foreach_norm([change[name] for name in self.master], float("inf"))
        sizes = torch._foreach_norm([p.detach() for p in self.master.values()], float("inf"))
        numbers = (torch.stack(list(norms)).tolist() for norms in (largest, sizes))
        for name, asked, size in zip(self.master, *numbers, strict=True):
            self.largest[name] = max(self.largest[name], (asked / size if size else float(asked > 0)))

    def shaped(self, place: int) -> list[Tensor]:
        """A parameter of the server and its optimiser's state of the same shape."""
        parameter = self.optimizer.parameters[place]
        state = [tensors[place] for tensors in self.optimizer.state_in.values()]
        return [parameter, *(tensor for tensor in state if tensor.shape == parameter.shape and tensor.dim())]

    @torch.no_grad()
    def follow_master(self) -> None:
        """Round the server's weights to what is sent and judged."""
        for name, parameter in self.master.items():
            self.model.get_parameter(name).copy_(parameter)

    def tell(self, round_: int, update: Update, norm: float) -> None:
        """Pass on what a client said, and that it was left out."""
        for text in update.facts["said"]:
            self.say(f"round {round_}, client {update.client}: {text}")
        if not math.isfinite(norm):
            why = update.facts["diverged"] or "its change is not finite"
            self.say(f"round {round_}, client {update.client}: left out, {why}")

    def count(
        self, round_: int, updates: Sequence[Update], norms: Sequence[float], changed: float | None, seconds: float
    ) -> None:
        """Add the round to the sums and to the records of its period; Diverged after too many rounds in vain."""
        progress, sums = self.progress, self.progress.sums
        facts = [update.facts for update in updates]
        heard = [norm for norm in norms if math.isfinite(norm)]
        sums.loss += math.fsum(one["loss"] for one in facts)
        sums.utterances += sum(one["utterances"] for one in facts)
        sums.weight += sum(one["weight"] for one in facts)
        sums.non_finite += [id_ for one in facts for id_ in one["non_finite"]]
        audio = math.fsum(one["audio_seconds"] for one in facts)
        sums.audio_seconds += audio
        progress.audio_seconds += audio
        self.rounds.append(
            {
                "round": round_,
                "cohort": [update.client for update in updates],
                "left_out": [u.client for u, norm in zip(updates, norms, strict=True) if not math.isfinite(norm)],
                "losses": [one["loss"] / one["weight"] if one["weight"] else None for one in facts],
                "steps": [one["steps"] for one in facts],
                "change_norms": [norm if math.isfinite(norm) else None for norm in norms],
                "clipped": sum(norm > self.spec.clip for norm in heard) if self.spec.clip else 0,
                "mean_change_norm": changed,
                "bytes_down": sum(one["down"] for one in facts),
                "bytes_up": sum(one["up"] for one in facts),
                "client_parameters": max(one["parameters"] for one in facts),
            }
        )
        if changed is None:
            sums.skipped += 1
            progress.skipped += 1
        else:
            sums.gradient_norm += changed
            progress.skipped = 0
        progress.step += 1
        progress.batch += 1
        sums.steps += 1
        sums.seconds += seconds
        if progress.skipped > self.recipe.max_skipped_steps:
            raise Diverged(self.advice(f"no client of {progress.skipped} rounds in a row came to a finite change"))

    def close_epoch(self, dev: Dev) -> None:
        """As `Central.close_epoch`; the row has the records of its rounds."""
        super().close_epoch(dev)
        self.progress.rows[-1]["rounds"] = self.rounds
        self.rounds = []

    # --- what a session asks ------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Model, the server's weights and its optimiser, on the CPU."""
        return super().tensors() | {f"server/{name}": p.detach().cpu() for name, p in self.master.items()}

    def facts(self) -> dict[str, Any]:
        """Where it is."""
        return super().facts() | {"rounds": self.rounds, "largest": self.largest}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over what `tensors` and `facts` gave."""
        super().restore(tensors, facts)
        with torch.no_grad():
            for name, value in under(tensors, "server/").items():
                self.master[name].copy_(value)
        self.rounds, self.largest = list(facts["rounds"]), dict(facts["largest"])

    def unmoved(self) -> list[str]:
        """Names of parameters that nothing moved, or by less than single precision shows.

        The bias of attention's keys is such a one: it moves all scores of a frame alike, which a softmax passes over.
        """
        hidden = [name for name, share in self.largest.items() if share < INVISIBLE]
        return sorted({*super().unmoved(), *hidden})

    def record(self) -> dict[str, Any]:
        """What was trained on, how far, and how it ended; what clients had, and what went to and fro."""
        total = sum(parameter.numel() for parameter in self.model.parameters())
        less = saved(self.model, self.unit_rates)
        rounds = [one for row in self.progress.rows for one in row["rounds"]]
        federated = {
            "rounds": self.progress.step,
            "speakers": len(self.speakers),
            "clients": self.spec.clients,
            "unit_rates": [{"layer": layer, "rate": rate} for layer, rate in self.unit_rates.items()],
            "parameters": {"total": total, "client": total - less, "saved": less},
            "bytes_down": sum(one["bytes_down"] for one in rounds),
            "bytes_up": sum(one["bytes_up"] for one in rounds),
        }
        return super().record() | {"federated": federated}

    def advice(self, what: str) -> str:
        """A failure in words, with where it happened and what to change."""
        return (
            f"training diverged in round {self.progress.step}: {what}; lower the clients' learning_rate (now "
            f"{self.recipe.learning_rate:g}) or the server's (now {self.spec.server.learning_rate:g}), or set clip"
        )


def server_optimizer(spec: ServerSpec, parameters: Mapping[str, nn.Parameter]) -> Optimizer:
    """The server's optimiser, over its weights."""
    given = spec.model_dump(include={"optimizer", "momentum", "betas", "epsilon"})
    if spec.optimizer == "sgd":
        del given["epsilon"]
    return optimizer_for(RecipeSpec(epochs=1, **given), parameters)
