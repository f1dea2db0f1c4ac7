"""The two optimisers, over named parameters, and the norm of gradients.

Adam in TensorFlow's form (tensorflow v1.15 core/kernels/training_ops.cc, ApplyAdam) keeps epsilon outside the bias
correction, and so differs from torch's where v is tiny:

    lr_t = lr · sqrt(1 - β2^t) / (1 - β1^t)        θ -= lr_t · m / (sqrt(v) + ε)

NovoGrad (Ginsburg et al. 2019) has one v for each tensor; as NVIDIA/NeMo v0.10.1 nemo/core/optim/novograd.py writes it:

    v = β2 · v + (1 - β2) · |g|²  (|g|² alone while v is 0)      m = β1 · m + g / (sqrt(v) + ε) + λ · θ      θ -= lr · m
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from thaw.config.schema import RecipeSpec


class Optimizer:
    """What both share: a first moment m for each parameter, a second moment v, and one step count for all.

    It holds what it is given alone: pass the trainable parameters. Subclasses define `step`.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8
    ) -> None:
        self.names = list(parameters)
        self.parameters: list[Tensor] = list(parameters.values())
        self.betas = betas
        self.epsilon = epsilon
        self.t = 0
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [self.second_moment(p) for p in self.parameters]

    def second_moment(self, parameter: Tensor) -> Tensor:
        """The v that a parameter starts with: zeros."""
        return torch.zeros_like(parameter)

    def step(self, learning_rate: float) -> None:
        """One update from the gradients at hand; RuntimeError names a parameter that has none."""
        raise NotImplementedError

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def gradients(self) -> list[Tensor]:
        """The gradient of each parameter, in order; RuntimeError names a parameter that has none."""
        missing = [name for name, p in zip(self.names, self.parameters, strict=True) if p.grad is None]
        if missing:
            raise RuntimeError(f"no gradient reached {missing}: they are held as trainable but the loss ignores them")
        return [p.grad for p in self.parameters if p.grad is not None]

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
        return [name for name, v in zip(self.names, self.v, strict=True) if not torch.any(v)]

    def state(self) -> dict[str, Tensor]:
        """All state as flat tensors for a safetensors file: "step", and "<parameter>/m", "<parameter>/v" for each."""
        state = {"step": torch.tensor(self.t)}
        for name, m, v in zip(self.names, self.m, self.v, strict=True):
            state[f"{name}/m"], state[f"{name}/v"] = m, v
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of the same parameters, exactly; RuntimeError where names or shapes differ."""
        own = self.state()
        if {k: t.shape for k, t in own.items()} != {k: t.shape for k, t in state.items()}:
            differing = sorted(k for k in own.keys() | state.keys() if k not in own or k not in state)
            raise RuntimeError(f"optimizer state is of other parameters: {differing or 'shapes differ'}")
        self._take(state, self.names)

    def transfer(self, state: Mapping[str, Tensor], kept: Iterable[str]) -> list[str]:
        """Take the step count, and m and v of the parameters in `kept` that `state` has; gives the names taken.

        The others start at zero but share the step count, so with no bias correction to speak of: what a TensorFlow
        checkpoint does to a fresh layer, whose first steps are then several times larger.
        """
        wanted = set(kept)
        taken = [name for name in self.names if name in wanted and f"{name}/m" in state]
        self._take(state, taken)
        return taken

    @torch.no_grad()
    def _take(self, state: Mapping[str, Tensor], names: Iterable[str]) -> None:
        self.t = int(state["step"])
        chosen = set(names)
        for name, m, v in zip(self.names, self.m, self.v, strict=True):
            if name in chosen:
                m.copy_(state[f"{name}/m"])
                v.copy_(state[f"{name}/v"])


class AdamTF(Optimizer):
    """Adam as TensorFlow writes it."""

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update from the gradients at hand; RuntimeError names a parameter that has none."""
        gradients = self.gradients()
        beta1, beta2 = self.betas
        self.t += 1
        rate = learning_rate * math.sqrt(1.0 - beta2**self.t) / (1.0 - beta1**self.t)
        torch._foreach_mul_(self.m, beta1)
        torch._foreach_add_(self.m, gradients, alpha=1.0 - beta1)
        torch._foreach_mul_(self.v, beta2)
        torch._foreach_addcmul_(self.v, gradients, gradients, value=1.0 - beta2)
        denominators = torch._foreach_sqrt(self.v)
        torch._foreach_add_(denominators, self.epsilon)
        torch._foreach_addcdiv_(self.parameters, self.m, denominators, value=-rate)


class NovoGrad(Optimizer):
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
        v = torch.stack(self.v)
        v = torch.where(v == 0, squares, beta2 * v + (1.0 - beta2) * squares)
        torch._foreach_copy_(self.v, list(v.unbind()))
        # Plain numbers let one kernel divide many tensors, which more than pays for waiting for them here.
        updates = torch._foreach_div(gradients, (v.sqrt() + self.epsilon).tolist())
        if self.weight_decay:
            torch._foreach_add_(updates, self.parameters, alpha=self.weight_decay)
        torch._foreach_mul_(self.m, beta1)
        torch._foreach_add_(self.m, updates)
        torch._foreach_add_(self.parameters, self.m, alpha=-learning_rate)


def optimizer_for(recipe: RecipeSpec, parameters: Mapping[str, nn.Parameter]) -> Optimizer:
    """The optimiser that a recipe names, over these parameters."""
    if recipe.optimizer == "novograd":
        return NovoGrad(parameters, recipe.betas, recipe.epsilon, recipe.weight_decay)
    return AdamTF(parameters, recipe.betas, recipe.epsilon)
