"""From a job to a learner at its first step: examples, model, surgery, optimiser, and what the checks said."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import BatchNorm1d

from thaw.config.awd_lstm import AwdLstmSpec
from thaw.config.dnn import DnnSpec
from thaw.config.learners import DownpourSpec, FederatedSpec, LearnerSpec
from thaw.config.run import RunRecipe
from thaw.config.starts import BEST
from thaw.config.tasks import FramesSpec, LanguageTaskSpec
from thaw.corpora.sentences import read_sentences
from thaw.errors import UserError
from thaw.frontends.on_device import front_end
from thaw.models import build, load_tensors
from thaw.models.awd_lstm import AwdLstm
from thaw.models.dnn import Spliced
from thaw.models.layered import LayeredModel
from thaw.models.normalising import Normaliser
from thaw.surgery.operations import START, operations_of
from thaw.surgery.origins import check_heads, read_origins
from thaw.surgery.surgery import Surgery, prepare
from thaw.tasks import CtcAttention, LanguageModelling
from thaw.training.activations import Activations, computed_once
from thaw.training.begin_federated import begin_federated
from thaw.training.central import Central
from thaw.training.data import Examples, read_examples
from thaw.training.distributed import World
from thaw.training.downpour import Downpour
from thaw.training.drawn import Drawn
from thaw.training.learner import Learner
from thaw.training.material import material_of
from thaw.training.optim import Optimizer
from thaw.training.racing import Racing
from thaw.training.store import Store
from thaw.training.streams import Streams, Text
from thaw.training.torch_optim import optimizer_for
from thaw.units import EVERY, ByLanguage, Units, units_of

STORED_HOURS = 1.0  # of less audio, features are computed sooner than a store pays
MOST_FITTED = 2000  # utterances, from all durations alike: more say nothing more of means


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
    alignments: Sequence[Path] = ()  # of `train`, then of `dev`, where the task learns from them
    loads: Sequence[Path] = ()  # the files of the recipe's `loads`, in its order
    ranking: Path | None = None  # the rows of the probe that the recipe's `ranking` is
    units: Path | None = None  # the file of its words or byte pairs, where the classes are no characters
    budget: float = 0.0  # seconds; 0: none
    wait: float = 0.0  # seconds, for another trainer at work on the same state
    checkpoint_seconds: float = 60.0
    threads: int = 1
    workers: int = 1  # processes that train clients, of a federated training
    features: Path | None = None  # where features are kept that many epochs want; None: in memory alone
    features_gb: float = 50.0  # that they may take there
    device: str = "auto"
    gpu_share: int = 100  # hundredths of a GPU's memory that it may take
    tensorboard: Path | None = None


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
    if bool(recipe.ranking) != (job.ranking is not None):
        given = f"--ranking {job.ranking}" if job.ranking else "no --ranking"
        raise UserError(f"the recipe's ranking is {recipe.ranking!r}, and there is {given}")
    if "snapshots.safetensors" in job.outputs and set(recipe.recipe.snapshots) <= {BEST}:
        raise UserError("--snapshots: the recipe keeps none beside its best epoch")


@dataclass(frozen=True)
class Begun:
    """A learner at its first step, the surgery that prepared its model, and what the checks said."""

    learner: Learner
    units: ByLanguage[Units]  # of the model's heads
    surgery: Surgery
    checks: dict[str, Any]

    def check_end(self) -> dict[str, Any]:
        """Check the surgery once more, after the training; gives all that was checked."""
        return {**self.checks, "end": self.surgery.check_end(self.learner.unmoved())}

    def check_kept(self, weights: Mapping[str, Tensor]) -> None:
        """Check that the weights that are handed on hold what was to stay."""
        self.surgery.check_kept(weights)


@dataclass(frozen=True)
class Prepared:
    """What every learner begins from: both splits, and a model with its first weights on the device."""

    examples: Examples
    dev: Examples
    model: LayeredModel
    units: ByLanguage[Units]
    surgery: Surgery
    checks: dict[str, Any]


def prepared(job: Job, device: torch.device, say: Callable[[str], None] = lambda text: None) -> Prepared:
    """Read the examples, build the model, operate on it and check that; UserError where inputs do not fit together."""
    recipe = job.recipe
    material = material_of(recipe, job.train, job.dev, job.alignments, job.units)
    tasks = material.tasks
    examples, dev = (
        read_examples(paths, tasks, recipe.model.frontend, wanted=material.has) for paths in (job.train, job.dev)
    )
    if recipe.recipe.features_on == "device":
        examples.front_end = dev.front_end = front_end(recipe.model.frontend, device)
    else:
        keep_features(job, (examples, dev), say)
    for task in tasks.values():
        if isinstance(task, CtcAttention):
            task.learn_text(examples.labels)  # one language's, see `thaw.config.models.misfit`
    model = build(recipe.model, {lang: task.classes for lang, task in tasks.items()})
    surgery = operate(job, model, material.units)
    checks: dict[str, Any] = {"start": surgery.check_start()}
    fit_inputs(model, surgery.fresh, examples)
    model.to(device)
    return Prepared(examples, dev, model, material.units, surgery, checks)


def keep_features(job: Job, splits: Sequence[Examples], say: Callable[[str], None]) -> None:
    """Give both splits a store on disk, where the job has a place for one and there is enough audio to pay for it."""
    hours = sum(split.seconds(range(len(split))) for split in splits) / 3600
    if job.features is None or not job.features_gb or hours < STORED_HOURS:
        return
    clips = (utterance.digest for split in splits for utterance in split.utterances)
    store = Store(job.features, job.recipe.model.frontend, clips, 1e9 * job.features_gb, say)
    say(f"{hours:.0f} hours: features are kept in {store.folder} for all trainings; {len(store)} are there")
    for split in splits:
        split.store = store


def begin(job: Job, world: World, say: Callable[[str], None]) -> Begun:
    """The learner of a job; UserError where its inputs do not fit together."""
    if isinstance(job.recipe.recipe.task, LanguageTaskSpec):
        return begin_text(job, world, say)
    first = prepared(job, world.device, say)
    learner: Learner
    if isinstance(job.recipe.recipe.learner, FederatedSpec):
        learner = begin_federated(job, first, world, say)
    else:
        learner = begin_central(job, first, world, say)
    return Begun(learner, first.units, first.surgery, first.checks)


def begin_central(job: Job, first: Prepared, world: World, say: Callable[[str], None]) -> Central:
    """The central learner; adds to what was checked."""
    recipe, model, surgery, checks = job.recipe, first.model, first.surgery, first.checks
    examples, dev = first.examples, first.dev
    optimizer = optimizer_for(recipe.recipe, surgery.trainable())
    checks["start"]["optimizer"] = surgery.check_optimizer(optimizer.names, optimizer.state())
    if recipe.optimizer_state == "transferred":
        checks["optimizer_transferred"] = transfer(job, optimizer, surgery)
    done = computed_once(surgery, recipe, [examples, dev], world.device)
    if done:
        checks["computed_once"] = list(model.layers)[:done]
        examples, dev = (
            Activations(split, model, done, world.device, recipe.recipe.precision, trained)
            for split, trained in ((examples, True), (dev, False))
        )
    if recipe.recipe.microbatch_seconds and any(isinstance(module, BatchNorm1d) for module in model.modules()):
        say("batch norm normalises each part of microbatch_seconds by itself: gradients are not those of whole batches")
    task = recipe.recipe.task
    if isinstance(task, FramesSpec) and task.drawn:
        assert isinstance(recipe.model, DnnSpec)  # see `thaw.config.models.misfit`
        examples = Drawn(examples, task, 0 if done else recipe.model.context)
    what = (recipe, model, surgery, optimizer, examples, dev, world, say, done)
    learner = central_or_downpour(recipe.recipe.learner, world, what)
    if not learner.steps_per_epoch:
        raise UserError(
            f"the training set has {len(examples)} utterances and drop_last is on, so a batch of "
            f"{recipe.recipe.batch_size} is never full; lower batch_size or set drop_last: false"
        )
    return learner


def central_or_downpour(spec: LearnerSpec, world: World, what: tuple[Any, ...]) -> Central:
    """The learner that a recipe names, of what `Central` takes."""
    if not isinstance(spec, DownpourSpec):
        return Central(*what)
    if world.size > 1:
        raise UserError("learner: downpour is one process, or makes its own: start it without torchrun")
    if spec.mode == "simulated":
        return Downpour(spec, *what)
    if world.device.type != "cpu":
        raise UserError("learner: the processes of downpour share memory of one CPU: give --device cpu")
    return Racing(spec, *what)


def fit_inputs(model: LayeredModel, fresh: Collection[str], examples: Examples) -> None:
    """Layers that normalise what comes in learn how from the training set, where nothing else says it."""
    step = -(-len(examples) // MOST_FITTED)
    for name in fresh:
        for module in model.layer(name).modules():
            if isinstance(module, Spliced | Normaliser):
                module.fit(examples.features(index) for index in range(0, len(examples), step))


def begin_text(job: Job, world: World, say: Callable[[str], None]) -> Begun:
    """The learner of a language model; UserError where its inputs do not fit together."""
    recipe = job.recipe
    if not isinstance(recipe.model, AwdLstmSpec):
        raise UserError(f"the task language-model needs a model that reads text (awd-lstm), not {recipe.model.kind}")
    if world.size > 1:
        raise UserError("a language model trains in one process: its hidden state goes from step to step")
    if recipe.optimizer_state == "transferred":
        raise UserError("optimizer_state: transferred: a language model begins with a fresh one")
    units = units_of(recipe, job.units)
    task = LanguageModelling(units[EVERY])
    model = build(recipe.model, task.classes)
    assert isinstance(model, AwdLstm)
    surgery = operate(job, model, units)
    checks: dict[str, Any] = {"start": surgery.check_start()}
    model.to(world.device)
    optimizer = optimizer_for(recipe.recipe, surgery.trainable())
    checks["start"]["optimizer"] = surgery.check_optimizer(optimizer.names, optimizer.state())
    train, dev = (Text(read_sentences(paths), task) for paths in (job.train, job.dev))
    learner = Streams(recipe, model, surgery, optimizer, train, dev, task, world.device, say)
    return Begun(learner, units, surgery, checks)


def operate(job: Job, model: LayeredModel, units: ByLanguage[Units]) -> Surgery:
    """Give the model its first weights, from wherever the recipe says, and freeze what it freezes."""
    origins = read_origins(job.recipe, job.start, job.loads)
    start = origins.get(START)
    operations = operations_of(job.recipe, model, start.units if start else None)
    check_heads(units, model, operations, origins)
    sources = {name: origin.tensors for name, origin in origins.items()}
    return prepare(model, operations, sources, start.meta if start else None)


def transfer(job: Job, optimizer: Optimizer, surgery: Surgery) -> list[str]:
    """Take over the start's optimiser state for the layers that keep their weights; gives the names taken."""
    assert job.start_optimizer is not None  # see check_start
    state, _ = load_tensors(job.start_optimizer)
    kept = {f"{name}/{slot}" for name in surgery.kept_parameters() for slot in optimizer.slots}
    shapes = {name: tensor.shape for name, tensor in optimizer.state().items() if name in kept}
    wrong = [name for name, shape in shapes.items() if name in state and state[name].shape != shape]
    if "step" not in state or wrong:
        raise UserError(f"{job.start_optimizer}: not the optimizer state of {job.start} {wrong or ''}".rstrip())
    return optimizer.transfer(state, surgery.kept_parameters())
