"""What a config file may say. Everything is checked here, before anything runs.

Defaults matter: a value equal to its default is dropped before a recipe is hashed (`thaw.planning.plan`), so a new
option may be added without changing the identity of finished work, and a default must never change once released.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from thaw.config.models import ModelSpec, Strict
from thaw.config.sources import SPLITS as SPLITS  # these names are for others too
from thaw.config.sources import Fraction, Name, Positive, Source
from thaw.config.sources import Split as Split
from thaw.config.sources import SyntheticSource as SyntheticSource

# --- corpora --------------------------------------------------------------------------------------


class AudioSpec(Strict):
    """How clips become 16 kHz mono int16."""

    backend: Literal["soundfile", "sox"] = "soundfile"
    min_seconds: Annotated[float, Field(ge=0)] = 0.1
    max_seconds: Annotated[float, Field(gt=0)] = 30.0
    clips_per_job: Annotated[int, Field(ge=1, le=20000)] = 1000


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


# --- training -------------------------------------------------------------------------------------


class SpecAugmentSpec(Strict):
    """Masks over whole stripes of the features (Park et al. 2019); a masked value is the utterance's mean there."""

    time_masks: Annotated[int, Field(ge=0)] = 2
    time_width: Positive = 50  # frames of the front end, at most
    time_share: Annotated[float, Field(gt=0, le=1)] = 0.2  # of the utterance's frames, at most, for each mask
    frequency_masks: Annotated[int, Field(ge=0)] = 2
    frequency_width: Positive = 15  # coefficients, at most


class CutoutSpec(Strict):
    """Masked rectangles of the features (NeMo's SpecCutout). v0.10 swaps the two extents, as that release did."""

    rectangles: Positive = 5
    frequency: Positive = 50  # coefficients, at most
    time: Positive = 120  # frames of the front end, at most
    mode: Literal["fixed", "v0.10"] = "fixed"


class AugmentationSpec(Strict):
    """What training changes in its utterances, anew in each epoch: a function of seed, epoch and utterance."""

    speed: tuple[Annotated[float, Field(ge=0.5, le=2)], ...] = ()  # one of these factors, by resampling
    dither: Annotated[float, Field(ge=0)] = 0.0  # standard deviation of white noise, full scale is 1
    spec_augment: SpecAugmentSpec | None = None
    cutout: CutoutSpec | None = None


class RecipeSpec(Strict):
    """How a model is trained. Times are in epochs, learning rates per step."""

    epochs: Positive
    batch_size: Positive = 24  # utterances, over all GPUs
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    optimizer: Literal["adam-tf", "novograd"] = "adam-tf"  # Adam as TensorFlow has it (epsilon outside the correction)
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # novograd only
    schedule: Literal["constant", "cosine"] = "constant"  # after the warm-up
    warmup_steps: Annotated[int, Field(ge=0)] = 0  # linear
    warmup_ratio: Fraction = 0.0  # the same as a share of all steps
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0  # where the cosine ends
    augmentation: AugmentationSpec = AugmentationSpec()
    max_gradient_norm: Annotated[float, Field(ge=0)] = 0.0  # 0: no clipping
    dropout: Fraction = 0.0  # at every dropout place of the model
    order: Literal["bucketed", "sorted", "shuffled"] = "bucketed"  # sorted: by duration, as DeepSpeech does
    drop_last: bool = False  # DeepSpeech drops an incomplete last batch of an epoch
    early_stop_epochs: Annotated[int, Field(ge=0)] = 0  # stop after so many epochs without improvement; 0: never
    early_stop_delta: Annotated[float, Field(ge=0)] = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _fits_together(self) -> RecipeSpec:
        if self.weight_decay and self.optimizer != "novograd":
            raise ValueError(f"weight_decay: {self.optimizer} has none")
        if self.warmup_steps and self.warmup_ratio:
            raise ValueError("give warmup_steps or warmup_ratio, not both")
        if self.min_learning_rate and self.schedule == "constant":
            raise ValueError("min_learning_rate: a constant schedule has no end to fall to")
        return self


class FrozenSpec(Strict):
    """What the parts of a frozen layer that are not weights do."""

    dropout: Literal["on", "off"] = "on"  # DeepSpeech keeps it on
    norm: Literal["eval", "train", "learn"] = "eval"  # normalisation: still; statistics move; weights are trained too


class TreatmentSpec(Strict):
    """Start + the layers it resets + the layers it freezes.

    Layers are named as the model names them, or by place, which fits every model: `output`, `first-N`, `last-N`.
    """

    label: str = ""  # as tables print it; the treatment's name where empty
    start: Literal["scratch", "source"] = "scratch"  # source: the study's source run
    reset: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    frozen: FrozenSpec = FrozenSpec()
    optimizer_state: Literal["fresh", "transferred"] = "fresh"
    recipe: dict[str, Any] = {}  # what this treatment changes in the recipe
    alphabet: Name | None = None  # a language whose alphabet the output layer gets, instead of the corpus's own
    output_rows: Literal["fresh", "shared"] = "fresh"  # shared: a reset output layer keeps what both alphabets have
    letters: dict[str, str] = {}  # for `shared`: more letters that keep a row, as target's: source's
    model: Name | None = None  # another model than the study's, from scratch

    @model_validator(mode="after")
    def _is_possible(self) -> TreatmentSpec:
        both = [name for name in self.reset if name in self.freeze]
        if both:
            raise ValueError(f"layers both reset and frozen: {both}")
        if self.start == "scratch" and (self.reset or self.freeze or self.optimizer_state == "transferred"):
            raise ValueError("start: scratch leaves nothing to reset, freeze or transfer")
        if self.start != "scratch" and self.model is not None:
            raise ValueError("model: the source's weights fit the study's model only")
        if self.output_rows == "shared" and not self.reset:
            raise ValueError("output_rows: shared: reset the output layer, then it keeps the rows of shared letters")
        if wrong := [f"{new}: {old}" for new, old in self.letters.items() if len(new) != 1 or len(old) != 1]:
            raise ValueError(f"letters: one letter each, not {', '.join(wrong)}")
        if self.letters and self.output_rows != "shared":
            raise ValueError("letters: they need output_rows: shared")
        return self


# --- decoding and scoring -------------------------------------------------------------------------


class LanguageModelSpec(Strict):
    """A KenLM n-gram model of the training text (dev and test sentences excluded)."""

    order: Annotated[int, Field(ge=1, le=6)] = 3
    prune: tuple[Annotated[int, Field(ge=0)], ...] = ()
    extra_text: str = ""  # a file of more sentences, one a line
    discount_fallback: bool = True  # tiny corpora need it


class TuningSpec(Strict):
    """The grid of language model weights that is searched on dev, by rescoring n-best lists."""

    alpha: tuple[float, float] = (0.0, 3.0)
    beta: tuple[float, float] = (-1.0, 3.0)
    steps: Positive = 13  # per axis
    nbest: Positive = 50


class GreedySpec(Strict):
    """Best class per frame, repeats and blanks removed."""

    kind: Literal["greedy"]
    label: str = "greedy"


class BeamSpec(Strict):
    """flashlight-text lexicon beam search with KenLM. alpha and beta are natural-log weights, as in DeepSpeech."""

    kind: Literal["beam"]
    label: str = "beam + LM"
    beam: Positive = 100
    beam_threshold: Annotated[float, Field(gt=0)] = 25.0
    tokens: Positive = 50  # classes considered per frame
    language_model: LanguageModelSpec = LanguageModelSpec()
    alpha: float = 0.931289039105002  # the DeepSpeech 0.7 release's; where `tune` is set, the first pass's
    beta: float = 1.1834137581510284
    tune: TuningSpec | None = None


DecoderSpec = Annotated[GreedySpec | BeamSpec, Field(discriminator="kind")]


class ScoringSpec(Strict):
    """Intervals: how sure they are."""

    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


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
    seed: int = 1
    checkpoint: Name | None = None

    @model_validator(mode="after")
    def _is_one_of_two(self) -> SourceSpec:
        if (self.checkpoint is None) == (self.corpus is None) or (self.corpus is None) != (self.recipe is None):
            raise ValueError("give either corpus and recipe, or checkpoint")
        return self


class StudySpec(Strict):
    """A grid of runs: a source run, then every treatment on every target corpus with every seed."""

    kind: Literal["freezing", "crosslingual"]  # which paper's exhibits are drawn: a module of `thaw.studies`
    source: SourceSpec
    targets: Annotated[tuple[Name, ...], Field(min_length=1)]
    model: Name
    recipe: Name
    target_recipes: dict[Name, dict[str, Any]] = {}  # what a target changes in the recipe; treatments come after
    treatments: Annotated[tuple[Name, ...], Field(min_length=1)]
    baseline: Name  # the treatment that the others are compared to
    reference: Name | None = None  # a second one, e.g. transfer with nothing frozen
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    decoders: Annotated[tuple[Name, ...], Field(min_length=1)]
    style: dict[str, str] = {}  # colours of the figures, by treatment


class ExecutionSpec(Strict):
    """How work is done here. Nothing in it is part of any result's identity."""

    threads: Positive = 1  # of one training or decoding job; recorded, since other counts give other bits
    runtime_minutes: Annotated[int, Field(ge=0)] = 0  # a training stops itself before this and is retried; 0: no limit
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    state: str = "results/state"  # unfinished trainings
    tensorboard: bool = False
    attempts: Positive = 3
    mirror: str = ""  # a folder, or what addresses start with: where archives are looked for before the web

    @field_validator("state")
    @classmethod
    def _inside(cls, value: str) -> str:
        if ".." in PurePosixPath(value).parts:
            raise ValueError("must not contain '..'")
        return value


class Config(Strict):
    """A whole config file, includes merged."""

    name: Name
    scale: Literal["mini", "paper"]
    languages: dict[Name, TextSpec]
    corpora: dict[Name, CorpusSpec]
    models: dict[Name, ModelSpec]
    checkpoints: dict[Name, CheckpointSpec] = {}
    recipes: dict[Name, RecipeSpec]
    treatments: dict[Name, TreatmentSpec]
    decoders: dict[Name, DecoderSpec]
    scoring: ScoringSpec = ScoringSpec()
    studies: dict[Name, StudySpec]
    execution: ExecutionSpec = ExecutionSpec()

    @model_validator(mode="after")
    def _results_of_all(self) -> Config:
        if "all" in self.studies:
            raise ValueError("studies.all: that name is taken by what is drawn from all studies together")
        return self
