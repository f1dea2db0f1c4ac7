"""The learner of language models: a text cut into streams that are read side by side, hidden state carried from step
to step, gradients cut off at a random length, NT-ASGD.

It keeps to the protocol of `thaw.training.learner` as the central one does: at each yield it can be saved. What is
random is a function of (seed, epoch) or (seed, step). Sources: Merity et al. (2018), "Regularizing and Optimizing LSTM
Language Models"; salesforce/awd-lstm-lm main.py, utils.py. Losses are nats per unit, ends of sentences included.

Shapes: B streams, L units of a stream, T units of a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from thaw.config.run import RunRecipe
from thaw.config.tasks import LanguageTaskSpec
from thaw.corpora.sentences import Sentence
from thaw.errors import UserError
from thaw.models.awd_lstm import AwdLstm, Masks, Reading, State, detached
from thaw.randomness import rng
from thaw.surgery.surgery import Surgery
from thaw.tasks.language_model import LanguageModelling, nats, regularised
from thaw.training.deferred import Held, Told
from thaw.training.epochs import Epochs
from thaw.training.learner import Diverged, Moment
from thaw.training.optim import Optimizer
from thaw.training.progress import under
from thaw.training.torch_optim import NonMonotone

SHORTEST = 5  # units of a step, as drawn


class Text:
    """The sentences of a split as one run of classes."""

    def __init__(self, sentences: Sequence[Sentence], task: LanguageModelling) -> None:
        self.sentences = sentences
        self.labels = torch.tensor(task.stream(sentence.text for sentence in sentences))

    def streams(self, count: int) -> Tensor:
        """The text in `count` pieces (B, L) of one length, in order; what is left over at its end is not read.

        UserError where that leaves nothing to predict.
        """
        length = len(self.labels) // count
        if length < 3:
            raise UserError(f"{len(self.labels)} units of text are too few for {count} streams: give more or fewer")
        return self.labels[: length * count].view(count, length)

    def amounts(self) -> dict[str, Any]:
        """How much there is; there are no hours."""
        return {
            "utterances": len(self.sentences),
            "hours": 0.0,
            "characters": sum(len(sentence.text) for sentence in self.sentences),
            "speakers": len({sentence.speaker for sentence in self.sentences}),
            "units": len(self.labels),
        }


@dataclass(frozen=True)
class Cut:
    """One step's piece of the streams."""

    start: int
    stop: int  # of what is read; what is predicted is one further on
    drawn: int  # its length as drawn, by which the learning rate goes; the last piece of an epoch may be shorter


def cuts(length: int, spec: LanguageTaskSpec, seed: int, epoch: int) -> list[Cut]:
    """How an epoch goes through streams of `length` units; a function of (seed, epoch). No piece is empty."""
    generator = rng(seed, "bptt", epoch)
    found, start = [], 0
    while start < length - 2:
        mean = spec.bptt / 2 if generator.random() < spec.bptt_halved else spec.bptt
        drawn = max(SHORTEST, int(generator.normal(mean, spec.bptt_spread)))
        found.append(Cut(start, min(start + drawn, length - 1), drawn))
        start += drawn
    return found


@dataclass(frozen=True)
class Pending:
    """A step whose outcome may still be on its way."""

    units: int  # that it predicts
    told: Told  # their mean loss, and the norm of the gradient
    before: State | None
    behind: State

    @property
    def finite(self) -> bool:
        """Whether its gradient is."""
        return math.isfinite(self.told.read()[1])


class Streams(Epochs):
    """Model, optimiser, text, hidden state and position of one training."""

    def __init__(
        self,
        run: RunRecipe,
        model: AwdLstm,
        surgery: Surgery,
        optimizer: Optimizer,
        train: Text,
        dev: Text,
        task: LanguageModelling,
        device: torch.device,
        say: Callable[[str], None],
    ) -> None:
        assert isinstance(run.recipe.task, LanguageTaskSpec)
        super().__init__(run, model, optimizer, f"dev_{task.selects}")
        self.spec, self.network, self.task, self.say = run.recipe.task, model, task, say
        self.text, self.dev_text = train, dev
        self.streams = train.streams(self.recipe.batch_size).to(device)
        self.dev_streams = dev.streams(self.spec.dev_streams).to(device)
        self.rates = model.rates(surgery.frozen_layers if surgery.frozen.dropout == "off" else ())
        self.state: State | None = None  # behind the last step of this epoch
        self.held = Held(optimizer) if device.type == "cuda" else None  # where steps are read one step later
        self.pending: Pending | None = None
        self.steps = self.recipe.epochs * len(self.cuts(1))  # about as many as there will be, but for an early stop

    def cuts(self, epoch: int) -> list[Cut]:
        """The steps of an epoch."""
        return cuts(self.streams.shape[1], self.spec, self.run_recipe.seed, epoch)

    # --- the loop -----------------------------------------------------------------------------

    def run(self) -> Iterator[Moment]:
        """Train from the present position to the end. Raises Diverged."""
        while not self.finished:
            pieces = self.cuts(self.progress.epoch)
            self.model.train()
            while self.progress.batch < len(pieces):
                self.step(pieces[self.progress.batch])
                yield Moment.STEP
            self.settle()
            self.close_epoch((yield from self.evaluate()))
            yield Moment.EPOCH

    def step(self, piece: Cut) -> None:
        """One optimiser step on one piece of all streams."""
        began = time.perf_counter()
        progress, sums = self.progress, self.progress.sums
        pending = self.attempt(piece)
        if not self.put_in_order():  # it read with weights that are no more
            pending = self.attempt(piece)
        if self.held:
            self.held.hold()
            self.pending = pending
        elif pending.finite:
            self.count(pending)
        else:
            self.skip()
        if self.held or pending.finite:
            self.optimizer.step(self.learning_rate(progress.step + 1) * piece.drawn / self.spec.bptt)
            self.state = pending.behind
        sums.steps += 1
        sums.seconds += time.perf_counter() - began
        progress.step += 1
        progress.batch += 1

    def attempt(self, piece: Cut) -> Pending:
        """Gradients of a piece, clipped."""
        targets = self.streams[:, piece.start + 1 : piece.stop + 1]
        masks = Masks(self.rates, self.run_recipe.seed, self.progress.step, len(targets))
        self.optimizer.zero_grad()
        reading = self.read(self.streams[:, piece.start : piece.stop], self.state, masks)
        loss = nats(reading.logits, targets).mean()
        whole = regularised(loss, reading, self.spec.activation, self.spec.temporal_activation)
        whole.backward()  # type: ignore[no-untyped-call]
        limit = self.recipe.max_gradient_norm
        norm = self.optimizer.clip_gradients(limit) if limit else self.optimizer.gradient_norm()
        told = Told(torch.stack([loss.detach(), norm.detach()]))
        return Pending(targets.numel(), told, self.state, detached(reading.state))

    def count(self, pending: Pending) -> None:
        """Add up a step that was taken."""
        sums, (loss, norm) = self.progress.sums, pending.told.read()
        sums.loss += loss * pending.units
        sums.weight += pending.units
        sums.gradient_norm += norm
        self.progress.skipped = 0

    def put_in_order(self) -> bool:
        """Read the step that was taken on trust: True where it may stand, False where it is as if it had not been."""
        pending, self.pending = self.pending, None
        if pending is None or self.held is None:
            return True
        if pending.finite:
            self.count(pending)
            return True
        self.held.restore()
        self.state = pending.before
        self.progress.step -= 1
        self.skip()
        self.progress.step += 1
        return False

    def settle(self) -> None:
        """See `Learner`."""
        self.put_in_order()

    def read(self, units: Tensor, state: State | None, masks: Masks | None = None) -> Reading:
        """What the model makes of a piece; in bf16 where the recipe says so."""
        with torch.autocast(units.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            return self.network.read(units, state, masks)

    def skip(self) -> None:
        """Leave weights, optimiser and hidden state as if this piece had not been; Diverged after too many in a row."""
        progress, most = self.progress, self.recipe.max_skipped_steps
        progress.sums.skipped += 1
        progress.skipped += 1
        self.say(f"epoch {progress.epoch}, step {progress.step + 1}: skipped, its gradient is not finite")
        if progress.skipped > most:
            raise Diverged(self.advice(f"{most + 1} steps in a row have no finite gradient"))

    # --- dev ----------------------------------------------------------------------------------

    def evaluate(self) -> Generator[Moment, None, float]:
        """The mean loss of dev, in nats per unit, of all units but the first of each stream."""
        self.model.eval()
        total, state = 0.0, None
        length = self.dev_streams.shape[1]
        for start in range(0, length - 1, self.spec.bptt):
            part, state = self.evaluate_piece(start, min(start + self.spec.bptt, length - 1), state)
            total += part
            yield Moment.DEV
        loss = total / (len(self.dev_streams) * (length - 1))
        if not math.isfinite(loss):
            raise Diverged(self.advice("dev has no finite loss"))
        return loss

    @torch.inference_mode()
    def evaluate_piece(self, start: int, stop: int, state: State | None) -> tuple[float, State]:
        """The nats of a piece of dev, and the state behind it."""
        with self.optimizer.averaged():
            reading = self.read(self.dev_streams[:, start:stop], state)
        return float(nats(reading.logits, self.dev_streams[:, start + 1 : stop + 1]).double().sum()), reading.state

    def close_epoch(self, loss: float) -> None:
        """Write the epoch's row, keep its weights if they are the best so far, begin to average if it is time."""
        progress, sums = self.progress, self.progress.sums
        taken = sums.steps - sums.skipped
        earlier = [row["dev_loss"] for row in progress.rows]
        progress.rows.append(
            {
                "epoch": progress.epoch,
                "step": progress.step,
                "train_loss": sums.loss / sums.weight if sums.weight else None,
                "dev_loss": loss,
                "dev_perplexity": perplexity(loss),
                "averaged": bool(self.optimizer.averages()),
                "learning_rate": self.learning_rate(progress.step),
                "gradient_norm": sums.gradient_norm / taken if taken else None,
                "trainable_parameters": self.trainable,
                "units": sums.weight,
                "skipped": sums.skipped,
                "units_per_second": sums.weight / sums.seconds,
                "step_seconds": sums.seconds / sums.steps,
            }
        )
        self.judge(loss)
        self.switch(loss, earlier)
        self.next_epoch()
        self.state = None

    def switch(self, loss: float, earlier: Sequence[float]) -> None:
        """Begin to average where SGD goes no further; the patience of the early stop then begins anew.

        The trigger is that of salesforce/awd-lstm-lm main.py: dev is worse than the best of all epochs before this one
        but the last `averaging_patience`. The paper's Algorithm 1 has the same, judged every epoch.
        """
        optimizer, patience = self.optimizer, self.recipe.averaging_patience
        if not isinstance(optimizer, NonMonotone) or optimizer.averaging:
            return
        if len(earlier) > patience and loss > min(earlier[:-patience]):
            optimizer.begin_averaging()
            self.progress.stale = 0
            self.say(f"epoch {self.progress.epoch}: dev improves no more; weights are averaged from here on")

    # --- what a session asks ------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Model, optimiser and hidden state, on the CPU."""
        hidden = {f"hidden/{place}/{name}": tensor.cpu() for place, pair in enumerate(self.state or ())
                  for name, tensor in zip("hc", pair, strict=True)}  # fmt: skip
        return super().tensors() | hidden

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take over what `tensors` and `facts` gave."""
        super().restore(tensors, facts)
        hidden, device = under(tensors, "hidden/"), self.streams.device
        pairs = [(hidden[f"{place}/h"], hidden[f"{place}/c"]) for place in range(len(hidden) // 2)]
        self.state = tuple((h.to(device), c.to(device)) for h, c in pairs) or None

    def record(self) -> dict[str, Any]:
        """What was trained on, how far, and how it ended."""
        averaged = [row["epoch"] for row in self.progress.rows if row["averaged"]]
        return {
            "corpora": {"train": self.text.amounts(), "dev": self.dev_text.amounts()},
            "classes": self.task.classes,
            **super().record(),
            "first_averaged_epoch": averaged[0] if averaged else None,
        }

    def advice(self, what: str) -> str:
        """A failure in words, with where it happened and what to change."""
        limit = self.recipe.max_gradient_norm
        return (
            f"training diverged in epoch {self.progress.epoch} at step {self.progress.step + 1}: {what}; "
            f"lower learning_rate (now {self.recipe.learning_rate:g}) or set max_gradient_norm "
            f"(now {f'{limit:g}' if limit else '0: no clipping'})"
        )


def perplexity(loss: float) -> float:
    """Of a mean loss in nats; large where it would be beyond any number."""
    return math.exp(min(loss, 700.0))
