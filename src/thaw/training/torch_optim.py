"""torch's own optimisers with named slots, and the one that a recipe names.

Their state is made before the first step, as they would make it in it, so that it always has the same tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adadelta import adadelta
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam
from torch.optim.asgd import asgd
from torch.optim.sgd import sgd

from thaw.config.schema import RecipeSpec
from thaw.training.optim import AdamTF, NovoGrad, Optimizer

Fill = Callable[[Tensor], Tensor]
Update = Callable[..., None]  # parameters, gradients, a list of tensors for each slot; keywords: lr and options


def zeros(parameter: Tensor) -> Tensor:
    """A slot of the parameter's shape."""
    return torch.zeros_like(parameter)


def number(value: float) -> Fill:
    """A slot of one number, on the CPU, where torch keeps them."""
    return lambda parameter: torch.tensor(value)


class TorchOptimizer(Optimizer):
    """One of torch.optim's updates. `state_of` names its slots and says what they begin with.

    The update alone, as a function: torch's class around it loads its compiler, which is a second of every training.
    `moved` beside the slots says whether a gradient was ever not zero.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], update: Update, state_of: Mapping[str, Fill], **options: Any
    ) -> None:
        super().__init__(parameters)
        self.update, self.options = update, options
        self.slots = tuple(state_of)  # type: ignore[misc]
        self.state_in = {slot: [fill(p) for p in self.parameters] for slot, fill in state_of.items()}
        self.state_in["moved"] = [torch.zeros((), dtype=torch.bool, device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update from the gradients at hand; RuntimeError names a parameter that has none."""
        gradients, active = self.gradients(), self.active()
        moved = [self.state_in["moved"][place] for place in active]
        largest = torch.stack(list(torch._foreach_norm(gradients, float("inf"))))
        torch._foreach_copy_(moved, list((torch.stack(moved) | (largest > 0)).unbind()))
        self.t += 1
        slots = [[self.state_in[slot][place] for place in active] for slot in self.slots]
        parameters = [self.parameters[place] for place in active]
        self.update(parameters, gradients, *slots, lr=learning_rate, **self.options)

    def set_epsilon(self, epsilon: float) -> None:
        """What the steps from the next one on add to their denominators."""
        self.options["eps"] = epsilon

    def unmoved(self) -> list[str]:
        """Names of the parameters whose every gradient so far was exactly zero."""
        return [name for name, moved in zip(self.names, self.state_in["moved"], strict=True) if not moved]


class Averaged(TorchOptimizer):
    """SGD whose weights are judged and kept by their average (Polyak & Juditsky 1992): torch's ASGD, without its decay.

    torch averages from the second step after `averaging_start` on; before that, the average is the weight itself.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], averaging_start: int, weight_decay: float) -> None:
        state = {"step": number(0.0), "eta": number(1.0), "mu": number(1.0), "ax": zeros}
        super().__init__(parameters, _asgd, state, t0=float(averaging_start), weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """torch takes the rate of a step from the step before it: said here in time."""
        for eta in self.state_in["eta"]:
            eta.fill_(learning_rate)
        super().step(learning_rate)

    def averages(self) -> dict[str, Tensor]:
        """The averages, once there is a step to average."""
        steps, averages = self.state_in["step"], self.state_in["ax"]
        return {name: ax for name, ax, step in zip(self.names, averages, steps, strict=True) if step > 0}


class NonMonotone(Averaged):
    """NT-ASGD (Merity et al. 2018): SGD until someone says that it goes no further, then averaged SGD.

    Until then torch's ASGD keeps the weight itself as its average, so the steps are SGD's to the bit; from then on they
    go on from the same weights, and the average takes them in from the second step on, as in salesforce/awd-lstm-lm
    main.py, where a new ASGD with t0 = 0 takes over. It holds what is trained alone: a frozen weight has no average.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], weight_decay: float) -> None:
        super().__init__(parameters, 0, weight_decay)
        self.state_in["since"] = [torch.tensor(math.inf) for _ in self.parameters]  # the step at which averaging began
        self._say_since()

    @property
    def averaging(self) -> bool:
        """Whether it has begun."""
        return math.isfinite(self.state_in["since"][0])

    def begin_averaging(self) -> None:
        """From the next step on."""
        for since in self.state_in["since"]:
            since.fill_(self.t)
        self._say_since()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """See `Optimizer.restore`."""
        super().restore(state)
        self._say_since()

    def averages(self) -> dict[str, Tensor]:
        """The averages, once there is a step to average."""
        return super().averages() if self.averaging and self.t > self.state_in["since"][0] else {}

    def _say_since(self) -> None:
        self.options["t0"] = float(self.state_in["since"][0])


def optimizer_for(recipe: RecipeSpec, parameters: Mapping[str, nn.Parameter]) -> Optimizer:
    """The optimiser that a recipe names, over these parameters."""
    decay, epsilon, step = recipe.weight_decay, recipe.epsilon, {"step": number(0.0)}
    match recipe.optimizer:
        case "adam-tf":
            return AdamTF(parameters, recipe.betas, epsilon)
        case "novograd":
            return NovoGrad(parameters, recipe.betas, epsilon, decay)
        case "asgd":
            return Averaged(parameters, recipe.averaging_start, decay)
        case "nt-asgd":
            return NonMonotone(parameters, decay)
        case "sgd":
            state = {"momentum_buffer": zeros} if recipe.momentum else {}
            return TorchOptimizer(parameters, _sgd, state, momentum=recipe.momentum, weight_decay=decay)
        case "adagrad":
            state = {**step, "sum": zeros}
            return TorchOptimizer(parameters, _adagrad, state, eps=epsilon, weight_decay=decay)
        case "adadelta":
            state = {**step, "square_avg": zeros, "acc_delta": zeros}
            return TorchOptimizer(parameters, _adadelta, state, rho=recipe.rho, eps=epsilon, weight_decay=decay)
        case "adam" | "adamw":
            (beta1, beta2), apart = recipe.betas, recipe.optimizer == "adamw"
            state = {**step, "exp_avg": zeros, "exp_avg_sq": zeros}
            rates = {"beta1": beta1, "beta2": beta2, "eps": epsilon, "weight_decay": decay}
            return TorchOptimizer(parameters, _adam, state, decoupled_weight_decay=apart, **rates)


# --- torch's functions, slots in the order above; what no recipe has is off -----------------------


def _sgd(parameters: list[Tensor], gradients: list[Tensor], momenta: Sequence[Tensor] = (), **options: Any) -> None:
    sgd(parameters, gradients, [*momenta], dampening=0.0, nesterov=False, maximize=False, **options)


def _adagrad(
    parameters: list[Tensor], gradients: list[Tensor], steps: list[Tensor], sums: list[Tensor], **options: Any
) -> None:
    adagrad(parameters, gradients, sums, steps, lr_decay=0.0, maximize=False, **options)


def _adadelta(
    parameters: list[Tensor],
    gradients: list[Tensor],
    steps: list[Tensor],
    squares: list[Tensor],
    deltas: list[Tensor],
    **options: Any,
) -> None:
    adadelta(parameters, gradients, squares, deltas, steps, maximize=False, **options)


def _adam(
    parameters: list[Tensor],
    gradients: list[Tensor],
    steps: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    **options: Any,
) -> None:
    adam(parameters, gradients, means, squares, [], steps, amsgrad=False, maximize=False, **options)


def _asgd(
    parameters: list[Tensor],
    gradients: list[Tensor],
    steps: list[Tensor],
    etas: list[Tensor],
    mus: list[Tensor],
    averages: list[Tensor],
    **options: Any,
) -> None:
    asgd(parameters, gradients, averages, mus, etas, steps, lambd=0.0, alpha=0.75, **options)
