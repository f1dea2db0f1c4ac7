"""After an epoch that made dev worse: back to the weights of the best one, and on with a smaller epsilon of Adadelta.

Source: espnet/espnet espnet/asr/pytorch_backend/asr.py with `opt: adadelta`, `eps-decay: 0.01` (its triggers compare
accuracies; here it is what the task selects by). The optimiser's means stay as they are. In Adadelta a smaller epsilon
makes smaller steps, for it is all that a step begins from.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from thaw.config.schema import RecipeSpec
from thaw.models.layered import LayeredModel
from thaw.training.optim import Optimizer
from thaw.training.progress import Progress, under
from thaw.training.torch_optim import TorchOptimizer

PREFIX = "best/"  # of the tensors of a checkpoint


class Retreat:
    """The best weights so far, on the model's device, and how often they were gone back to (`Progress.retreats`)."""

    def __init__(self, recipe: RecipeSpec, model: LayeredModel, optimizer: Optimizer) -> None:
        assert isinstance(optimizer, TorchOptimizer)  # see RecipeSpec: adadelta alone
        self.epsilon, self.decay = recipe.epsilon, recipe.epsilon_decay
        self.model = model
        self.optimizer = optimizer
        self.best: dict[str, Tensor] = {}

    def keep(self) -> None:
        """These weights are the best so far."""
        self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    @torch.no_grad()
    def go_back(self, progress: Progress) -> None:
        """These are worse than the best."""
        progress.retreats += 1
        for name, tensor in self.model.state_dict().items():
            tensor.copy_(self.best[name])
        self.settle(progress)

    def settle(self, progress: Progress) -> None:
        """The epsilon that belongs to a place."""
        self.optimizer.set_epsilon(self.epsilon * self.decay**progress.retreats)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it, on the CPU."""
        return {f"{PREFIX}{name}": tensor.cpu() for name, tensor in self.best.items()}

    def restore(self, tensors: Mapping[str, Tensor], progress: Progress) -> None:
        """Take over what `tensors` gave."""
        own = self.model.state_dict()
        self.best = {name: tensor.to(own[name].device) for name, tensor in under(tensors, PREFIX).items()}
        self.settle(progress)
