"""What a language model makes of a split: nats over units for every sentence, read in order as one text.

The hidden state goes from each sentence to the next, as salesforce/awd-lstm-lm main.py evaluates with one stream. There
the first unit of all is not predicted; here the text follows the end of a sentence, so every unit is counted once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from thaw.config.decoders import PerplexitySpec
from thaw.config.starts import BEST
from thaw.config.tasks import TaskSpec
from thaw.corpora.sentences import Sentence, read_sentences
from thaw.errors import UserError
from thaw.models import load_model
from thaw.models.awd_lstm import AwdLstm, State
from thaw.scoring.measures import TOKEN, Counts
from thaw.tasks import LanguageModelling, task_for
from thaw.tasks.language_model import nats
from thaw.training import environment
from thaw.units import EVERY, Words, units_from

PIECE = 512  # units read at once; sets no result beyond rounding, only memory and speed


def perplexity(
    spec: PerplexitySpec, model: Path, manifest: Path, *, snapshot: str = BEST, threads: int = 1, device: str = "auto"
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows {id, speaker, counts: {token: {errors: nats, total: units}}} of every sentence, and the record.

    A speaker is a document, so intervals draw whole documents. UserError where `model` is no language model.
    """
    began = time.perf_counter()
    environment.settle(threads)
    network, meta = load_model(model, snapshot)
    task = task_for(TypeAdapter[TaskSpec](TaskSpec).validate_python(meta["task"]), units_from(meta)[EVERY]) if (
        "task" in meta
    ) else None  # fmt: skip
    if not isinstance(task, LanguageModelling) or not isinstance(network, AwdLstm):
        raise UserError(f"{model}: no language model, so it has no perplexity; decode it with greedy or beam")
    chosen, lock = environment.choose_device(device)
    sentences = read_sentences([manifest])
    counts = count(network.eval().to(chosen), task, sentences)
    rows = [
        {"id": one.id, "speaker": one.speaker, "counts": {TOKEN.key: each.as_dict()}}
        for one, each in zip(sentences, counts, strict=True)
    ]
    seconds = time.perf_counter() - began
    units = int(sum(each.total for each in counts))
    record = {
        "decoder": spec.model_dump(mode="json"),
        "utterances": len(sentences),
        "units": units,
        "unknown": unknown(task, sentences),
        "audio_seconds": 0.0,
        "warnings": [],
        "environment": environment.record(chosen, processes=1),
        "cost": {"seconds": round(seconds, 3), "units_per_second": round(units / max(seconds, 1e-9), 1)},
    }
    if lock:
        lock.close()
    return rows, record


def count(model: AwdLstm, task: LanguageModelling, sentences: list[Sentence]) -> list[Counts]:
    """Nats and units of each sentence, its end included, given all that is before it."""
    labels = [task.stream([sentence.text]) for sentence in sentences]
    stream = torch.tensor([[task.end, *(label for one in labels for label in one)]])
    losses = losses_of(model, stream.to(next(model.parameters()).device))
    parts = torch.split(losses, [len(one) for one in labels])
    return [Counts(float(part.sum()), len(part)) for part in parts]


@torch.inference_mode()
def losses_of(model: AwdLstm, stream: Tensor) -> Tensor:
    """Nats (N,), float64 on the CPU, of the units of a stream (1, 1 + N) that follow its first."""
    found: list[Tensor] = []
    state: State | None = None
    for start in range(0, stream.shape[1] - 1, PIECE):
        stop = min(start + PIECE, stream.shape[1] - 1)
        reading = model.read(stream[:, start:stop], state)
        state = reading.state
        found.append(nats(reading.logits, stream[:, start + 1 : stop + 1])[0].double().cpu())
    return torch.cat(found)


def unknown(task: LanguageModelling, sentences: list[Sentence]) -> int | None:
    """Words that were read as `<unk>`; None where units are no words."""
    units = task.units
    if not isinstance(units, Words):
        return None
    return sum(label == units.unknown for sentence in sentences for label in units.encode(sentence.text))
