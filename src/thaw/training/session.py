"""One start of a training: find its state, resume or begin, drive the learner, save, stop, deliver.

Every start is the same command. It does what is left to do: all of it, the rest of it, or only copying the outputs of
a training that had been finished before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import Any

import torch
from torch import Tensor

from thaw.config.run import RunRecipe
from thaw.config.starts import BEST, FIRST, LAST
from thaw.config.strict import semantic
from thaw.config.tasks import CTC
from thaw.errors import Unfinished, UserError
from thaw.files import write_json, write_jsonl
from thaw.models import load_tensors, save_tensors
from thaw.training import environment
from thaw.training.begin import Job, begin, check_start
from thaw.training.distributed import World
from thaw.training.learner import Diverged, Learner, Moment
from thaw.training.lock import exclusive
from thaw.training.recorders import Files, Lines, Recorders, Status, TensorBoard
from thaw.training.state import Checkpoint, StateFolder, state_key
from thaw.training.stopping import Stop
from thaw.units import ByLanguage, Units, metadata_of

SAVE_SHARE = 0.05  # of the time that the checkpoints at the ends of epochs may cost


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
        **({"alignments": list(job.alignments)} if job.alignments else {}),
        **({"ranking": [job.ranking]} if job.ranking else {}),
        **({"units": [job.units]} if job.units else {}),
    }
    folder = StateFolder(job.state / state_key(job.recipe, {"train": job.train, "dev": job.dev, **starts}))
    device, gpu_lock = environment.choose_device(job.device)
    environment.bound_memory(device, job.gpu_share)
    world = World.join(device)
    try:
        with exclusive(folder.path, job.wait) if world.leads else nullcontext():
            world.wait()
            if not folder.result.exists():
                products = environment.products_in(job.recipe.recipe.precision, device)
                with products, Stop(job.budget, began) as stop:
                    Session(job, folder, world, stop).run()
            elif world.leads:
                Lines().say("this training had finished before: its outputs are copied from the state folder")
            if world.leads:
                folder.deliver(job.outputs)
            world.wait()
    except torch.OutOfMemoryError as error:
        recipe = job.recipe.recipe
        size = f"batch_seconds {recipe.batch_seconds:g}" if recipe.batch_seconds else f"batch_size {recipe.batch_size}"
        part = f"lower microbatch_seconds (now {recipe.microbatch_seconds:g})"
        cure = part if recipe.microbatch_seconds else "lower it, or set microbatch_seconds"
        share = f", or raise gpu_share (now {job.gpu_share})" if job.gpu_share < 100 else ""
        raise UserError(f"out of GPU memory with {size}; {cure}{share}") from error
    finally:
        world.leave()
        if gpu_lock:
            gpu_lock.close()


class Session:
    """Everything between the lock and the outputs."""

    def __init__(self, job: Job, folder: StateFolder, world: World, stop: Stop) -> None:
        self.job, self.folder, self.world, self.stop = job, folder, world, stop
        self.recipe = job.recipe
        self.meta: dict[str, Any] = {}  # of the files of weights
        self.recorders = Recorders([Lines(), Files(folder.path)] if world.leads else [])
        self.attempt = 1
        self.snapshots: list[str] = []  # that are on disk, beside the best epoch
        self.earlier_seconds = 0.0  # of earlier starts, up to the checkpoint
        self.saving_seconds = 0.0  # of all starts: writing weights and checkpoints
        self.earlier_environments: list[dict[str, Any]] = []
        self.environment = environment.record(world.device, world.size, job.gpu_share)
        self.unit_began = self.saved = stop.began
        self.steps_here, self.audio_here, self.training_began = 0, 0.0, time.monotonic()

    def run(self) -> None:
        """Train to the end and gather the result in the state folder."""
        if self.world.leads:
            self.folder.sweep()
        self.folder.check_failed()
        begun = begin(self.job, self.world, self.recorders.say)
        learner = begun.learner
        self.meta = metadata(self.recipe, begun.units)
        self.save_first(learner)
        self.resume(learner)
        outcome = "failed"
        try:
            self.drive(learner)
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
        checks = begun.check_end()
        if self.world.leads:
            self.save_weights(learner)
            begun.check_kept(self.kept_weights(learner))
            self.finish(learner, checks)

    def note_end(self) -> None:
        """Remember that this start was not killed; a disk that is full or gone has been told of by what ends it."""
        if self.world.leads:
            with suppress(UserError):
                self.folder.close_attempt()

    # --- resuming ---------------------------------------------------------------------------

    def resume(self, learner: Learner) -> None:
        """Put the learner where the last readable checkpoint was, count the start, and set up TensorBoard."""
        checkpoint, warnings = self.folder.load()
        for warning in warnings:
            self.recorders.say(f"warning: {warning}")
        if checkpoint:
            learner.restore(checkpoint.tensors, checkpoint.facts)
            self.snapshots = list(checkpoint.facts["snapshots"])
            self.earlier_seconds = checkpoint.facts["seconds"]
            self.saving_seconds = checkpoint.facts.get("saving_seconds", 0.0)  # older checkpoints do not say
            self.note_environments(checkpoint.facts["environments"])
        place = learner.place
        if self.world.leads:
            write_json(self.folder.path / "recipe.json", semantic(self.recipe))
            self.attempt = self.folder.open_attempt((place.epoch, place.unit), self.recorders.say)
        if checkpoint:
            self.recorders.say(f"resumed at epoch {place.epoch}, step {place.step} (start {self.attempt})")
        if self.job.tensorboard and self.world.leads:
            self.recorders.recorders.append(TensorBoard(self.job.tensorboard, place.step))

    def note_environments(self, known: list[dict[str, Any]]) -> None:
        """Remember other environments that had a part in this training, and warn of them."""
        self.earlier_environments = [e for e in known if e != self.environment]
        for other in self.earlier_environments:
            keys = sorted(k for k in self.environment.keys() | other.keys() if self.environment.get(k) != other.get(k))
            self.recorders.say(
                f"warning: began with another {', '.join(keys)}; the bits of a run without a break may differ"
            )

    # --- the loop -----------------------------------------------------------------------------

    def drive(self, learner: Learner) -> None:
        """Run the learner; between its units of work save checkpoints, tell recorders, and stop when it is time."""
        self.unit_began = self.training_began = self.saved = time.monotonic()
        audio_before = learner.place.audio_seconds
        for moment in learner.run():
            now = time.monotonic()
            self.stop.slowest_unit = max(self.stop.slowest_unit, now - self.unit_began)
            self.steps_here += moment is Moment.STEP
            self.audio_here = learner.place.audio_seconds - audio_before
            self.tell(learner, moment)
            reason = self.stop.reason()
            # All processes must stop at the same place, or the others would wait for this one for ever.
            if self.world.total([bool(reason)])[0]:
                self.save(learner)
                raise Unfinished(self.goodbye(learner, reason or "another process was stopped"))
            if self.due(moment, now):
                self.save(learner)
            self.unit_began = time.monotonic()

    def due(self, moment: Moment, now: float) -> bool:
        """Whether to save: when checkpoint_seconds have passed, and at the ends of epochs while that stays cheap."""
        since = now - self.saved
        cheap = moment is Moment.EPOCH and since * SAVE_SHARE >= self.stop.slowest_save
        return cheap or (moment is not Moment.DEV and since >= self.job.checkpoint_seconds)

    def save(self, learner: Learner) -> None:
        """Write a checkpoint, and before it the weights that it names."""
        learner.settle()
        if not self.world.leads:
            return
        began = time.monotonic()
        self.save_weights(learner)
        facts = {
            **learner.facts(),
            "best": learner.best,
            "snapshots": self.snapshots,
            "seconds": self.seconds(),
            "saving_seconds": self.saving_seconds,
            "environments": [*self.earlier_environments, self.environment],
        }
        self.folder.save(Checkpoint(learner.tensors(), facts))
        self.saved = time.monotonic()
        self.saving_seconds += self.saved - began
        self.stop.slowest_save = max(self.stop.slowest_save, self.saved - began)

    def save_weights(self, learner: Learner) -> None:
        """Write the best epoch and the snapshots that are not on disk yet."""
        for snapshot, kept in learner.unsaved().items():
            if snapshot == BEST:
                model_path, optimizer_path = self.folder.best_paths(kept.epoch)
                save_tensors(model_path, kept.weights, {**self.meta, "epoch": kept.epoch})
                about = {"optimizer": self.recipe.recipe.optimizer, "epoch": kept.epoch}
                save_tensors(optimizer_path, kept.optimizer, about)
            else:
                self.save_snapshot(snapshot, kept.weights, kept.epoch)

    def save_snapshot(self, snapshot: str, weights: Mapping[str, Tensor], epoch: int) -> None:
        """Write weights that the recipe wants kept beside the best ones."""
        save_tensors(self.folder.snapshot_path(snapshot), weights, {**self.meta, "epoch": epoch})
        self.snapshots = sorted({*self.snapshots, snapshot})

    def save_first(self, learner: Learner) -> None:
        """Keep the weights from before the first step; every start makes the same ones before it resumes."""
        if self.world.leads and FIRST in self.recipe.recipe.snapshots:
            self.save_snapshot(FIRST, learner.weights(), 0)

    def seconds(self) -> float:
        """Wall clock of all starts so far, without what was lost to kills."""
        return self.earlier_seconds + time.monotonic() - self.stop.began

    # --- telling ------------------------------------------------------------------------------

    def tell(self, learner: Learner, moment: Moment) -> None:
        """Pass on where the training is."""
        if moment is Moment.DEV:
            return
        place, rows = learner.place, learner.rows
        elapsed = time.monotonic() - self.training_began
        status = Status(
            epoch=place.epoch - (moment is Moment.EPOCH),
            epochs=self.recipe.recipe.epochs,
            step=place.step,
            steps=place.steps,
            loss=place.loss,
            best=learner.best,
            audio_rate=self.audio_here / elapsed,
            seconds=self.seconds(),
            seconds_left=elapsed / self.steps_here * (place.steps - place.step) if self.steps_here else None,
        )
        if moment is Moment.STEP:
            self.recorders.step(status)
        else:
            self.recorders.epoch(status, rows)

    def goodbye(self, learner: Learner, reason: str) -> str:
        place = learner.place
        where = f"epoch {place.epoch} of {self.recipe.recipe.epochs}, step {place.step}"
        return f"{reason}; saved at {where}; the same command goes on from there"

    def kept_weights(self, learner: Learner) -> dict[str, Tensor]:
        """Those of the best epoch, as they lie on disk."""
        assert learner.best is not None  # the first dev loss is finite, or the learner had raised Diverged
        path, _ = self.folder.best_paths(int(learner.best["epoch"]))
        return load_tensors(path)[0]

    def finish(self, learner: Learner, checks: dict[str, Any]) -> None:
        """Write the record and gather the result."""
        assert learner.best is not None  # see `kept_weights`
        if LAST in self.recipe.recipe.snapshots:
            self.save_snapshot(LAST, learner.weights(), len(learner.rows))
        wanted = set(self.recipe.recipe.snapshots) - {BEST}
        if missing := sorted(wanted - set(self.snapshots)):
            self.recorders.say(f"warning: ended after epoch {len(learner.rows)}: there is no {', '.join(missing)}")
        write_jsonl(self.folder.path / "metrics.jsonl", learner.rows)
        self.folder.finish(
            int(learner.best["epoch"]),
            {
                "recipe": self.recipe.model_dump(mode="json"),
                "checks": checks,
                **learner.record(),
                "cost": {
                    "seconds": self.seconds(),
                    "saving_seconds": self.saving_seconds,
                    "audio_hours": learner.place.audio_seconds / 3600,
                    "attempts": self.attempt,
                },
                "environment": self.environment,
                "earlier_environments": self.earlier_environments,
            },
            self.snapshots if wanted else None,
        )


def metadata(recipe: RunRecipe, units: ByLanguage[Units]) -> dict[str, Any]:
    """What every file of a run's weights says: the model, its heads' units, the run."""
    plain = recipe.model_dump(mode="json")
    task = {} if recipe.recipe.task == CTC else {"task": recipe.recipe.task.model_dump(mode="json")}
    return {"model": plain["model"], **metadata_of(units), "run": plain, **task}
