"""Mistakes of studies whose networks learn tied states: alignments, frames, decoders, output layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from thaw.config.decoders import HybridSpec
from thaw.config.dnn import DnnSpec
from thaw.config.layers import named_layers
from thaw.config.models import head_names, layer_names, places
from thaw.config.schema import TreatmentSpec
from thaw.config.starts import SOURCE, origin
from thaw.config.tasks import FramesSpec
from thaw.errors import suggestion
from thaw.planning.alignments import lexicon_problems

if TYPE_CHECKING:
    from thaw.config.config import Config
    from thaw.planning.grid import TreatmentsSpec

LENGTHS = (399, 400, 559, 560, 16000)  # samples at which other windows or steps would give other frames


def learns_frames(spec: TreatmentsSpec, config: Config) -> bool:
    """Whether a study's recipe learns tied states."""
    return isinstance(config.recipes[spec.recipe].task, FramesSpec)


def check(where: str, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    """One line for each mistake of a whole study; its names are all there."""
    framed = learns_frames(spec, config)
    source = spec.source.recipe if spec.source else None
    wanted = framed or (source is not None and isinstance(config.recipes[source].task, FramesSpec))
    if wanted and spec.alignment is None:
        yield f"{where}.alignment: recipe {spec.recipe!r} learns tied states: name an entry of `alignments`"
    named = {"alignment": spec.alignment} if spec.alignment is not None else {}
    for key, name in {**named, **{f"corpus_alignments.{k}": v for k, v in spec.corpus_alignments.items()}}.items():
        if name not in config.alignments:
            yield f"{where}.{key}: {name!r} is not there; {suggestion(name, config.alignments)}"
    for corpus in spec.corpus_alignments:
        if corpus not in config.corpora:
            yield f"{where}.corpus_alignments: {corpus!r} is not there; {suggestion(corpus, config.corpora)}"
    if spec.alignment is not None and not wanted:
        yield f"{where}.alignment: recipe {spec.recipe!r} learns none of its states; set its task to frames"
    corpora = [*spec.targets, *([spec.source.corpus] if spec.source and spec.source.corpus else [])]
    if wanted:
        for language in dict.fromkeys(config.corpora[corpus].language for corpus in corpora):
            yield from lexicon_problems(config, language)
    model = config.models[spec.model]
    if framed and any(model.frames(samples) != DnnSpec(kind="dnn").frames(samples) for samples in LENGTHS):
        yield f"{where}.model: {spec.model!r} has other frames than alignments, of 25 ms every 10 ms; take kind dnn"
    for name in spec.decoders:
        if isinstance(config.decoders[name], HybridSpec) != framed:
            what = (
                "searches tied states, and the task is another" if not framed else "knows no tied states: take hybrid"
            )
            yield f"{where}.decoders: {name!r} {what}"


def check_treatment(here: str, how: TreatmentSpec, model: str, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    """One line for each mistake of a treatment of a study that learns tied states: those of its output layers."""
    if how.alphabet or how.output_rows != "fresh":
        key = "alphabet" if how.alphabet else "output_rows"
        yield f"{here}.{key}: classes are tied states here, which no letters stand for"
    corpora = how.corpora if spec.targets[0] in how.corpora else (spec.targets[0], *how.corpora)
    langs = [config.corpora[corpus].language for corpus in corpora] if how.corpora else []
    for lang in sorted({lang for lang in langs if langs.count(lang) > 1}):
        yield f"{here}.corpora: two corpora of language {lang!r}, whose states differ: give one a language of its own"
    spec_of = config.models[model]
    heads = head_names(spec_of, langs)
    kept = set(heads) - set(named_layers(how.reset, layer_names(spec_of, langs), heads, places(spec_of, langs)))
    place = origin(how.start)
    if kept and place and (place.treatment == SOURCE or config.treatments[place.treatment].corpora != how.corpora):
        yield f"{here}: {min(kept)} comes from {place.treatment}, whose states are others: reset output"


def check_together(here: str, how: TreatmentSpec, spec: TreatmentsSpec, config: Config) -> Iterator[str]:
    """A run that serves several targets cannot begin from a run for one of them."""
    together = [target for target in spec.targets if target in how.corpora]
    for text in (how.start, *how.load.values()):
        place = origin(text)
        theirs = config.treatments[place.treatment].corpora if place and place.treatment != SOURCE else together
        if place and not set(together) <= set(theirs):
            yield f"{here}.start: {place.treatment} is a run for each of {', '.join(together)}; take source"
    if together and how.part:
        yield f"{here}.part: the run serves {', '.join(together)} alike; leave it out"
