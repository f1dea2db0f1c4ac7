"""One start of a training: find its state, resume or begin, drive the trainer, save, stop, deliver.

Every start is the same command. It does what is left to do: all of it, the rest of it, or only copying the outputs of
a training that had been finished before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thaw.config.models import semantic
from thaw.config.run import RunRecipe
from thaw.errors import Unfinished, UserError
from thaw.files import write_json, write_jsonl
from thaw.models import build, load_tensors, save_model, save_tensors
from thaw.models.layered import LayeredModel
from thaw.surgery.operations import START, operations_of
from thaw.surgery.origins import check_heads, read_origins
from thaw.surgery.surgery import Surgery, parameter_counts, prepare
from thaw.training import environment
from thaw.training.activations import Activations, computed_once
from thaw.training.data import Examples, read_examples
from thaw.training.distributed import World
from thaw.training.lock import exclusive
from thaw.training.optim import Optimizer, optimizer_for
from thaw.training.recorders import Files, Lines, Recorders, Status, TensorBoard
from thaw.training.state import Checkpoint, StateFolder, state_key
from thaw.training.stopping import Stop
from thaw.training.trainer import Diverged, Moment, Progress, Trainer
from thaw.units import Alphabet

SAVE_SHARE = 0.05  # of the time that the checkpoints at the ends of epochs may cost


@dataclass(frozen=True)
class Job:
    """What `thaw train` was asked to do. Nothing outside `recipe` changes what is learnt."""

    recipe: RunRecipe
    train: Sequence[Path]
    dev: Sequence[Path]
    outputs: Mapping[str, Path]  # where to copy which file of the result, by its name there
    state: Path
    start: Path | None = None
    start_optimizer: Path | None = None
    loads: Sequence[Path] = ()  # the files of the recipe's `loads`, in its order
    budget: float = 0.0  # seconds; 0: none
    wait: float = 0.0  # seconds, for another trainer at work on the same state
    checkpoint_seconds: float = 60.0
    threads: int = 1
    device: str = "auto"
    tensorboard: Path | None = None


def train(job: Job) -> None:
    """Train, or go on, to the end, and write the outputs.

    Raises Unfinished where the budget ends or a signal comes (the same call goes on from there), UserError for
    anything a user can mend: inputs that do not fit together, another trainer at work on the state, divergence.
    """
    began = time.monotonic()
    environment.settle(job.threads)
    check_start(job)
    starts = {
        "start": [job.start] if job.start else [],
        "optimizer": [job.start_optimizer] if job.start_optimizer else [],
        **({"loads": list(job.loads)} if job.loads else {}),
    }
    folder = StateFolder(job.state / state_key(job.recipe, {"train": job.train, "dev": job.dev, **starts}))
    device, gpu_lock = environment.choose_device(job.device)
    world = World.join(device)
    try:
        with exclusive(folder.path, job.wait) if world.leads else nullcontext():
            world.wait()
            if not folder.result.exists():
                with Stop(job.budget, began) as stop:
                    Session(job, folder, world, stop).run()
            elif world.leads:
                Lines().say("this training had finished before: its outputs are copied from the state folder")
            if world.leads:
                folder.deliver(job.outputs)
            world.wait()
    except torch.OutOfMemoryError as error:
        raise UserError(f"out of GPU memory with batch_size {job.recipe.recipe.batch_size}; lower it") from error
    finally:
        world.leave()
        if gpu_lock:
            gpu_lock.close()


def check_start(job: Job) -> None:
    """Raise UserError where the files of a start and the recipe contradict each other."""
    recipe = job.recipe
    if (recipe.start == "scratch") != (job.start is None):
        given = "no --start" if job.start is None else f"--start {job.start}"
        raise UserError(f"the recipe starts from {recipe.start!r}, but there is {given}")
    if len(recipe.loads) != len(job.loads):
        raise UserError(
            f"the recipe loads layers from {len(recipe.loads)} more runs; --load names {len(job.loads)} files"
        )
    if recipe.optimizer_state == "transferred" and (job.start_optimizer is None or not job.start_optimizer.is_file()):
        raise UserError(
            f"the recipe transfers the optimizer state, but {job.start_optimizer or '--start-optimizer'} is missing; "
            "give the optimizer.safetensors of the run it starts from, or set optimizer_state: fresh"
        )


class Session:
    """Everything between the lock and the outputs."""

    def __init__(self, job: Job, folder: StateFolder, world: World, stop: Stop) -> None:
        self.job, self.folder, self.world, self.stop = job, folder, world, stop
        self.recipe = job.recipe
        self.alphabet = Alphabet(self.recipe.alphabet)
        self.recorders = Recorders([Lines(), Files(folder.path)] if world.leads else [])
        self.attempt = 1
        self.earlier_seconds = 0.0  # of earlier starts, up to the checkpoint
        self.earlier_environments: list[dict[str, Any]] = []
        self.environment = environment.record(world.device, world.size)
        self.unit_began = self.saved = stop.began
        self.steps_here, self.audio_here, self.training_began = 0, 0.0, time.monotonic()

    def run(self) -> None:
        """Train to the end and gather the result in the state folder."""
        if self.world.leads:
            self.folder.sweep()
        self.folder.check_failed()
        examples, dev = (
            read_examples(paths, self.alphabet, self.recipe.model.frontend) for paths in (self.job.train, self.job.dev)
        )
        trainer, surgery, checks = self.build(examples, dev)
        self.resume(trainer)
        outcome = "failed"
        try:
            self.drive(trainer)
            outcome = "finished"
        except Diverged as error:
            if self.world.leads:
                self.folder.fail(str(error))
            raise UserError(str(error)) from error
        except Unfinished:
            outcome = "stopped"
            self.note_end()
            raise
        except UserError:
            self.note_end()
            raise
        finally:
            self.recorders.close(outcome)
        checks["end"] = surgery.check_end(trainer.optimizer.unmoved())
        if self.world.leads:
            self.finish(trainer, checks)

    def note_end(self) -> None:
        """Remember that this start was not killed; a disk that is full or gone has been told of by what ends it."""
        if self.world.leads:
            with suppress(UserError):
                self.folder.close_attempt()

    # --- building and resuming ----------------------------------------------------------------

    def build(self, examples: Examples, dev: Examples) -> tuple[Trainer, Surgery, dict[str, Any]]:
        """The trainer at its first step, the surgery that prepared its model, and what the checks said."""
        recipe = self.recipe
        model = build(recipe.model, self.alphabet.classes)
        surgery = self.operate(model)
        checks: dict[str, Any] = {"start": surgery.check_start()}
        model.to(self.world.device)
        optimizer = optimizer_for(recipe.recipe, surgery.trainable())
        if recipe.optimizer_state == "transferred":
            checks["optimizer_transferred"] = self.transfer(optimizer, surgery)
        done = computed_once(surgery, recipe, [examples, dev], self.world.device)
        if done:
            checks["computed_once"] = list(model.layers)[:done]
            examples, dev = (
                Activations(split, model, done, self.world.device, recipe.recipe.precision, trained)
                for split, trained in ((examples, True), (dev, False))
            )
        say = self.recorders.say
        trainer = Trainer(recipe, model, surgery, optimizer, examples, dev, self.alphabet, self.world, say, done)
        if not trainer.steps_per_epoch:
            raise UserError(
                f"the training set has {len(examples)} utterances and drop_last is on, so a batch of "
                f"{recipe.recipe.batch_size} is never full; lower batch_size or set drop_last: false"
            )
        return trainer, surgery, checks

    def operate(self, model: LayeredModel) -> Surgery:
        """Give the model its first weights, from wherever the recipe says, and freeze what it freezes."""
        origins = read_origins(self.recipe, self.job.start, self.job.loads)
        start = origins.get(START)
        operations = operations_of(self.recipe, model, start.alphabet if start else "")
        check_heads(self.recipe, model, operations, origins)
        sources = {name: origin.tensors for name, origin in origins.items()}
        return prepare(model, operations, sources, start.meta if start else None)

    def transfer(self, optimizer: Optimizer, surgery: Surgery) -> list[str]:
        """Take over the start's optimiser state for the layers that keep their weights; gives the names taken."""
        assert self.job.start_optimizer is not None  # see check_start
        state, _ = load_tensors(self.job.start_optimizer)
        kept = {f"{name}/{moment}" for name in surgery.kept_parameters() for moment in "mv"}
        shapes = {name: tensor.shape for name, tensor in optimizer.state().items() if name in kept}
        wrong = [name for name, shape in shapes.items() if name in state and state[name].shape != shape]
        if "step" not in state or wrong:
            raise UserError(
                f"{self.job.start_optimizer}: not the optimizer state of {self.job.start} {wrong or ''}".rstrip()
            )
        return optimizer.transfer(state, surgery.kept_parameters())

    def resume(self, trainer: Trainer) -> None:
        """Put the trainer where the last readable checkpoint was, count the start, and set up TensorBoard."""
        checkpoint, warnings = self.folder.load()
        for warning in warnings:
            self.recorders.say(f"warning: {warning}")
        if checkpoint:
            trainer.model.load_state_dict(part(checkpoint.tensors, "model/"))
            trainer.optimizer.restore(part(checkpoint.tensors, "optimizer/"))
            trainer.progress = Progress.from_plain(checkpoint.facts["progress"])
            self.earlier_seconds = checkpoint.facts["seconds"]
            self.note_environments(checkpoint.facts["environments"])
        progress = trainer.progress
        if self.world.leads:
            write_json(self.folder.path / "recipe.json", semantic(self.recipe))
            self.attempt = self.folder.open_attempt((progress.epoch, progress.batch), self.recorders.say)
        if checkpoint:
            self.recorders.say(f"resumed at epoch {progress.epoch}, step {progress.step} (start {self.attempt})")
        if self.job.tensorboard and self.world.leads:
            self.recorders.recorders.append(TensorBoard(self.job.tensorboard, progress.step))

    def note_environments(self, known: list[dict[str, Any]]) -> None:
        """Remember other environments that had a part in this training, and warn of them."""
        self.earlier_environments = [e for e in known if e != self.environment]
        for other in self.earlier_environments:
            keys = sorted(k for k in self.environment.keys() | other.keys() if self.environment.get(k) != other.get(k))
            self.recorders.say(
                f"warning: began with another {', '.join(keys)}; the bits of a run without a break may differ"
            )

    # --- the loop -----------------------------------------------------------------------------

    def drive(self, trainer: Trainer) -> None:
        """Run the trainer; between its units of work save checkpoints, tell recorders, and stop when it is time."""
        self.unit_began = self.training_began = self.saved = time.monotonic()
        trainer_audio = trainer.progress.audio_seconds
        for moment in trainer.run():
            now = time.monotonic()
            self.stop.slowest_unit = max(self.stop.slowest_unit, now - self.unit_began)
            self.steps_here += moment is Moment.STEP
            self.audio_here = trainer.progress.audio_seconds - trainer_audio
            self.tell(trainer, moment)
            reason = self.stop.reason()
            # All processes must stop at the same place, or the others would wait for this one for ever.
            if self.world.total([bool(reason)])[0]:
                self.save(trainer)
                raise Unfinished(self.goodbye(trainer, reason or "another process was stopped"))
            if self.due(moment, now):
                self.save(trainer)
            self.unit_began = time.monotonic()

    def due(self, moment: Moment, now: float) -> bool:
        """Whether to save: when checkpoint_seconds have passed, and at the ends of epochs while that stays cheap."""
        since = now - self.saved
        cheap = moment is Moment.EPOCH and since * SAVE_SHARE >= self.stop.slowest_save
        return cheap or (moment is not Moment.DEV and since >= self.job.checkpoint_seconds)

    def save(self, trainer: Trainer) -> None:
        """Write a checkpoint, and before it the best epoch that it names."""
        if not self.world.leads:
            return
        began = time.monotonic()
        self.save_best(trainer)
        tensors = {f"model/{name}": tensor.cpu() for name, tensor in trainer.model.state_dict().items()}
        tensors |= {f"optimizer/{name}": tensor.cpu() for name, tensor in trainer.optimizer.state().items()}
        facts = {
            "progress": trainer.progress.plain(),
            "best": trainer.progress.best,
            "seconds": self.seconds(),
            "environments": [*self.earlier_environments, self.environment],
        }
        self.folder.save(Checkpoint(tensors, facts))
        self.saved = time.monotonic()
        self.stop.slowest_save = max(self.stop.slowest_save, self.saved - began)

    def save_best(self, trainer: Trainer) -> None:
        """Write the best epoch's files where they are not on disk yet."""
        if trainer.best_tensors is None or trainer.progress.best is None:
            return
        epoch = int(trainer.progress.best["epoch"])
        weights, optimizer = trainer.best_tensors
        spec = self.recipe.model_dump(mode="json")
        model_path, optimizer_path = self.folder.best_paths(epoch)
        meta = {"model": spec["model"], "alphabet": self.recipe.alphabet, "run": spec, "epoch": epoch}
        save_model(model_path, with_weights(self.recipe, self.alphabet, weights), meta)
        save_tensors(optimizer_path, optimizer, {"optimizer": self.recipe.recipe.optimizer, "epoch": epoch})
        trainer.best_tensors = None

    def seconds(self) -> float:
        """Wall clock of all starts so far, without what was lost to kills."""
        return self.earlier_seconds + time.monotonic() - self.stop.began

    # --- telling ------------------------------------------------------------------------------

    def tell(self, trainer: Trainer, moment: Moment) -> None:
        """Pass on where the training is."""
        progress, sums = trainer.progress, trainer.progress.sums
        if moment is Moment.DEV:
            return
        elapsed = time.monotonic() - self.training_began
        steps = trainer.steps_per_epoch * self.recipe.recipe.epochs
        status = Status(
            epoch=progress.epoch - (moment is Moment.EPOCH),
            epochs=self.recipe.recipe.epochs,
            step=progress.step,
            steps=steps,
            loss=sums.loss / sums.utterances if sums.utterances else None,
            dev_loss=progress.rows[-1]["dev_loss"] if progress.rows else None,
            best=progress.best["dev_loss"] if progress.best else None,
            audio_rate=self.audio_here / elapsed,
            seconds=self.seconds(),
            seconds_left=elapsed / self.steps_here * (steps - progress.step) if self.steps_here else None,
        )
        if moment is Moment.STEP:
            self.recorders.step(status)
        else:
            self.recorders.epoch(status, progress.rows)

    def goodbye(self, trainer: Trainer, reason: str) -> str:
        progress = trainer.progress
        where = f"epoch {progress.epoch} of {self.recipe.recipe.epochs}, step {progress.step}"
        return f"{reason}; saved at {where}; the same command goes on from there"

    def finish(self, trainer: Trainer, checks: dict[str, Any]) -> None:
        """Write the record and gather the result."""
        progress, recipe = trainer.progress, self.recipe.recipe
        assert progress.best is not None  # the first dev loss is finite, or the trainer had raised Diverged
        self.save_best(trainer)
        write_jsonl(self.folder.path / "metrics.jsonl", progress.rows)
        parts = {"train": trainer.examples, "dev": trainer.dev}
        stopped = f"no improvement for {recipe.early_stop_epochs} epochs" if trainer.stopped_early else "all epochs"
        self.folder.finish(
            int(progress.best["epoch"]),
            {
                "recipe": self.recipe.model_dump(mode="json"),
                "checks": checks,
                "corpora": {name: corpus_counts(part) for name, part in parts.items()},
                "parameters": parameter_counts(trainer.model),
                "best": progress.best,
                "epochs": len(progress.rows),
                "steps": progress.step,
                "stopped": stopped,
                "non_finite": sum(row["non_finite"] for row in progress.rows),
                "cost": {
                    "seconds": self.seconds(),
                    "audio_hours": progress.audio_seconds / 3600,
                    "attempts": self.attempt,
                },
                "environment": self.environment,
                "earlier_environments": self.earlier_environments,
            },
        )


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def with_weights(recipe: RunRecipe, alphabet: Alphabet, weights: Mapping[str, Tensor]) -> LayeredModel:
    """A model of the recipe with these weights."""
    model = build(recipe.model, alphabet.classes)
    model.load_state_dict(dict(weights))
    return model


def corpus_counts(examples: Examples) -> dict[str, Any]:
    """What was really trained or evaluated on."""
    return {
        "utterances": len(examples),
        "hours": examples.seconds(range(len(examples))) / 3600,
        "characters": sum(len(utterance.text) for utterance in examples.utterances),
        "speakers": len({utterance.speaker for utterance in examples.utterances}),
    }
