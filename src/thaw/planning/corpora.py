"""What is made of corpora, before any model: audio, manifests, parts, units, language models. Each has its identity.

See `thaw.planning.artifacts` for what an id is.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from thaw.canonical import canonical_json, digest
from thaw.config.decoders import LanguageModelSpec
from thaw.config.models import ModelSpec
from thaw.config.schema import CorpusSpec, PartSpec, TextSpec
from thaw.config.sources import Source, SyntheticSource, TextSource, UnionSource, WikiTextSource
from thaw.config.strict import semantic
from thaw.config.units import BpeUnits, WordUnits

# Raise a version when the meaning of a room changes: what it made gets a new identity, and all that stands on it.
CORPUS_VERSION = 1
AUDIO_VERSION = 1
MANIFEST_VERSION = 1
PART_VERSION = 1
LM_VERSION = 2
UNITS_VERSION = 1


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
