"""One pass of a model over a split, which any number of decodes read: what `emit` makes, and for whom.

A decode whose decoder asks the model while it searches (joint, perplexity, a transducer's) has none: it is one job.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from thaw.canonical import digest
from thaw.config.conformer import ConformerSpec
from thaw.config.decoders import GreedySpec, HybridSpec, JointSpec, PerplexitySpec
from thaw.config.sources import Split
from thaw.config.starts import BEST
from thaw.planning import artifacts
from thaw.planning.artifacts import Decode, Run
from thaw.planning.corpora import Manifest

DEV = "dev"  # what decoders are tuned on


@dataclass(frozen=True)
class Emission:
    """A snapshot of a run x a split of its target, or of another of its corpora."""

    run: Run
    split: Split = "test"
    snapshot: str = BEST
    other: Manifest | None = None  # as in Decode

    @property
    def manifest(self) -> Manifest:
        """Whose split it is."""
        return self.other or self.run.manifest

    @cached_property
    def hash(self) -> str:
        # Whatever makes decodes anew makes their emissions anew.
        other = self.other.hash if self.other else ""
        return digest([artifacts.DECODE_VERSION, "emissions", self.run.hash, self.split, self.snapshot, other])

    @property
    def id(self) -> str:
        of = [one for one in (self.snapshot, self.split) if one not in ("test", BEST)]
        of += [self.other.corpus.name] if self.other else []
        return "-".join((self.run.name, *of, self.hash))


def asks_the_model(decode: Decode) -> bool:
    """Whether a decoder needs the model while it searches."""
    model = decode.run.recipe.model
    transduces = isinstance(model, ConformerSpec) and model.head == "rnnt"
    return transduces or isinstance(decode.spec, JointSpec | PerplexitySpec)


def emission_of(decode: Decode) -> Emission | None:
    """What a decode is searched in; None where it asks the model itself."""
    return None if asks_the_model(decode) else Emission(decode.run, decode.split, decode.snapshot, decode.other)


def emissions_of(decodes: Iterable[Decode]) -> dict[str, Emission]:
    """The emissions of some decodes, by id: of several decodes of one snapshot and split, one."""
    found = (emission_of(decode) for decode in decodes)
    return {one.id: one for one in found if one}


def read_of(decode: Decode) -> tuple[str, ...]:
    """The files of its emissions (`thaw.decoding.emitted`) that a decode reads."""
    if isinstance(decode.spec, GreedySpec):
        return "emissions.json", "labels.jsonl"
    return (
        "emissions.json",
        "scores.safetensors",
        *(["dev.safetensors"] if decode.tunes and decode.split != DEV else []),
    )


@dataclass(frozen=True)
class Kept:
    """The ids of emissions by what is kept of them beside best paths, which greedy decoding is content with."""

    scores: frozenset[str]  # log-probabilities of the split
    dev: frozenset[str]  # and those of dev, which a decoder is tuned on: where the split is another
    states: frozenset[str]  # those of tied states, hundreds of times as many: only until they are searched


def kept(decodes: Iterable[Decode]) -> Kept:
    """What some decodes need."""
    pairs = [(one, emission) for one in decodes if (emission := emission_of(one))]
    return Kept(
        frozenset(emission.id for one, emission in pairs if "scores.safetensors" in read_of(one)),
        frozenset(emission.id for one, emission in pairs if "dev.safetensors" in read_of(one)),
        frozenset(emission.id for one, emission in pairs if isinstance(one.spec, HybridSpec)),
    )
