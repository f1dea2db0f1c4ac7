"""What thaw makes with models, each thing with its identity: imported weights, runs, decodes, probes, evidence.

What all of it is made from, corpora and their texts, is in `thaw.planning.corpora`.

Every thing has an *id*: a readable name and the hash of the recipe that makes it, upstream ids included. Its files live
under the id (`thaw.planning.layout`), so that an edit makes new files and leaves the old ones, and an edit taken back
finds them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from thaw.canonical import canonical_json, digest
from thaw.config.decoders import BeamSpec, DecoderSpec, HybridSpec
from thaw.config.evidence import EvidenceSpec
from thaw.config.models import ModelSpec
from thaw.config.probes import ProbeSpec
from thaw.config.run import RunRecipe
from thaw.config.schema import CheckpointSpec
from thaw.config.sources import Split
from thaw.config.starts import BEST
from thaw.config.strict import semantic
from thaw.planning.corpora import CountedUnits, Data, LanguageModel, Manifest

if TYPE_CHECKING:
    from thaw.planning.alignments import Alignment, Graph

# Raise a version when the meaning of a room changes: what it made gets a new identity, and all that stands on it.
CHECKPOINT_VERSION = 1
DECODE_VERSION = 1
PROBE_VERSION = 1
EVIDENCE_VERSION = 1
SCORE_VERSION = 3


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
