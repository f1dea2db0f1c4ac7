"""What thaw makes, each thing with its identity: corpora, manifests, parts, language models, runs, decodes, probes …

Every thing has an *id*: a readable name and the hash of the recipe that makes it, upstream ids included. Its files live
under the id (`thaw.planning.layout`), so that an edit makes new files and leaves the old ones, and an edit taken back
finds them again.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from thaw.canonical import canonical_json, digest
from thaw.config.decoders import BeamSpec, DecoderSpec, HybridSpec, LanguageModelSpec
from thaw.config.evidence import EvidenceSpec
from thaw.config.models import ModelSpec
from thaw.config.probes import ProbeSpec
from thaw.config.run import RunRecipe
from thaw.config.schema import CheckpointSpec, CorpusSpec, PartSpec, TextSpec
from thaw.config.sources import Source, Split, SyntheticSource, TextSource, UnionSource, WikiTextSource
from thaw.config.starts import BEST
from thaw.config.strict import semantic
from thaw.config.units import BpeUnits, WordUnits

if TYPE_CHECKING:
    from thaw.planning.alignments import Alignment, Graph

# Raise a version when the meaning of a room changes: what it made gets a new identity, and all that stands on it.
CORPUS_VERSION = 1
AUDIO_VERSION = 1
MANIFEST_VERSION = 1
PART_VERSION = 1
LM_VERSION = 2
UNITS_VERSION = 1
CHECKPOINT_VERSION = 1
DECODE_VERSION = 1
PROBE_VERSION = 1
EVIDENCE_VERSION = 1
SCORE_VERSION = 3


@dataclass(frozen=True)
class Corpus:
    """A corpus as converted: its source, and the audio made from it."""

    name: str
    spec: CorpusSpec
    content: str = ""  # of the user's own files that it is listed from

    @cached_property
    def source_json(self) -> str:
        """Canonical JSON of the source, for `thaw fetch --source`; how its conversion is cut into jobs is left out."""
        return canonical_json(_uncut(semantic(self.spec.source)))

    @cached_property
    def source_hash(self) -> str:
        return digest([CORPUS_VERSION, self.spec.language, self.source_json, *_given(self.content)])

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
        return Corpus(self.name, CorpusSpec.model_validate(uncut), self.content).audio_hash

    @property
    def audio_id(self) -> str:
        return f"{self.name}-{self.audio_hash}"

    @property
    def shards(self) -> int:
        """How many jobs convert this corpus."""
        return _shards(self.spec.source, self.spec.audio.clips_per_job)


def _given(content: str) -> list[str]:
    """Nothing is hashed of what has no content of the user's, as if there were no such thing."""
    return [content] if content else []


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
    return 0 if isinstance(source, TextSource | WikiTextSource) else source.shards


@dataclass(frozen=True)
class Manifest:
    """A corpus with its transcripts normalised, and filtered by what one kind of model can align."""

    corpus: Corpus
    text: TextSpec
    model: ModelSpec

    @property
    def manifest(self) -> Manifest:
        """Itself, as a part of it has one."""
        return self

    @property
    def language(self) -> str:
        """A key of `languages`."""
        return self.corpus.spec.language

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
    content: str = ""  # checksum of its files

    @property
    def model_json(self) -> str:
        return canonical_json(semantic(self.model))

    @cached_property
    def hash(self) -> str:
        # The path is where the weights are, not what they are; their checksum says that, given or computed.
        what = self.spec.sha256 or self.content or self.spec.path
        return digest([CHECKPOINT_VERSION, self.spec.kind, what, self.model_json, self.alphabet])

    @property
    def id(self) -> str:
        return f"{self.name}-{self.hash}"


@dataclass(frozen=True)
class Part:
    """A named share of a manifest's training split; dev and test are the manifest's."""

    name: str
    manifest: Manifest
    spec: PartSpec

    @property
    def spec_json(self) -> str:
        return canonical_json(semantic(self.spec))

    @cached_property
    def hash(self) -> str:
        return self._hash(self.manifest.hash)

    @property
    def id(self) -> str:
        corpus = self.manifest.corpus.name
        return f"{corpus}-{self.manifest.model.kind}-{self.name}-{self._hash(self.manifest.id)}"

    def _hash(self, manifest: str) -> str:
        return digest([PART_VERSION, manifest, self.spec_json])

    @property
    def language(self) -> str:
        """A key of `languages`."""
        return self.manifest.language


Data = Manifest | Part  # what a run trains on


@dataclass(frozen=True)
class CountedUnits:
    """Words or byte pairs of a manifest's training text, as a file."""

    spec: WordUnits | BpeUnits
    manifest: Manifest
    content: str = ""  # of the user's own vocabulary

    @property
    def spec_json(self) -> str:
        return canonical_json(semantic(self.spec))

    @cached_property
    def hash(self) -> str:
        # The path of the user's vocabulary is where it is, not what it is; its content says that.
        what = semantic(self.spec, *(["file"] if self.content else []))
        return digest([UNITS_VERSION, canonical_json(what), self.manifest.hash, *_given(self.content)])

    @property
    def id(self) -> str:
        return f"{self.manifest.corpus.name}-{self.spec.kind}-{self.hash}"


@dataclass(frozen=True)
class Run:
    """One training: model x corpora x recipe x treatment x seed."""

    name: str  # readable; the id adds the hash
    recipe: RunRecipe
    data: tuple[Data, ...]  # its target first
    treatment: str
    label: str
    seed: int
    model: str  # its name in the config
    start: Run | Checkpoint | None = None
    donors: tuple[Run | Checkpoint, ...] = ()  # where the layers of `recipe.loads` come from, one each
    ranking: Probe | None = None  # whose rows rank the layers, where the learner asks for that
    units: CountedUnits | None = None  # where its classes are no characters
    alignments: tuple[Alignment, ...] = ()  # of `data`, one each, where the task learns from them

    @property
    def manifest(self) -> Manifest:
        """Of its target: what it is judged on."""
        return self.data[0].manifest

    @property
    def origins(self) -> tuple[Run | Checkpoint, ...]:
        """All that its first weights come from."""
        return (*([self.start] if self.start else []), *self.donors)

    @property
    def waits_for(self) -> tuple[Run | Checkpoint, ...]:
        """All that must be there before it begins: its origins, and the run that its ranking was found on."""
        return (*self.origins, *([self.ranking.run] if self.ranking else []))

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

    @property
    def keeps(self) -> tuple[str, ...]:
        """The snapshots it keeps beside its best epoch."""
        return tuple(one for one in self.recipe.recipe.snapshots if one != BEST)


@dataclass(frozen=True)
class LanguageModel:
    """An n-gram model of a manifest's training text."""

    spec: LanguageModelSpec
    manifest: Manifest
    content: str = ""  # of the extra text

    @property
    def spec_json(self) -> str:
        return canonical_json(semantic(self.spec))

    @cached_property
    def hash(self) -> str:
        return digest([LM_VERSION, self.spec_json, self.manifest.hash, *_given(self.content)])

    @property
    def id(self) -> str:
        return f"{self.manifest.corpus.name}-{self.spec.order}gram-{self.hash}"


@dataclass(frozen=True)
class Decode:
    """A snapshot of a run x a split of its target, or of another of its corpora x a decoder."""

    run: Run
    decoder: str  # its name in the config
    spec: DecoderSpec
    lm: LanguageModel | None
    split: Split = "test"
    snapshot: str = BEST
    other: Manifest | None = None  # whose split it is, where that is not the run's target
    graph: Graph | None = None  # of a hybrid

    @property
    def spec_json(self) -> str:
        return canonical_json(semantic(self.spec, "label"))

    @property
    def tunes(self) -> bool:
        match self.spec:
            case BeamSpec():
                return self.spec.tune is not None
            case HybridSpec():
                return self.spec.tunes
            case _:
                return False

    @property
    def manifest(self) -> Manifest:
        """Whose split it is."""
        return self.other or self.run.manifest

    @property
    def alignment(self) -> Alignment | None:
        """What the run learnt of the corpus that is decoded: its states, and how frequent they are."""
        pairs = zip(self.run.data, self.run.alignments, strict=bool(self.run.alignments))
        return next((one for data, one in pairs if data.manifest == self.manifest), None)

    @cached_property
    def hash(self) -> str:
        other = {"split": self.split, "snapshot": self.snapshot}
        other = {key: value for key, value in other.items() if value not in ("test", BEST)}
        other |= {"graph": self.graph.hash} if self.graph else {}
        other |= {"data": self.other.hash} if self.other else {}
        what = [DECODE_VERSION, self.spec_json, self.run.hash, self.lm.hash if self.lm else ""]
        return digest([*what, other] if other else what)

    @property
    def id(self) -> str:
        of = [one for one in (self.snapshot, self.split) if one not in ("test", BEST)]
        of += [self.other.corpus.name] if self.other else []
        return "-".join((self.run.name, *of, self.decoder, self.hash))


@dataclass(frozen=True)
class Probe:
    """A run evaluated with some of its layers changed, without training: once for each of many operations."""

    run: Run
    name: str  # in the config
    spec: ProbeSpec

    @property
    def spec_json(self) -> str:
        return canonical_json(semantic(self.spec))

    @cached_property
    def hash(self) -> str:
        return digest([PROBE_VERSION, self.spec_json, self.run.hash])

    @property
    def id(self) -> str:
        return f"{self.run.name}-{self.name}-{self.hash}"


@dataclass(frozen=True)
class Evidence:
    """What is known beforehand of freezing each layer of a run in a transfer to a target."""

    run: Run
    target: Manifest
    spec: EvidenceSpec

    @property
    def spec_json(self) -> str:
        return canonical_json(semantic(self.spec))

    @cached_property
    def hash(self) -> str:
        return digest([EVIDENCE_VERSION, self.spec_json, self.run.hash, self.target.hash])

    @property
    def id(self) -> str:
        return f"{self.run.name}-to-{self.target.corpus.name}-{self.hash}"
