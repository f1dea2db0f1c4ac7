"""The central learner: one model, one optimiser, batches in, weights out, one unit of work at a time.

`Central.run` is a generator. It yields after every step, every dev batch and every epoch, and at each yield the learner
is in a state that can be saved, so whoever drives it (`thaw.training.session`) may save, stop or go on there. How a
step is taken is in `thaw.training.steps`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import torch

from thaw.audio.wav import SAMPLE_RATE
from thaw.models.layered import LayeredModel
from thaw.training import cutting
from thaw.training.ahead import Ahead
from thaw.training.data import Batch
from thaw.training.distributed import World
from thaw.training.judging import Dev, Judged
from thaw.training.learner import Diverged, Moment
from thaw.training.steps import Steps


class Central(Steps):
    """One training: epochs of steps, dev after each."""

    def run(self) -> Iterator[Moment]:
        """Train from the present position to the end. Raises Diverged.

        While dev is judged, the first batches of the next epoch are made.
        """
        while not self.finished:
            with Ahead(self.prepare, self.to_come(), threads=self.makers) as self.ahead:
                yield from self.run_epoch()
                while self.ahead.more and not self.finished:
                    yield from self.run_epoch()
            self.ahead = None

    def run_epoch(self) -> Iterator[Moment]:
        """The rest of an epoch, and dev after it."""
        batches = self.batches(self.progress.epoch)
        self.model.train()
        while self.progress.batch < len(batches):
            self.step(batches[self.progress.batch])
            yield Moment.STEP
        self.settle()
        self.close_epoch((yield from self.evaluate()))
        yield Moment.EPOCH

    # --- dev ----------------------------------------------------------------------------------

    def evaluate(self) -> Generator[Moment, None, Dev]:
        """Dev as the task judges it, over the whole split: loss per utterance and rates, of all and by language."""
        self.model.eval()
        follow_leader(self.model, self.world)
        judged = self.judged()
        shares = [list(self.world.share(indices)) for indices in self.dev_batches()]
        with Ahead(lambda share: self.made(self.dev.batch(share)), filter(None, shares)) as ahead:
            for share in shares:
                part = self.evaluate_batch(ahead.take(share)) if share else judged.nothing()
                judged.add(self.world.total(part))
                yield Moment.DEV
        dev = judged.result()
        if dev.loss is None:
            raise Diverged(self.advice("no dev utterance has a finite loss"))
        if dev.finite != len(self.dev):
            self.say(f"epoch {self.progress.epoch}: {len(self.dev) - dev.finite} dev utterances have no finite loss")
        return dev

    def dev_batches(self) -> list[list[int]]:
        """Dev in order, in batches no larger than those of training, nor than what a process takes at once."""
        recipe = self.recipe
        seconds = min(filter(None, (recipe.batch_seconds, recipe.microbatch_seconds)), default=0.0)
        samples = [utterance.samples for utterance in self.dev.utterances]
        if seconds:
            return cutting.parts(range(len(samples)), samples, seconds * SAMPLE_RATE)
        size = recipe.batch_size
        return [list(range(first, min(first + size, len(samples)))) for first in range(0, len(samples), size)]

    @torch.inference_mode()
    def evaluate_batch(self, batch: Batch) -> list[float]:
        """What `Judged` adds up, of some dev utterances."""
        batch = batch.to(self.world.device)
        with self.optimizer.averaged():
            losses, answers = self.losses(batch, None)
        return self.judged().sums(losses, answers)

    def judged(self) -> Judged:
        """Nothing judged yet of dev."""
        return Judged(self.tasks, sorted({utterance.lang for utterance in self.dev.utterances}))

    def close_epoch(self, dev: Dev) -> None:
        """Write the epoch's row, keep its weights if they are the best so far, move on to the next epoch."""
        progress, sums = self.progress, self.progress.sums
        taken = sums.steps - sums.skipped
        progress.rows.append(
            {
                "epoch": progress.epoch,
                "step": progress.step,
                "train_loss": sums.loss / sums.weight if sums.weight else None,
                **dev.row(),
                "learning_rate": self.learning_rate(progress.step),
                "gradient_norm": sums.gradient_norm / taken if taken else None,
                "trainable_parameters": self.trainable,
                "utterances": sums.utterances,
                "non_finite": len(sums.non_finite),
                "non_finite_ids": sorted(sums.non_finite),
                "skipped": sums.skipped,
                "audio_seconds": sums.audio_seconds,
                "audio_seconds_per_second": sums.audio_seconds / sums.seconds,
                "step_seconds": sums.seconds / sums.steps,
                "data_seconds": sums.data_seconds / sums.steps,
            }
        )
        self.judge(self.task.select(dev.values))
        self.next_epoch()

    # --- what a session asks ----------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """What was trained on, how far, and how it ended."""
        return {
            "corpora": {"train": self.examples.amounts(), "dev": self.dev.amounts()},
            **super().record(),
            "classes": {lang: task.classes for lang, task in self.tasks.items()},
            "non_finite": sum(row["non_finite"] for row in self.progress.rows),
        }


def follow_leader(model: LayeredModel, world: World) -> None:
    """Give the leader's buffers to every process.

    Batch norm normalises with, and keeps running statistics of, a process's own share of each batch, as NVIDIA/NeMo
    trained its models. Those that are saved are the leader's. Dev is judged with them in all processes, so that its
    loss is that of the weights kept, and the same after a resume.
    """
    if world.size > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)
