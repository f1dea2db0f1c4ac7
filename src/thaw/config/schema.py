"""What a config file may say. Everything is checked here, before anything runs.

Defaults matter: a value equal to its default is dropped before a recipe is hashed (`thaw.config.strict.semantic`), so a
new option may be added without changing the identity of finished work, and a default must never change once released.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from thaw.config.colours import Colour
from thaw.config.learners import CENTRAL, DownpourSpec, FederatedSpec, LearnerSpec
from thaw.config.numbers import Amount, Count, Float, Int, Size, Some
from thaw.config.sources import SPLITS as SPLITS  # these names are for others too
from thaw.config.sources import Fraction, Name, Positive, Source
from thaw.config.sources import Split as Split
from thaw.config.sources import SyntheticSource as SyntheticSource
from thaw.config.starts import BEST, SCRATCH, SOURCE, Snapshot, Start, epoch_of, mean_of
from thaw.config.strict import Strict
from thaw.config.tasks import CTC, FramesSpec, LanguageTaskSpec, TaskSpec
from thaw.config.units import CHARACTERS, UnitsSpec

# --- corpora --------------------------------------------------------------------------------------


class AudioSpec(Strict):
    """How clips become 16 kHz mono int16."""

    backend: Literal["soundfile", "sox"] = "soundfile"
    min_seconds: Amount = 0.1
    max_seconds: Some = 30.0
    clips_per_job: Annotated[Int, Field(ge=1, le=20000)] = 1000


class TextSpec(Strict):
    """Normalisation of transcripts: the rules are applied in the order of the fields."""

    alphabet: str  # the output classes in order, blank not included
    normal_form: Literal["NFC", "NFKC"] = "NFC"
    case: Literal["lower", "upper", "keep"] = "lower"
    replace: dict[str, str] = {}  # e.g. {"ß": "ss"}; applied in order, before deletion
    to_space: str = "-_/–—"  # each of these becomes a space
    delete: str = '.,;:?!"“”„‟«»‹›…()'  # each of these disappears
    outside: Literal["reject", "delete"] = "reject"  # what a character outside the alphabet does to its utterance

    @field_validator("replace")
    @classmethod
    def _replaces_something(cls, value: dict[str, str]) -> dict[str, str]:
        if "" in value:
            raise ValueError("an empty key would stand between all characters")
        return value

    @field_validator("alphabet")
    @classmethod
    def _alphabet_is_a_set(cls, value: str) -> str:
        doubles = sorted({c for c in value if value.count(c) > 1})
        if doubles:
            raise ValueError(f"characters given twice: {doubles}")
        if " " not in value:
            raise ValueError("the space is missing: words could not be told apart")
        return value


class CorpusSpec(Strict):
    """Utterances of one language, and where they come from."""

    label: str  # as tables print it, e.g. "German"
    language: Name  # a key of `languages`
    source: Source
    audio: AudioSpec = AudioSpec()
    licence: str = ""
    citation: str = ""


class PartSpec(Strict):
    """A share of a training split. Shares of one seed are nested: the smaller ones lie in the larger ones."""

    share: Annotated[Float, Field(gt=0, lt=1)]  # of the utterances
    by: Literal["utterance", "speaker"] = "utterance"  # speaker: whole speakers, as many as fit into the share
    rest: bool = False  # what that share leaves
    seed: Int = 1


# --- training -------------------------------------------------------------------------------------


class SpecAugmentSpec(Strict):
    """Masks over whole stripes of the features (Park et al. 2019); a masked value is the utterance's mean there."""

    time_masks: Annotated[Count, Field(le=1000)] = 2
    time_width: Positive = 50  # frames of the front end, at most
    time_share: Annotated[Float, Field(gt=0, le=1)] = 0.2  # of the utterance's frames, at most, for each mask
    frequency_masks: Annotated[Count, Field(le=1000)] = 2
    frequency_width: Positive = 15  # coefficients, at most


class CutoutSpec(Strict):
    """Masked rectangles of the features (NeMo's SpecCutout). v0.10 swaps the two extents, as that release did."""

    rectangles: Annotated[Positive, Field(le=1000)] = 5
    frequency: Positive = 50  # coefficients, at most
    time: Positive = 120  # frames of the front end, at most
    mode: Literal["fixed", "v0.10"] = "fixed"


class AugmentationSpec(Strict):
    """What training changes in its utterances, anew in each epoch: a function of seed, epoch and utterance."""

    # One of these factors, by resampling.
    speed: Annotated[tuple[Annotated[Float, Field(ge=0.5, le=2)], ...], Field(max_length=100)] = ()
    dither: Annotated[Float, Field(ge=0, le=1)] = 0.0  # standard deviation of white noise, full scale is 1
    spec_augment: SpecAugmentSpec | None = None
    cutout: CutoutSpec | None = None


BATCH_SIZE = 24
Optimizer = Literal["adam-tf", "novograd", "sgd", "adagrad", "adadelta", "adam", "adamw", "asgd", "nt-asgd"]


# tf32: fp32, of whose products a GPU takes the factors with 10 bits behind the point; bf16: most layers in that type.
Precision = Literal["fp32", "tf32", "bf16"]


class RecipeSpec(Strict):
    """How a model is trained. Times are in epochs, learning rates per step."""

    epochs: Annotated[Positive, Field(le=1_000_000)]
    task: TaskSpec = CTC  # what is learnt
    learner: LearnerSpec = CENTRAL  # who takes the steps
    units: UnitsSpec = CHARACTERS  # what the output classes are
    batch_size: Size = BATCH_SIZE  # utterances, over all GPUs
    batch_seconds: Amount = 0.0  # instead of batch_size: audio, as padded to the longest, over all GPUs
    # Where a batch is too much for memory: parts of at most so many padded seconds, whose gradients add up; 0: off
    microbatch_seconds: Amount = 0.0
    learning_rate: Some = 5e-4
    optimizer: Optimizer = "adam-tf"  # Adam as TensorFlow has it (epsilon outside the correction)
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    epsilon: Some = 1e-8
    weight_decay: Amount = 0.0  # not of adam-tf
    momentum: Fraction = 0.0  # sgd only
    rho: Fraction = 0.9  # adadelta only: how much of the running mean of squares is kept
    # adadelta only: after an epoch that is worse than the best, whose weights are taken again, epsilon is so much of it
    epsilon_decay: Annotated[Float, Field(gt=0, le=1)] = 1.0
    averaging_start: Count = 0  # asgd only: the step from which weights are averaged
    # nt-asgd only: averaging begins after an epoch whose dev loss is above the best of all but the last so many.
    averaging_patience: Positive = 5
    schedule: Literal["constant", "cosine", "noam"] = "constant"  # after the warm-up
    schedule_width: Count = 0  # noam only: the model's width, by whose root the rate is divided
    warmup_steps: Count = 0  # linear
    warmup_ratio: Fraction = 0.0  # the same as a share of all steps
    min_learning_rate: Amount = 0.0  # where the cosine ends, and what noam does not fall below
    augmentation: AugmentationSpec = AugmentationSpec()
    max_gradient_norm: Amount = 0.0  # 0: no clipping
    max_skipped_steps: Count = 10  # in a row, whose gradient is not finite; then training ends
    dropout: Fraction = 0.0  # at every dropout place of the model
    # sorted: by duration, as DeepSpeech does; mixed: every batch holds all languages
    order: Literal["bucketed", "sorted", "shuffled", "mixed"] = "bucketed"
    language_temperature: Annotated[Float, Field(gt=0, le=1e6)] = 1.0  # mixed only; where large, all count alike
    drop_last: bool = False  # DeepSpeech drops an incomplete last batch of an epoch
    early_stop_epochs: Count = 0  # stop after so many epochs without improvement; 0: never
    early_stop_delta: Amount = 0.0
    precision: Precision = "fp32"
    # Where training and its dev make features of samples: numpy's threads, or batch by batch where the model is.
    features_on: Literal["host", "device"] = "host"
    snapshots: Annotated[tuple[Snapshot, ...], Field(min_length=1)] = (BEST,)  # kept; `best` is, whatever stands here

    @model_validator(mode="after")
    def _fits_together(self) -> RecipeSpec:
        if self.weight_decay and self.optimizer == "adam-tf":
            raise ValueError(f"weight_decay: {self.optimizer} has none")
        for key, default, owner in (
            *(("momentum", 0.0, "sgd"), ("rho", 0.9, "adadelta"), ("epsilon_decay", 1.0, "adadelta")),
            *(("averaging_start", 0, "asgd"), ("averaging_patience", 5, "nt-asgd")),
        ):
            if getattr(self, key) != default and self.optimizer != owner:
                raise ValueError(f"{key}: {self.optimizer} has none; {owner} has")
        if self.epsilon_decay < 1 and self.learner != CENTRAL:
            raise ValueError(f"epsilon_decay: learner {self.learner.kind} does not go back to its best; central does")
        if never := [one for one in self.snapshots if (epoch_of(one) or mean_of(one) or 0) > self.epochs]:
            raise ValueError(f"snapshots: a training of {self.epochs} epochs has no {', '.join(never)}")
        if self.early_stop_epochs and any(map(mean_of, self.snapshots)):
            raise ValueError("snapshots: which epochs are the last is not known where early_stop_epochs may end it")
        if self.batch_seconds and self.batch_size != BATCH_SIZE:
            raise ValueError("batch_size: batch_seconds says how large a batch is; leave one of them out")
        if self.batch_seconds and self.drop_last:
            raise ValueError("drop_last: no batch of batch_seconds is incomplete; leave it out")
        if self.microbatch_seconds and 0 < self.batch_seconds <= self.microbatch_seconds:
            raise ValueError("microbatch_seconds: a batch of batch_seconds has one part; give less, or leave it out")
        if self.language_temperature != 1.0 and self.order != "mixed":
            raise ValueError("language_temperature: without order: mixed, every utterance is heard once")
        if isinstance(self.learner, DownpourSpec) and self.optimizer != "adagrad":
            raise ValueError("learner: the server of downpour is Adagrad; set optimizer: adagrad")
        if isinstance(self.task, FramesSpec) and self.augmentation.speed:
            raise ValueError("augmentation.speed: it changes how many frames there are, which alignments do not follow")
        if isinstance(self.task, FramesSpec) and self.task.drawn:
            self._fits_drawn_frames()
        if self.features_on == "device" and isinstance(self.learner, DownpourSpec) and self.learner.mode == "processes":
            raise ValueError("features_on: the processes of downpour share one CPU, the host; leave it out")
        if self.warmup_steps and self.warmup_ratio:
            raise ValueError("give warmup_steps or warmup_ratio, not both")
        if self.min_learning_rate and self.schedule == "constant":
            raise ValueError("min_learning_rate: a constant schedule has no end to fall to")
        if (self.schedule == "noam") != bool(self.schedule_width):
            raise ValueError("schedule_width: the schedule noam needs the model's width, and no other has one")
        if self.schedule == "noam" and not (self.warmup_steps or self.warmup_ratio):
            raise ValueError("schedule: noam needs warmup_steps or warmup_ratio")
        return self

    def _fits_drawn_frames(self) -> None:
        """Raise ValueError for what only whole utterances can do."""
        if self.order not in ("shuffled", "mixed"):
            raise ValueError(f"order: drawn frames have no duration to be {self.order} by; set shuffled or mixed")
        if self.features_on == "device":
            raise ValueError("features_on: drawn frames are put together on the host; leave it or drawn out")
        if self.augmentation.spec_augment or self.augmentation.cutout:
            raise ValueError("augmentation: masks are of an utterance, and drawn frames are of many; leave drawn out")
        if isinstance(self.learner, FederatedSpec):
            raise ValueError("task.drawn: a client has few frames, all of one speaker; leave it out")
        if isinstance(self.learner, DownpourSpec) and self.learner.mode == "processes":
            raise ValueError("task.drawn: the processes of downpour hear whole utterances; leave it out")

    @model_validator(mode="after")
    def _fits_clients(self) -> RecipeSpec:
        """What the clients of a federated training cannot do, who begin anew in each round."""
        if not isinstance(self.learner, FederatedSpec):
            return self
        if self.schedule != "constant" or self.warmup_steps or self.warmup_ratio:
            raise ValueError("schedule, warm-up: clients keep one rate; the server has learner.server.warmup_rounds")
        if self.optimizer == "asgd":
            raise ValueError("optimizer: asgd averages over all steps, and a client forgets; take another one")
        if self.order == "mixed":
            raise ValueError("order: a client is a speaker, who has one language; mixed has nothing to mix")
        if self.drop_last:
            raise ValueError("drop_last: a client with less than a batch would train nothing")
        return self

    @model_validator(mode="after")
    def _fits_its_task(self) -> RecipeSpec:
        """A language model is trained on a stream of text, by a learner of its own."""
        if not isinstance(self.task, LanguageTaskSpec):
            if self.optimizer == "nt-asgd":
                raise ValueError("optimizer: nt-asgd belongs to the task language-model; take asgd or another one")
            return self
        if self.learner != CENTRAL:
            raise ValueError(f"learner: {self.learner.kind} does not train a language-model; central does")
        if self.schedule != "constant" or self.warmup_ratio:
            raise ValueError("schedule: the steps of a language-model have random lengths; take constant, warmup_steps")
        if self.optimizer == "nt-asgd" and 0 < self.early_stop_epochs <= self.averaging_patience:
            raise ValueError(
                "early_stop_epochs: a training would end before it averages; give more than averaging_patience "
                f"({self.averaging_patience})"
            )
        if self.batch_seconds or self.microbatch_seconds:
            raise ValueError("batch_seconds, microbatch_seconds: a language-model reads no audio; it has batch_size")
        if self.features_on == "device":
            raise ValueError("features_on: a language-model reads no audio, so there are no features; leave it out")
        if self.dropout or self.augmentation != AugmentationSpec():
            raise ValueError("dropout, augmentation: a language-model has rates of its own, under `models`")
        return self


def _on_or_off(value: object) -> object:
    """YAML 1.1 reads a bare `on` or `off` as a truth value."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class FrozenSpec(Strict):
    """What the parts of a frozen layer that are not weights do."""

    dropout: Annotated[Literal["on", "off"], BeforeValidator(_on_or_off)] = "on"  # DeepSpeech keeps it on
    norm: Literal["eval", "train", "learn"] = "eval"  # normalisation: still; statistics move; weights are trained too


class TreatmentSpec(Strict):
    """Start + the layers it resets + the layers it freezes.

    Layers are named as the model names them, or by place, which fits every model: `output`, `first-N`, `last-N`.
    """

    label: str = ""  # as tables print it; the treatment's name where empty
    start: Start = SCRATCH  # source: the study's source run; or another TREATMENT's; with @SNAPSHOT: not its best epoch
    load: dict[str, Start] = {}  # layers that come from elsewhere: which, and from where
    reset: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    frozen: FrozenSpec = FrozenSpec()
    optimizer_state: Literal["fresh", "transferred"] = "fresh"
    recipe: dict[str, Any] = {}  # what this treatment changes in the recipe
    alphabet: Name | None = None  # a language whose alphabet the output layer gets, instead of the corpus's own
    output_rows: Literal["fresh", "shared"] = "fresh"  # shared: a reset output layer keeps what both alphabets have
    letters: dict[str, str] = {}  # for `shared`: more letters that keep a row, as target's: source's
    model: Name | None = None  # another model than the study's, from scratch
    part: Name | None = None  # a key of `parts`: what it trains on, instead of the whole training split
    corpora: tuple[Name, ...] = ()  # trained on beside the target, with an output layer for each language
    start_seed: Int | None = None  # of the runs that it starts and loads from; its own where not given
    draw: Literal["unused", "first"] = "unused"  # what reset layers get: new values, or those a first training draws

    @model_validator(mode="after")
    def _is_possible(self) -> TreatmentSpec:
        both = [name for name in self.reset if name in (*self.freeze, *self.load)]
        if both:
            raise ValueError(f"layers both reset and frozen, or reset and loaded: {both}")
        if self.start == SCRATCH and (self.reset or self.optimizer_state == "transferred"):
            raise ValueError("start: scratch leaves nothing to reset, freeze or transfer")
        if self.start == SCRATCH and self.freeze and not self.load:
            raise ValueError("freeze: start: scratch leaves nothing to reset, freeze or transfer")
        if SCRATCH in self.load.values():
            raise ValueError("load: a layer comes from a run; drawn anew it is with `reset`")
        if self.start.startswith(SOURCE) and self.model is not None:
            raise ValueError("model: the source's weights fit the study's model only")
        if self.optimizer_state == "transferred" and "@" in self.start and not self.start.endswith(f"@{BEST}"):
            raise ValueError("optimizer_state: it is kept of the best epoch only; set fresh")
        if self.start == SCRATCH and self.start_seed is not None and not self.load:
            raise ValueError("start_seed: scratch is no run; leave it out")
        if self.draw != "unused" and not self.reset:
            raise ValueError("draw: nothing is reset; leave it out")
        if self.output_rows == "shared" and not self.reset:
            raise ValueError("output_rows: shared: reset the output layer, then it keeps the rows of shared letters")
        if wrong := [f"{new}: {old}" for new, old in self.letters.items() if len(new) != 1 or len(old) != 1]:
            raise ValueError(f"letters: one letter each, not {', '.join(wrong)}")
        if self.letters and self.output_rows != "shared":
            raise ValueError("letters: they need output_rows: shared")
        return self


# --- scoring --------------------------------------------------------------------------------------


class ScoringSpec(Strict):
    """Intervals: how sure they are."""

    level: Annotated[Float, Field(gt=0.5, lt=1)] = 0.95


# --- studies --------------------------------------------------------------------------------------


class CheckpointSpec(Strict):
    """Released weights as a start."""

    kind: Literal["deepspeech-tf", "nemo", "jasper"]  # DeepSpeech 0.7's (TensorFlow); a .nemo file; NeMo 0.x's pair
    path: str  # deepspeech-tf: folder, prefix or released .tar.gz; nemo: the file; jasper: the folder of both files
    sha256: str = ""  # of the archive or file
    language: Name  # whose alphabet its output layer has


class SourceSpec(Strict):
    """What transfer starts from: a run of our own (corpus and recipe), or a released checkpoint."""

    model: Name
    corpus: Name | None = None
    recipe: Name | None = None
    seed: Int = 1
    checkpoint: Name | None = None

    @model_validator(mode="after")
    def _is_one_of_two(self) -> SourceSpec:
        if (self.checkpoint is None) == (self.corpus is None) or (self.corpus is None) != (self.recipe is None):
            raise ValueError("give either corpus and recipe, or checkpoint")
        return self


class StudySpec(Strict):
    """What every study says. Each kind has a spec of its own on top of this: a module of `thaw.studies`."""

    kind: str
    style: dict[str, Colour] = {}  # colours of the figures, by treatment


class ExecutionSpec(Strict):
    """How work is done here. Nothing in it is part of any result's identity."""

    # Of one training or decoding job; recorded, since other counts give other bits.
    threads: Annotated[Positive, Field(le=4096)] = 1
    # Processes that train the clients of a federated training, with so many threads each; they give the same bits.
    workers: Annotated[Positive, Field(le=4096)] = 1
    runtime_minutes: Count = 0  # a training stops itself before this and is retried; 0: no limit
    checkpoint_seconds: Some = 60.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    state: str = "results/state"  # unfinished trainings
    features: str = "results/features"  # of hours of audio or more, kept for all trainings
    features_gb: Amount = 50.0  # that they may take; 0: every training computes its own
    tensorboard: bool = False
    attempts: Annotated[Positive, Field(le=1000)] = 3
    mirror: str = ""  # a folder, or what addresses start with: where archives are looked for before the web

    @field_validator("state", "features")
    @classmethod
    def _inside(cls, value: str) -> str:
        if ".." in PurePosixPath(value).parts:
            raise ValueError("must not contain '..'")
        if not PurePosixPath(value).name:
            raise ValueError("must name a folder")
        return value
