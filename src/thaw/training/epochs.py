"""What learners share that train one model by one optimiser, epoch after epoch: position, snapshots, the early stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from thaw.config.run import RunRecipe
from thaw.config.starts import BEST
from thaw.models.layered import LayeredModel
from thaw.surgery.surgery import parameter_counts
from thaw.training.learner import Kept, Place
from thaw.training.means import Means
from thaw.training.optim import Optimizer
from thaw.training.progress import Progress, Sums, copied, under
from thaw.training.retreat import Retreat
from thaw.training.schedule import rate


class Epochs:
    """Model, optimiser and position of one training; a part of the protocol `thaw.training.learner.Learner`.

    A subclass takes the steps, judges dev, adds rows of metrics to `progress`, and says in `steps` how many there will
    be.
    """

    steps: int  # as many as there will be, but for an early stop

    def __init__(self, run: RunRecipe, model: LayeredModel, optimizer: Optimizer, selects: str) -> None:
        """`selects`: what the best epoch is chosen by, as rows of metrics call it: "dev_loss"."""
        self.run_recipe = run
        self.recipe = run.recipe
        self.model = model
        self.optimizer = optimizer
        self.selects = selects
        self.retreat = Retreat(run.recipe, model, optimizer) if run.recipe.epsilon_decay < 1 else None
        self.means = Means(run.recipe.snapshots, run.recipe.epochs)
        self.trainable = sum(p.numel() for p in optimizer.parameters)
        self.progress = Progress()
        self.kept: dict[str, Kept] = {}  # snapshots that nobody has taken yet

    @property
    def stopped_early(self) -> bool:
        """Whether dev has not improved for as long as the recipe allows (checked after each epoch, as DeepSpeech)."""
        return bool(self.recipe.early_stop_epochs) and self.progress.stale >= self.recipe.early_stop_epochs

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.progress.epoch > self.recipe.epochs or self.stopped_early

    def learning_rate(self, step: int) -> float:
        """The rate of the 1-based `step`."""
        return rate(self.recipe, step, self.steps)

    def judge(self, value: float) -> None:
        """Keep the epoch's weights if they are the best so far, by `value`, or a snapshot that is wanted; or go back.

        An epoch is the best on any decrease of what selects; it counts as an improvement for the early stop only if
        the decrease exceeds early_stop_delta (mozilla/DeepSpeech v0.7.4 training/deepspeech_training/train.py).
        """
        progress = self.progress
        best = math.inf if progress.best is None else float(progress.best[self.selects])
        progress.stale = 0 if value < best - self.recipe.early_stop_delta else progress.stale + 1
        if value < best:
            progress.best = {"epoch": progress.epoch, self.selects: value}
            self.keep(BEST)
        if f"epoch-{progress.epoch}" in self.recipe.snapshots:
            self.keep(f"epoch-{progress.epoch}")
        for snapshot, weights in self.means.add(progress.epoch, self.weights()).items():
            self.kept[snapshot] = Kept(progress.epoch, weights, {})
        if self.retreat and value < best:
            self.retreat.keep()
        elif self.retreat and value > best:
            self.retreat.go_back(progress)

    def next_epoch(self) -> None:
        """Move on to the first step of the next epoch."""
        self.progress.epoch += 1
        self.progress.batch = 0
        self.progress.sums = Sums()

    def keep(self, snapshot: str) -> None:
        """Copy the weights as they are judged now."""
        self.kept[snapshot] = Kept(self.progress.epoch, copied(self.weights()), copied(self.optimizer.state()))

    def settle(self) -> None:
        """See `Learner`: here nothing is put off."""

    # --- what a session asks ------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Model and optimiser, on the CPU."""
        tensors = {f"model/{name}": tensor.cpu() for name, tensor in self.model.state_dict().items()}
        tensors |= {f"optimizer/{name}": tensor.cpu() for name, tensor in self.optimizer.state().items()}
        return tensors | self.means.tensors() | (self.retreat.tensors() if self.retreat else {})

    def facts(self) -> dict[str, Any]:
        """Where it is."""
        return {"progress": self.progress.plain()}

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over what `tensors` and `facts` gave."""
        self.model.load_state_dict(under(tensors, "model/"))
        self.optimizer.restore(under(tensors, "optimizer/"))
        self.progress = Progress.from_plain(facts["progress"])
        self.means.restore(tensors, next(self.model.parameters()).device)
        if self.retreat:
            self.retreat.restore(tensors, self.progress)

    @property
    def place(self) -> Place:
        """Where it is."""
        progress, sums = self.progress, self.progress.sums
        return Place(
            epoch=progress.epoch,
            unit=progress.batch,
            step=progress.step,
            steps=self.steps,
            loss=sums.loss / sums.weight if sums.weight else None,
            audio_seconds=progress.audio_seconds,
        )

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Metrics, one row per finished epoch."""
        return self.progress.rows

    @property
    def best(self) -> dict[str, Any] | None:
        """The best epoch so far."""
        return self.progress.best

    def weights(self) -> dict[str, Tensor]:
        """The model's, with the optimiser's averages in the place of what they average."""
        return {**self.model.state_dict(), **self.optimizer.averages()}

    def unsaved(self) -> dict[str, Kept]:
        """The snapshots taken since the last call."""
        kept, self.kept = self.kept, {}
        return kept

    def unmoved(self) -> list[str]:
        """Names of parameters whose every gradient was exactly zero."""
        return self.optimizer.unmoved()

    def record(self) -> dict[str, Any]:
        """How far it was trained, and how that ended."""
        progress = self.progress
        patience = f"no improvement for {self.recipe.early_stop_epochs} epochs"
        return {
            "parameters": parameter_counts(self.model),
            "best": progress.best,
            "epochs": len(progress.rows),
            "steps": progress.step,
            "stopped": patience if self.stopped_early else "all epochs",
            "skipped": sum(row["skipped"] for row in progress.rows),
        }
