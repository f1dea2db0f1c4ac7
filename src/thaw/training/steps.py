"""One step of one model: a batch in, gradients of its mean loss, and what to do where one of them is not finite.

What is learnt is the task's affair (`thaw.tasks`), and so is what a mean loss is the mean of. Steps that are taken on
trust, and looked at one step later, are in `thaw.training.deferred`.

Shapes: B batch, T frames, V classes. Losses are nats; of CTC, each of an utterance and not divided by its length, as
mozilla/DeepSpeech v0.7.4 training/deepspeech_training/train.py (`calculate_mean_edit_distance_and_loss`) has them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from thaw.audio.wav import SAMPLE_RATE
from thaw.config.run import RunRecipe
from thaw.models.layered import LayeredModel, Noise, layer_of
from thaw.placing import on_device
from thaw.surgery.surgery import Surgery
from thaw.training import cutting
from thaw.training.ahead import Ahead
from thaw.training.augment import Augment
from thaw.training.data import Batch, Examples, epoch_batches
from thaw.training.deferred import Deferred
from thaw.training.distributed import World
from thaw.training.epochs import Epochs
from thaw.training.forward import Answer, forward
from thaw.training.learner import Diverged
from thaw.training.optim import Optimizer
from thaw.training.progress import Buffers, Heard

MOST_MAKERS = 8  # threads that make batches: more wait for each other's Python


class Wanted(NamedTuple):
    """Training utterances that go through the model at once."""

    epoch: int
    indices: tuple[int, ...]


class Steps(Epochs):
    """Model, optimiser, data and position of one training, and the steps of its optimiser."""

    defers: ClassVar[bool] = True  # whether a GPU's steps are read one step later (`thaw.training.deferred`)

    def __init__(
        self,
        run: RunRecipe,
        model: LayeredModel,
        surgery: Surgery,
        optimizer: Optimizer,
        examples: Examples,
        dev: Examples,
        world: World,
        say: Callable[[str], None],
        done: int = 0,
    ) -> None:
        self.tasks = examples.tasks
        self.task = next(iter(self.tasks.values()))  # for what is the same for all heads
        super().__init__(run, model, optimizer, f"dev_{self.task.selects}")
        self.examples = examples
        self.dev = dev
        self.world = world
        self.say = say
        self.rates = surgery.dropout_rates(self.recipe.dropout)
        self.done = done  # layers whose outputs `examples` and `dev` hold, instead of features
        self.buffers = Buffers(model)
        self.part_buffers = Buffers(model)  # before a part of a batch
        self.deferred = Deferred(self) if self.defers and world.device.type == "cuda" else None
        self.ahead: Ahead[Wanted, Batch] | None = None  # a step alone makes its batch itself
        self.samples = [utterance.samples for utterance in examples.utterances]
        self.langs = [utterance.lang for utterance in examples.utterances]
        self.steps_per_epoch = len(self.batches(1))
        self.steps = run.recipe.epochs * self.steps_per_epoch  # as many as there will be, but for an early stop

    # --- batches ----------------------------------------------------------------------------------

    def batches(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch; a function of (seed, epoch) alone."""
        recipe = self.recipe
        seed, temperature = self.run_recipe.seed, recipe.language_temperature
        how = (recipe.batch_size, recipe.order, recipe.drop_last, seed, epoch, self.langs, temperature)
        return self.examples.in_turn(epoch_batches(self.samples, *how, recipe.batch_seconds))

    @property
    def makers(self) -> int:
        """Threads that make batches: on a GPU, all that this process has, whose torch has nothing to do for them.

        What frozen layers give is made on the GPU itself, by one.
        """
        spare = self.world.device.type == "cuda" and not self.done
        return min(torch.get_num_threads(), MOST_MAKERS) if spare else 1

    def augment(self, epoch: int) -> Augment:
        """What an epoch changes in the training utterances."""
        run = self.run_recipe
        return Augment(self.recipe.augmentation, run.model.frames, run.seed, epoch)

    def prepare(self, wanted: Wanted) -> Batch:
        """These utterances as a batch, ready to be copied to the device while that is at work."""
        return self.made(self.examples.batch(wanted.indices, self.augment(wanted.epoch)).checked())

    def made(self, batch: Batch) -> Batch:
        """A batch in memory that the device copies by itself."""
        return batch.pinned() if self.world.device.type == "cuda" else batch

    def parts(self, indices: Sequence[int]) -> list[list[int]]:
        """This process's share of a batch, as what goes through the model at once; none where it has no share."""
        share = list(self.world.share(indices))
        if not self.recipe.microbatch_seconds:
            return [share] if share else []
        slowest = min((1.0, *self.recipe.augmentation.speed))
        return cutting.parts(share, self.samples, self.recipe.microbatch_seconds * slowest * SAMPLE_RATE)

    def to_come(self) -> Iterator[Wanted]:
        """What goes through the model from here on, of one epoch after the other."""
        first = self.progress.batch
        last = self.progress.epoch if self.done else self.recipe.epochs  # what a model makes, it makes in training
        for epoch in range(self.progress.epoch, last + 1):
            for indices in self.batches(epoch)[first:]:
                yield from (Wanted(epoch, tuple(part)) for part in self.parts(indices))
            first = 0

    def next_batch(self, part: Sequence[int], again: bool = False) -> Batch:
        """Utterances of this epoch as a batch: made ahead, or now; now too where they were taken before (`again`)."""
        asked = time.perf_counter()
        wanted = Wanted(self.progress.epoch, tuple(part))
        batch = self.ahead.take(wanted) if self.ahead and not again else self.prepare(wanted)
        self.progress.sums.data_seconds += time.perf_counter() - asked
        return batch

    def weight(self, indices: Iterable[int]) -> int:
        """What utterances count in a mean loss, by their tasks."""
        return sum(self.tasks[self.examples.head(i)].weight(len(self.examples.labels[i])) for i in indices)

    # --- a step -----------------------------------------------------------------------------------

    def step(self, indices: Sequence[int]) -> None:
        """One optimiser step on one batch (of all processes together)."""
        began = time.perf_counter()
        progress, sums = self.progress, self.progress.sums
        if self.deferred:
            self.deferred.step(indices)
        else:
            self.carefully(indices)
        seconds = self.examples.seconds(indices)
        sums.steps += 1
        sums.audio_seconds += seconds
        sums.seconds += time.perf_counter() - began
        progress.audio_seconds += seconds
        progress.step += 1
        progress.batch += 1

    def carefully(self, indices: Sequence[int], again: bool = False) -> None:
        """Take the step of one batch, and look at losses and gradient before going on with them."""
        self.buffers.hold()
        heard = self.accumulate(indices, again)
        norm = self.whole_gradient(self.weight(indices), heard.weight)
        if math.isfinite(norm):
            self.optimizer.step(self.learning_rate(self.progress.step + 1))
            self.add_step(heard, norm)
        else:
            self.skip(indices, "its gradient is not finite" if heard.utterances else "no loss of it is finite")
        self.progress.sums.non_finite += heard.left_out

    def add_step(self, heard: Heard, norm: float) -> None:
        """Add up a step that was taken."""
        sums = self.progress.sums
        sums.loss += heard.loss
        sums.utterances += heard.utterances
        sums.weight += heard.weight
        sums.gradient_norm += norm
        self.progress.skipped = 0

    def accumulate(self, indices: Sequence[int], again: bool = False) -> Heard:
        """Gradients of this process's share of (summed losses / weight of the whole batch), added up over its parts.

        Gives what was heard over all processes.
        """
        self.optimizer.zero_grad()
        planned, parts = self.weight(indices), self.parts(indices)
        share, values, bad = list[int](), list[float](), list[int]()
        for part in parts:
            if len(parts) > 1:
                self.part_buffers.hold()
            held = self.part_buffers if len(parts) > 1 else self.buffers
            heard_here, losses, left_out_here = self.accumulate_part(part, planned, held, again)
            share, values, bad = share + heard_here, values + losses, bad + left_out_here
        counts = {lang: sum(self.examples.head(i) == lang for i in share) for lang in self.tasks}
        loss, counted, weight, left_out, *heard = self.world.total(
            [math.fsum(values), len(share), self.weight(share), len(bad), *counts.values()]
        )
        self.leave_idle([lang for lang, count in zip(counts, heard, strict=True) if not count])
        return Heard(loss, int(counted), int(weight), self.name_non_finite(bad) if left_out else [])

    def accumulate_part(
        self, share: list[int], planned: int, held: Buffers, again: bool
    ) -> tuple[list[int], list[float], list[int]]:
        """Add the gradients of (summed losses / `planned`) of what goes through the model at once.

        Utterances whose loss is not finite are left out by another forward pass without them: masking would not do,
        since zero times infinity is no gradient. Buffers are then what they are without them, and without features that
        are not finite, which would reach the whole batch through its norms. Gives the indices that were heard, their
        losses, and the indices left out; `held` is what buffers were before.
        """
        bad: list[int] = []
        values: list[float] = []
        while share:
            batch = self.next_batch(share, again or bool(bad))
            if spoiled := [share[row] for row in batch.spoiled]:
                bad += spoiled
                share = [i for i in share if i not in spoiled]
                continue
            losses = self.heard(batch)
            values = losses.tolist()
            wrong = [i for i, value in zip(share, values, strict=True) if not math.isfinite(value)]
            if not wrong:
                (losses.sum() / planned).backward()  # type: ignore[no-untyped-call]
                break
            bad += wrong
            share, values = [i for i in share if i not in wrong], []
            held.restore()
        return share, values, bad

    def heard(self, batch: Batch) -> Tensor:
        """The losses (B,) of a batch in training."""
        batch = batch.to(self.world.device)
        noise = Noise(self.rates, self.run_recipe.seed, self.progress.epoch, batch.ids)
        return self.losses(batch, noise)[0]

    def leave_idle(self, silent: Sequence[str]) -> None:
        """Let the optimiser pass over the layers of languages that a batch does not have."""
        idle = {name for lang in silent for name in self.model.branches[lang]}
        self.optimizer.idle = {name for name in self.optimizer.names if layer_of(name) in idle} if idle else ()

    def losses(self, batch: Batch, noise: Noise | None) -> tuple[Tensor, list[Answer]]:
        """Losses (B,), and the answer of each head. The loss is fp32 also where the model runs in bf16."""
        with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            answers = forward(self.model, batch, noise, self.done)
        losses = [self.tasks[answer.head].losses(answer) for answer in answers]
        if len(answers) == 1:
            return losses[0], answers
        order = torch.tensor([row for answer in answers for row in answer.rows]).argsort()
        return torch.cat(losses)[on_device(order, losses[0].device)], answers

    def whole_gradient(self, planned: int, counted: int) -> float:
        """Sum gradients over processes, correct them for utterances left out, clip; gives the norm before clipping.

        NaN where no utterance counted.
        """
        return float(self.combine(planned / counted)) if counted else math.nan

    def combine(self, factor: float) -> Tensor:
        """Sum gradients over processes, times a factor, clip; gives the norm before clipping, a scalar."""
        self.world.add_gradients(self.optimizer.parameters)
        if factor != 1.0:
            torch._foreach_mul_(self.optimizer.gradients(), factor)
        limit = self.recipe.max_gradient_norm
        return self.optimizer.clip_gradients(limit) if limit else self.optimizer.gradient_norm()

    def skip(self, indices: Sequence[int], what: str) -> None:
        """Leave weights, buffers and optimiser as if this batch had not been; Diverged after too many in a row."""
        self.buffers.restore()
        self.progress.sums.skipped += 1
        self.progress.skipped += 1
        ids = ", ".join(self.examples.utterances[i].id for i in indices)
        place = f"epoch {self.progress.epoch}, step {self.progress.step + 1}"
        self.say(f"{place}: skipped, {what} ({ids})")
        most = self.recipe.max_skipped_steps
        if self.progress.skipped > most:
            raise Diverged(self.advice(f"{most + 1} steps in a row have no finite gradient, the last on {ids}"))

    def settle(self) -> None:
        """Know what became of every step: see `Learner`."""
        if self.deferred:
            began = time.perf_counter()
            self.deferred.settle()
            self.progress.sums.seconds += time.perf_counter() - began

    # --- words ------------------------------------------------------------------------------------

    def name_non_finite(self, bad: Sequence[int]) -> list[str]:
        """Say which utterances have no finite loss; gives their ids, of all processes."""
        utterances = [self.examples.utterances[i] for i in bad]
        augment = self.augment(self.progress.epoch)
        frames = [len(self.examples.features(i, augment)) for i in bad]
        mine = [(u.id, f, len(u.text)) for u, f in zip(utterances, frames, strict=True)]
        everyones = self.world.gather(mine)
        names = "; ".join(f"{id_} ({frames} frames, {labels} labels)" for id_, frames, labels in everyones)
        self.say(f"epoch {self.progress.epoch}, step {self.progress.step + 1}: loss not finite, left out: {names}")
        return [id_ for id_, _, _ in everyones]

    def advice(self, what: str) -> str:
        """A failure in words, with where it happened and what to change."""
        limit = self.recipe.max_gradient_norm
        return (
            f"training diverged in epoch {self.progress.epoch} at step {self.progress.step + 1}: {what}; "
            f"lower learning_rate (now {self.recipe.learning_rate:g}), add warmup_steps, or set max_gradient_norm "
            f"(now {f'{limit:g}' if limit else '0: no clipping'})"
        )
