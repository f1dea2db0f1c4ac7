"""What stands between manifests and hybrids: lexicons, alignments, decoding graphs, and the GMM's own recognition.

As all that thaw makes (`thaw.planning.artifacts`), each has an id: a readable name and the hash of what makes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from thaw.canonical import canonical_json, digest
from thaw.config.alignment import AlignmentSpec, EspeakLexicon, FileLexicon, LexiconSpec, SearchSpec
from thaw.config.sources import Split
from thaw.config.strict import semantic
from thaw.errors import UserError
from thaw.planning import contents
from thaw.planning.corpora import Data, LanguageModel, Manifest

if TYPE_CHECKING:
    from thaw.config.config import Config

# Raise a version when the meaning of a room changes: what it made gets a new identity, and all that stands on it.
LEXICON_VERSION = 1
ALIGNMENT_VERSION = 1
GRAPH_VERSION = 1
GMM_VERSION = 1


@dataclass(frozen=True)
class Lexicon:
    """How the words of a manifest, and of the extra text of a language model, are said."""

    spec: LexiconSpec
    manifest: Manifest
    extra_text: str = ""
    content: tuple[str, ...] = ()  # of the user's lexicon and the extra text

    @property
    def spec_json(self) -> str:
        return canonical_json({"kind": self.spec.kind, **semantic(self.spec)})

    @cached_property
    def hash(self) -> str:
        # Of the user's file, what it holds says what it is, and not where it lies.
        spec = semantic(self.spec, "path") if isinstance(self.spec, FileLexicon) else semantic(self.spec)
        what = [LEXICON_VERSION, self.manifest.language, self.spec.kind, spec, self.manifest.hash, *self.content]
        return digest(what)

    @property
    def id(self) -> str:
        return f"{self.manifest.corpus.name}-{self.spec.kind}-{self.hash}"

    @property
    def files(self) -> list[str]:
        """The user's own files that it is made from."""
        own = self.spec.path if isinstance(self.spec, FileLexicon) else ""
        return [path for path in (own, self.extra_text) if path]


@dataclass(frozen=True)
class Alignment:
    """A GMM-HMM trained on some data, and a state for every frame of their train, dev and test."""

    name: str  # in the config
    spec: AlignmentSpec
    data: Data
    lexicon: Lexicon

    @property
    def spec_json(self) -> str:
        """Canonical JSON for `thaw align --alignment`: how its own recognition searches is left out."""
        return canonical_json(semantic(self.spec, "search"))

    @cached_property
    def hash(self) -> str:
        return digest([ALIGNMENT_VERSION, self.spec_json, self.data.hash, self.lexicon.hash])

    @property
    def id(self) -> str:
        part = () if isinstance(self.data, Manifest) else (self.data.name,)
        return "-".join((self.data.manifest.corpus.name, *part, self.name, self.hash))


@dataclass(frozen=True)
class Graph:
    """A decoding graph: the tied states of an alignment, a lexicon, and a language model."""

    alignment: Alignment
    lexicon: Lexicon
    lm: LanguageModel  # its spec and text; the graph is made from an ARPA file of its own

    @cached_property
    def hash(self) -> str:
        return digest([GRAPH_VERSION, self.alignment.hash, self.lexicon.hash, self.lm.hash])

    @property
    def id(self) -> str:
        return f"{self.lm.manifest.corpus.name}-{self.lm.spec.order}gram-{self.hash}"


@dataclass(frozen=True)
class GmmDecode:
    """The words that the GMM itself finds in a split: the first column of a hybrid's table."""

    graph: Graph
    spec: SearchSpec
    split: Split = "test"

    @property
    def alignment(self) -> Alignment:
        """The model that is searched with."""
        return self.graph.alignment

    @property
    def manifest(self) -> Manifest:
        """Whose split it is."""
        return self.alignment.data.manifest

    @property
    def spec_json(self) -> str:
        return canonical_json(semantic(self.spec))

    @property
    def tunes(self) -> bool:
        """Whether it needs dev."""
        return len(self.spec.scales) > 1

    @cached_property
    def hash(self) -> str:
        return digest([GMM_VERSION, self.spec_json, self.graph.hash, self.split])

    @property
    def id(self) -> str:
        return f"gmm-{self.manifest.corpus.name}-{self.split}-{self.hash}"


# --- from a config ----------------------------------------------------------------------------------------------------


def lexicon_problems(config: Config, language: str) -> Iterator[str]:
    """What is wrong with the lexicon of a language, one line: a voice that espeak-ng has not."""
    spec = config.lexicons.get(language, EspeakLexicon())
    if isinstance(spec, FileLexicon):
        return  # that its file is there is looked at for all of them
    from thaw.corpora.voices import find_voice

    try:
        find_voice(spec.voice or language)
    except UserError as error:
        yield f"lexicons.{language}.{error}"


def lexicon_of(config: Config, manifest: Manifest, extra_text: str = "") -> Lexicon:
    """The lexicon of a manifest, as the config says it for its language."""
    language = manifest.language
    spec = config.lexicons.get(language, EspeakLexicon())
    if isinstance(spec, EspeakLexicon) and not spec.voice:
        spec = spec.model_copy(update={"voice": language})
    own = (contents.of_file(spec.path),) if isinstance(spec, FileLexicon) else ()
    more = (contents.of_file(extra_text),) if extra_text else ()
    return Lexicon(spec, manifest, extra_text, (*own, *more))


def alignment_of(config: Config, name: str, data: Data) -> Alignment:
    """The alignment of some data by the entry `name` of the config's `alignments`."""
    return Alignment(name, config.alignments[name].of(data.language), data, lexicon_of(config, data.manifest))


def graph_of(config: Config, alignment: Alignment, search: SearchSpec) -> Graph:
    """The graph for a search, with the tied states of an alignment."""
    manifest, spec = alignment.data.manifest, search.language_model
    lm = LanguageModel(spec, manifest, contents.of_file(spec.extra_text))
    return Graph(alignment, lexicon_of(config, manifest, spec.extra_text), lm)


def gmm_decode_of(config: Config, alignment: Alignment, split: Split = "test") -> GmmDecode:
    """The alignment's own GMM on a split."""
    return GmmDecode(graph_of(config, alignment, alignment.spec.search), alignment.spec.search, split)
