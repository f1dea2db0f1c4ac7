"""Greedy decoding of a transducer: the likeliest class at every frame, label after label (`Transducer.search`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from thaw.corpora.manifest import Utterance
from thaw.decoding.emissions import Features, Recogniser
from thaw.decoding.greedy import tidy
from thaw.models.transducer import Transducer


def transduced(
    recogniser: Recogniser, read: Iterable[tuple[list[Utterance], Features]], done: int = 0
) -> Iterator[tuple[Utterance, str]]:
    """Each utterance with its text; `done` layers have made the batches."""
    for utterances, batch in read:
        yield from zip(utterances, texts(recogniser, batch, done), strict=True)


def texts(recogniser: Recogniser, batch: Features, done: int = 0) -> list[str]:
    """The text of each utterance of a batch, which `done` layers have made."""
    model = recogniser.model
    assert isinstance(model, Transducer)
    if batch.x.shape[1] == 0:
        return ["" for _ in batch.x]
    encoded, frames = recogniser.encoded(batch, done)
    return [tidy(recogniser.spelling.decode(labels)) for labels in model.search(encoded, frames, recogniser.lang)]
