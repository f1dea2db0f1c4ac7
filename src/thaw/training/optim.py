"""Optimisers over named parameters, their state in named slots, and the norm of gradients.

Two are ours, as the originals have them; the others are torch's own (`thaw.training.torch_optim`).

Adam in TensorFlow's form (tensorflow v1.15 core/kernels/training_ops.cc, ApplyAdam) keeps epsilon outside the bias
correction, and so differs from torch's where v is tiny:

    lr_t = lr · sqrt(1 - β2^t) / (1 - β1^t)        θ -= lr_t · m / (sqrt(v) + ε)

NovoGrad (Ginsburg et al. 2019) has one v for each tensor; as NVIDIA/NeMo v0.10.1 nemo/core/optim/novograd.py writes it:

    v = β2 · v + (1 - β2) · |g|²  (|g|² alone while v is 0)      m = β1 · m + g / (sqrt(v) + ε) + λ · θ      θ -= lr · m
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn


class Optimizer:
    """What all share: for each parameter a tensor in every slot, and one count of steps.

    It holds what it is given alone: pass the trainable parameters. Subclasses fill `state_in` and define `step`.
    """

    slots: ClassVar[tuple[str, ...]] = ()  # what another training may take over

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.names = list(parameters)
        self.parameters: list[Tensor] = list(parameters.values())
        self.idle: Collection[str] = ()  # names of parameters that the next step leaves alone, state and all
        self.t = 0
        self.state_in: dict[str, list[Tensor]] = {}  # by slot, in the order of `names`

    def step(self, learning_rate: float) -> None:
        """One update from the gradients at hand; RuntimeError names a parameter that has none."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def active(self) -> list[int]:
        """Places of the parameters that are not idle."""
        return [place for place, name in enumerate(self.names) if name not in self.idle]

    def gradients(self) -> list[Tensor]:
        """The gradient of each parameter that is not idle, in order; RuntimeError names a parameter that has none."""
        active = self.active()
        missing = [self.names[i] for i in active if self.parameters[i].grad is None]
        if missing:
            raise RuntimeError(f"no gradient reached {missing}: they are held as trainable but the loss ignores them")
        return [gradient for i in active if (gradient := self.parameters[i].grad) is not None]

    def gradient_norm(self) -> Tensor:
        """The Euclidean norm over all gradients, a scalar tensor."""
        norms: Sequence[Tensor] = torch._foreach_norm(self.gradients())
        total: Tensor = torch.linalg.vector_norm(torch.stack(list(norms)))
        return total

    def clip_gradients(self, max_norm: float) -> Tensor:
        """Scale all gradients so that their norm is at most `max_norm`; gives the norm before."""
        norm = self.gradient_norm()
        torch._foreach_mul_(self.gradients(), max_norm / torch.clamp(norm, min=max_norm))
        return norm

    def unmoved(self) -> list[str]:
        """Names of the parameters whose every gradient so far was exactly zero, as v tells."""
        return [name for name, v in zip(self.names, self.state_in["v"], strict=True) if not torch.any(v)]

    def averages(self) -> dict[str, Tensor]:
        """Parameters that are judged and kept by an average over steps: its values, by name. Most have none."""
        return {}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The parameters hold their averages meanwhile."""
        averages = self.averages()
        mine = [p for name, p in zip(self.names, self.parameters, strict=True) if name in averages]
        held = [p.detach().clone() for p in mine]
        with torch.no_grad():
            for parameter, average in zip(mine, averages.values(), strict=True):
                parameter.copy_(average)
            try:
                yield
            finally:
                for parameter, value in zip(mine, held, strict=True):
                    parameter.copy_(value)

    def state(self) -> dict[str, Tensor]:
        """All state as flat tensors for a safetensors file: "step", and "<parameter>/<slot>" for each."""
        state = {"step": torch.tensor(self.t)}
        for place, name in enumerate(self.names):
            state |= {f"{name}/{slot}": tensors[place] for slot, tensors in self.state_in.items()}
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of the same parameters, exactly; RuntimeError where names or shapes differ."""
        own = self.state()
        if {k: t.shape for k, t in own.items()} != {k: t.shape for k, t in state.items()}:
            differing = sorted(k for k in own.keys() | state.keys() if k not in own or k not in state)
            raise RuntimeError(f"optimizer state is of other parameters: {differing or 'shapes differ'}")
        self._take(state, self.names, self.state_in)

    def transfer(self, state: Mapping[str, Tensor], kept: Iterable[str]) -> list[str]:
        """Take the step count, and the slots of the parameters in `kept` that `state` has; gives the names taken.

        The others of ours start at zero but share the step count, so with no bias correction to speak of: what a
        TensorFlow checkpoint does to a fresh layer, whose first steps are then several times larger.
        """
        wanted = set(kept)
        taken = [n for n in self.names if n in wanted and all(f"{n}/{slot}" in state for slot in self.slots)]
        self._take(state, taken, self.slots)
        return taken

    @torch.no_grad()
    def _take(self, state: Mapping[str, Tensor], names: Iterable[str], slots: Iterable[str]) -> None:
        self.t = int(state["step"])
        chosen, slots = set(names), list(slots)
        for place, name in enumerate(self.names):
            for slot in slots if name in chosen else ():
                self.state_in[slot][place].copy_(state[f"{name}/{slot}"])


class Moments(Optimizer):
    """A first moment m for each parameter and a second moment v."""

    slots = ("m", "v")

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8
    ) -> None:
        super().__init__(parameters)
        self.betas = betas
        self.epsilon = epsilon
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [self.second_moment(p) for p in self.parameters]
        self.state_in = {"m": self.m, "v": self.v}

    def second_moment(self, parameter: Tensor) -> Tensor:
        """The v that a parameter starts with: zeros."""
        return torch.zeros_like(parameter)

    def to_update(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Parameters, m and v of those that are not idle."""
        active = self.active()
        return [self.parameters[i] for i in active], [self.m[i] for i in active], [self.v[i] for i in active]


class AdamTF(Moments):
    """Adam as TensorFlow writes it."""

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update from the gradients at hand; RuntimeError names a parameter that has none."""
        gradients = self.gradients()
        beta1, beta2 = self.betas
        self.t += 1
        rate = learning_rate * math.sqrt(1.0 - beta2**self.t) / (1.0 - beta1**self.t)
        parameters, m, v = self.to_update()
        torch._foreach_mul_(m, beta1)
        torch._foreach_add_(m, gradients, alpha=1.0 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, gradients, gradients, value=1.0 - beta2)
        denominators = torch._foreach_sqrt(v)
        torch._foreach_add_(denominators, self.epsilon)
        torch._foreach_addcdiv_(parameters, m, denominators, value=-rate)


class NovoGrad(Moments):
    """NovoGrad as NeMo writes it: v is one number per tensor, the weight decay joins after the normalisation.

    Weight decay reaches every parameter, biases and norms too. Nothing is corrected for the start, but that v takes
    the first gradient's square whole.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        betas: tuple[float, float] = (0.95, 0.98),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, betas, epsilon)
        self.weight_decay = weight_decay

    def second_moment(self, parameter: Tensor) -> Tensor:
        """A zero, (), float32 whatever the parameter is: its square root must not lose what a bfloat16 would."""
        return torch.zeros((), dtype=torch.float32, device=parameter.device)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update from the gradients at hand; RuntimeError names a parameter that has none."""
        gradients = self.gradients()
        beta1, beta2 = self.betas
        self.t += 1
        squares = torch.stack(list(torch._foreach_norm(gradients))).float().square()
        parameters, m, second = self.to_update()
        v = torch.stack(second)
        v = torch.where(v == 0, squares, beta2 * v + (1.0 - beta2) * squares)
        torch._foreach_copy_(second, list(v.unbind()))
        # Plain numbers would let one kernel divide many tensors, but they are only known when the device is done.
        updates = torch._foreach_div(gradients, list((v.sqrt() + self.epsilon).unbind()))
        if self.weight_decay:
            torch._foreach_add_(updates, parameters, alpha=self.weight_decay)
        torch._foreach_mul_(m, beta1)
        torch._foreach_add_(m, updates)
        torch._foreach_add_(parameters, m, alpha=-learning_rate)
