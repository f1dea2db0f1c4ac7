"""What a config says of a learner: who takes the steps of a training. Known without importing torch.

A new learner is one class here and one module in `thaw.training`; `LearnerSpec` is then a union by `kind`. No `kind`
has a default, since defaults are dropped before a recipe is hashed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from thaw.config.numbers import Amount, Count, Fraction, Positive, Size, Some
from thaw.config.strict import Strict


class CentralSpec(Strict):
    """One optimiser over all data, on one or many GPUs."""

    kind: Literal["central"]


class ServerSpec(Strict):
    """What the server does with the clients' mean change: it is the negative of a gradient (Reddi et al. 2021, FedOpt).

    sgd at rate 1 is federated averaging (McMahan et al. 2017).
    """

    optimizer: Literal["sgd", "adam", "adagrad"] = "sgd"
    learning_rate: Some = 1.0
    warmup_rounds: Count = 0  # a linear rise of the rate
    momentum: Fraction = 0.0  # sgd only
    betas: tuple[Fraction, Fraction] = (0.9, 0.99)  # adam only
    epsilon: Some = 1e-3  # not of sgd

    @model_validator(mode="after")
    def _fits_together(self) -> ServerSpec:
        for key, owners in (("momentum", ("sgd",)), ("betas", ("adam",)), ("epsilon", ("adam", "adagrad"))):
            if self.optimizer not in owners and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key}: {self.optimizer} has none; {' and '.join(owners)} have")
        return self


class UnitDropoutSpec(Strict):
    """Federated dropout (Caldas et al. 2018): a client trains a network that lacks some hidden units of its layers.

    A fixed number of units of each layer, not one drawn by chance, so that all clients' networks have the same size.
    """

    rate: Fraction = 0.1  # of every layer that has hidden units
    raised: Fraction = 0.5  # instead of it, of the layers that one of the next three chooses
    layers: tuple[str, ...] = ()  # by name
    critical: Count = 0  # so many, from the most critical one on, of the run's ranking
    ambient: Count = 0  # so many, from the least critical one on
    by: Literal["draw", "first"] = "draw"  # the ranking: what a layer's reset to such weights does to the error
    units: Literal["client", "round"] = "client"  # each client of a round lacks other units, or all the same
    # What a client did not train: left out of the mean (masked), or a change of zero in it (zero-fill).
    aggregation: Literal["masked", "zero-fill"] = "masked"

    @model_validator(mode="after")
    def _chosen_in_one_way(self) -> UnitDropoutSpec:
        ways = [key for key in ("layers", "critical", "ambient") if getattr(self, key)]
        if len(ways) > 1:
            raise ValueError(f"give one of layers, critical and ambient, not {' and '.join(ways)}")
        if not ways and self.raised != type(self).model_fields["raised"].default:
            raise ValueError("raised: of which layers? give layers, critical or ambient")
        if not self.ranked and self.by != "draw":
            raise ValueError("by: only critical and ambient take a ranking")
        return self

    @property
    def ranked(self) -> bool:
        """Whether a ranking says which layers."""
        return bool(self.critical or self.ambient)


class FederatedSpec(Strict):
    """Rounds: some speakers train the server's weights on their own utterances, the server takes over the mean change.

    What the recipe says of batches, optimiser, rate, dropout and augmentation is what a client does; its optimiser is
    new in each round. An epoch of the recipe is a period of `rounds` rounds, after which dev is judged.
    """

    kind: Literal["federated"]
    clients: Size  # of each round; drawn by the random seed and the round alone
    rounds: Positive = 1  # from one judgement of dev to the next
    local_epochs: Annotated[Positive, Field(le=10_000)] = 1
    weighting: Literal["samples", "uniform"] = "samples"  # of clients in the mean: by their utterances, or alike
    clip: Amount = 0.0  # the largest norm that a client's change may have; 0: any
    buffers: Literal["refuse", "average"] = "refuse"  # statistics of batch norms, which no server knows how to take
    server: ServerSpec = ServerSpec()
    dropout: UnitDropoutSpec | None = None


class DownpourSpec(Strict):
    """Downpour SGD (Dean et al., NIPS 2012): replicas fetch weights from a server, and push gradients that are old by
    then. The server is Adagrad; every replica fetches and pushes at every batch.

    `simulated` is one process and gives the same bits every time; `processes` is one for each replica on one host, who
    race: no two trainings are alike.
    """

    kind: Literal["downpour"]
    replicas: Size = 1
    # Updates of the server between a replica's fetch and its push. Without it, replicas take turns: replicas - 1.
    staleness: Annotated[Count, Field(le=10_000)] | None = None
    warm_start_steps: Count = 0  # updates at the beginning, by one replica alone
    mode: Literal["simulated", "processes"] = "simulated"

    @model_validator(mode="after")
    def _who_races_has_no_turns(self) -> DownpourSpec:
        if self.mode == "processes" and self.staleness is not None:
            raise ValueError("staleness: processes are as late as they are; it can be chosen where mode is simulated")
        return self

    @property
    def late(self) -> int:
        """The staleness of the simulation, in updates."""
        return self.replicas - 1 if self.staleness is None else self.staleness


LearnerSpec = Annotated[CentralSpec | FederatedSpec | DownpourSpec, Field(discriminator="kind")]

CENTRAL = CentralSpec(kind="central")
