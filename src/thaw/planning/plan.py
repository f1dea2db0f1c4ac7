"""From a config to immutable runs: one pure, fast function. No torch, no file is read, nothing is written.

Every thing made has an *id*: a readable name and the hash of the recipe that makes it, upstream ids included. Its files
live under the id, so that an edit makes new files and leaves the old ones, and an edit taken back finds them again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from thaw.canonical import canonical_json, digest
from thaw.config.layers import named_layers
from thaw.config.load import semantic
from thaw.config.models import ModelSpec
from thaw.config.run import TRAIN_VERSION, RunRecipe
from thaw.config.schema import (
    BeamSpec,
    CheckpointSpec,
    Config,
    CorpusSpec,
    DecoderSpec,
    LanguageModelSpec,
    RecipeSpec,
    StudySpec,
    TextSpec,
)
from thaw.config.sources import Source, SyntheticSource, UnionSource

# Raise a version when the meaning of a room changes: what it made gets a new identity, and all that stands on it.
CORPUS_VERSION = 1
AUDIO_VERSION = 1
MANIFEST_VERSION = 1
LM_VERSION = 2
CHECKPOINT_VERSION = 1
DECODE_VERSION = 1
SCORE_VERSION = 3


@dataclass(frozen=True)
class Corpus:
    """A corpus as converted: its source, and the audio made from it."""

    name: str
    spec: CorpusSpec

    @cached_property
    def source_json(self) -> str:
        """Canonical JSON of the source, for `thaw fetch --source`; how its conversion is cut into jobs is left out."""
        return canonical_json(_uncut(semantic(self.spec.source)))

    @cached_property
    def source_hash(self) -> str:
        return digest([CORPUS_VERSION, self.spec.language, self.source_json])

    @property
    def source_id(self) -> str:
        return f"{self.name}-{self.source_hash}"

    @cached_property
    def audio_json(self) -> str:
        """Canonical JSON of the conversion, for `thaw audio --audio`."""
        return canonical_json(semantic(self.spec.audio))

    @cached_property
    def audio_hash(self) -> str:
        """Of the audio's files: another cut makes other files."""
        return digest([AUDIO_VERSION, self.source_hash, self.audio_json, self.shards])

    @cached_property
    def clips_hash(self) -> str:
        """Of the clips in those files, however they are cut: the `audio_hash` of the default cut."""
        uncut = {
            **semantic(self.spec),
            "source": json.loads(self.source_json),
            "audio": semantic(self.spec.audio, "clips_per_job"),
        }
        return Corpus(self.name, CorpusSpec.model_validate(uncut)).audio_hash

    @property
    def audio_id(self) -> str:
        return f"{self.name}-{self.audio_hash}"

    @property
    def shards(self) -> int:
        """How many jobs convert this corpus."""
        return _shards(self.spec.source, self.spec.audio.clips_per_job)


def _uncut(source: dict[str, Any]) -> dict[str, Any]:
    """A source as plain JSON, without the `shards` of it and of its parts."""
    rest = {key: value for key, value in source.items() if key != "shards"}
    if "parts" in rest:
        rest["parts"] = {name: _uncut(part) for name, part in rest["parts"].items()}
    return rest


def _shards(source: Source, clips_per_job: int) -> int:
    if isinstance(source, UnionSource):
        return sum(_shards(part, clips_per_job) for part in source.parts.values())
    if isinstance(source, SyntheticSource):
        clips = source.utterances.train + source.utterances.dev + source.utterances.test
        return math.ceil(clips / clips_per_job)
    return source.shards


@dataclass(frozen=True)
class Manifest:
    """A corpus with its transcripts normalised, and filtered by what one kind of model can align."""

    corpus: Corpus
    text: TextSpec
    model: ModelSpec

    @property
    def text_json(self) -> str:
        return canonical_json(semantic(self.text))

    @property
    def frames_json(self) -> str:
        """The model, cut down to what its output frame rate depends on."""
        return canonical_json(self.model.model_dump(include=set(self.model.frame_fields), exclude_defaults=True))

    @cached_property
    def hash(self) -> str:
        """Of the utterances: what the identities of trainings and language models are drawn from."""
        return self._hash(self.corpus.clips_hash)

    @property
    def id(self) -> str:
        # The files say in which shard an utterance lies too, so another cut of the audio makes other files.
        return f"{self.corpus.name}-{self.model.kind}-{self._hash(self.corpus.audio_hash)}"

    def _hash(self, audio: str) -> str:
        return digest([MANIFEST_VERSION, audio, self.text_json, self.frames_json])


@dataclass(frozen=True)
class Checkpoint:
    """Released weights, imported as a start."""

    name: str
    spec: CheckpointSpec
    model: ModelSpec
    alphabet: str

    @property
    def model_json(self) -> str:
        return canonical_json(semantic(self.model))

    @cached_property
    def hash(self) -> str:
        # The path is where the weights are, not what they are; the archive's hash says that, where it is given.
        what = self.spec.sha256 or self.spec.path
        return digest([CHECKPOINT_VERSION, self.spec.kind, what, self.model_json, self.alphabet])

    @property
    def id(self) -> str:
        return f"{self.name}-{self.hash}"


@dataclass(frozen=True)
class Run:
    """One training: model x corpora x recipe x treatment x seed."""

    name: str  # readable; the id adds the hash
    recipe: RunRecipe
    manifest: Manifest
    treatment: str
    label: str
    seed: int
    model: str  # its name in the config
    start: Run | Checkpoint | None = None

    @cached_property
    def recipe_json(self) -> str:
        """The canonical recipe, defaults dropped: the run's identity, and its rule's one tracked parameter."""
        return canonical_json(semantic(self.recipe))

    @cached_property
    def hash(self) -> str:
        return digest(self.recipe_json)

    @property
    def id(self) -> str:
        return f"{self.name}-{self.hash}"


@dataclass(frozen=True)
class LanguageModel:
    """An n-gram model of a manifest's training text."""

    spec: LanguageModelSpec
    manifest: Manifest

    @property
    def spec_json(self) -> str:
        return canonical_json(semantic(self.spec))

    @cached_property
    def hash(self) -> str:
        return digest([LM_VERSION, self.spec_json, self.manifest.hash])

    @property
    def id(self) -> str:
        return f"{self.manifest.corpus.name}-{self.spec.order}gram-{self.hash}"


@dataclass(frozen=True)
class Decode:
    """A run's best checkpoint x the test split x a decoder."""

    run: Run
    decoder: str  # its name in the config
    spec: DecoderSpec
    lm: LanguageModel | None

    @property
    def spec_json(self) -> str:
        return canonical_json(semantic(self.spec, "label"))

    @property
    def tunes(self) -> bool:
        return isinstance(self.spec, BeamSpec) and self.spec.tune is not None

    @cached_property
    def hash(self) -> str:
        return digest([DECODE_VERSION, self.spec_json, self.run.hash, self.lm.hash if self.lm else ""])

    @property
    def id(self) -> str:
        return f"{self.run.name}-{self.decoder}-{self.hash}"


@dataclass(frozen=True)
class Study:
    """A study's runs and decodes, in the order its tables show them."""

    name: str
    spec: StudySpec
    source: Run | Checkpoint
    runs: tuple[Run, ...]
    decodes: tuple[Decode, ...]

    @property
    def sources(self) -> tuple[Run, ...]:
        """The source run; none where the source is a checkpoint."""
        return (self.source,) if isinstance(self.source, Run) else ()


@dataclass(frozen=True)
class Plan:
    """All that a config asks for. The mappings go from id to thing."""

    config: Config
    studies: tuple[Study, ...]
    sources: dict[str, Corpus] = field(default_factory=dict)
    audio: dict[str, Corpus] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    lms: dict[str, LanguageModel] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    decodes: dict[str, Decode] = field(default_factory=dict)

    def study(self, name: str) -> Study:
        """The study called `name`."""
        return next(study for study in self.studies if study.name == name)


def resolve(config: Config) -> Plan:
    """The plan of a checked config; equal configs give equal plans."""
    plan = Plan(config, tuple(_study(name, spec, config) for name, spec in config.studies.items()))
    for study in plan.studies:
        if isinstance(study.source, Checkpoint):
            plan.checkpoints[study.source.id] = study.source
        for run in (*study.sources, *study.runs):
            plan.runs[run.id] = run
            _add_corpus(plan, run.manifest)
        for decode in study.decodes:
            plan.decodes[decode.id] = decode
            if decode.lm:
                plan.lms[decode.lm.id] = decode.lm
    return plan


def _add_corpus(plan: Plan, manifest: Manifest) -> None:
    plan.manifests[manifest.id] = manifest
    plan.audio[manifest.corpus.audio_id] = manifest.corpus
    plan.sources[manifest.corpus.source_id] = manifest.corpus


def _study(name: str, spec: StudySpec, config: Config) -> Study:
    source = _source(spec, config)
    runs = tuple(
        _target_run(target, treatment, seed, spec, config, source)
        for target in spec.targets
        for treatment in spec.treatments
        for seed in spec.seeds
    )
    own = (source,) if isinstance(source, Run) else ()
    # The source itself is decoded too: a transfer result means little beside a source that has learnt nothing.
    decodes = tuple(decode for run in (*own, *runs) for decode in _decodes(run, spec, config))
    return Study(name, spec, source, runs, decodes)


def _manifest(corpus: str, model: ModelSpec, config: Config) -> Manifest:
    spec = config.corpora[corpus]
    return Manifest(Corpus(corpus, spec), config.languages[spec.language], model)


def _source(spec: StudySpec, config: Config) -> Run | Checkpoint:
    source = spec.source
    if source.checkpoint is not None:
        checkpoint = config.checkpoints[source.checkpoint]
        alphabet = config.languages[checkpoint.language].alphabet
        return Checkpoint(source.checkpoint, checkpoint, config.models[source.model], alphabet)
    assert source.corpus is not None  # the schema wants one of the two
    assert source.recipe is not None
    manifest = _manifest(source.corpus, config.models[source.model], config)
    recipe = RunRecipe(
        version=TRAIN_VERSION,
        model=config.models[source.model],
        alphabet=manifest.text.alphabet,
        corpora=(manifest.hash,),
        recipe=config.recipes[source.recipe],
        seed=source.seed,
    )
    name = f"{source.corpus}-{source.model}-source-s{source.seed}"
    return Run(name, recipe, manifest, "source", "source", source.seed, source.model)


def _target_run(
    target: str, treatment: str, seed: int, spec: StudySpec, config: Config, source: Run | Checkpoint
) -> Run:
    how = config.treatments[treatment]
    model_name = how.model or spec.model
    model = config.models[model_name]
    manifest = _manifest(target, model, config)
    start = source if how.start == "source" else None
    alphabet = config.languages[how.alphabet].alphabet if how.alphabet else manifest.text.alphabet
    recipe = RunRecipe(
        version=TRAIN_VERSION,
        model=model,
        alphabet=alphabet,
        corpora=(manifest.hash,),
        recipe=RecipeSpec.model_validate(
            {**config.recipes[spec.recipe].model_dump(), **spec.target_recipes.get(target, {}), **how.recipe}
        ),
        seed=seed,
        start=start.hash if start else "scratch",
        reset=named_layers(how.reset, model.layer_names),
        freeze=named_layers(how.freeze, model.layer_names),
        frozen=how.frozen,
        optimizer_state=how.optimizer_state,
        output_rows=how.output_rows,
        letters={letter: other for letter, other in how.letters.items() if letter in alphabet},
    )
    name = f"{target}-{model_name}-{treatment}-s{seed}"
    return Run(name, recipe, manifest, treatment, how.label or treatment, seed, model_name, start)


def _decodes(run: Run, spec: StudySpec, config: Config) -> Iterator[Decode]:
    for name in spec.decoders:
        decoder = config.decoders[name]
        lm = LanguageModel(decoder.language_model, run.manifest) if isinstance(decoder, BeamSpec) else None
        yield Decode(run, name, decoder, lm)


def describe(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON: ids by kind (for `thaw runs --json` and golden tests)."""
    return {
        "config": plan.config.name,
        "runs": {run.id: run.recipe_json for run in plan.runs.values()},
        "decodes": sorted(plan.decodes),
        "manifests": sorted(plan.manifests),
        "lms": sorted(plan.lms),
    }
