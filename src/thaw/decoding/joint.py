"""Joint CTC-attention beam search: a decoder proposes, label after label, and CTC's prefix scores have a say.

    score(h · c) = score(h) + (1 - λ) ln P_att(c | h) + λ (ln P_ctc(h · c …) - ln P_ctc(h …))

Source: espnet/espnet espnet/nets/pytorch_backend/rnn/decoders.py (recognize_beam) and e2e_asr_common.py (end_detect);
Watanabe et al. (2017), section II-C. The decoder's best 1.5 · beam classes are scored by CTC (all, where λ is 1), of
those the best of all go on; one that ends gets a bonus for each label. One that has as many labels as there are frames
ends there. A search ends when for three lengths in a row none of what has ended is within 10 nats of the best.

Shapes: B utterances, W hypotheses each (the beam), N = B · W, T frames, H units of the encoder, V classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from thaw.config.decoders import JointSpec
from thaw.corpora.manifest import Utterance
from thaw.decoding.emissions import Features, Recogniser
from thaw.decoding.greedy import tidy
from thaw.decoding.prefixes import CtcPrefixes
from thaw.errors import UserError
from thaw.models.ctc_attention import CtcAttention, Memory, State

PRUNING = 1.5  # times the beam: so many classes, by the decoder's score, are scored by CTC
LENGTHS, DISTANCE = 3, -10.0  # of the end detection
SHORTER = 0.1  # of the frames: where nothing of the least length has ended, so much shorter will do


@dataclass(frozen=True)
class Hypothesis:
    """Labels without an end, and their score."""

    labels: tuple[int, ...]
    score: float
    step: int  # in which it ended, from 0


@dataclass
class Ended:
    """The hypotheses of one utterance that have ended."""

    least: int  # more classes than that, begin and end counted, or they do not count
    found: list[Hypothesis] = field(default_factory=list)

    def add(self, labels: list[int], score: float, step: int) -> None:
        """One more; ESPnet counts the class that begins a sentence and the one that ends it."""
        if len(labels) + 2 > self.least:
            self.found.append(Hypothesis(tuple(labels), score, step))

    def settled(self, step: int) -> bool:
        """Whether what ends from now on is too unlikely to be the best (equation 50 of Watanabe et al.).

        As ESPnet counts lengths, those that ended two to four steps ago are looked at.
        """
        best = max((hypothesis.score for hypothesis in self.found), default=math.nan)
        for ago in range(LENGTHS):
            there = [h.score for h in self.found if h.step == step - 2 - ago]
            if not there or max(there) - best >= DISTANCE:
                return False
        return True


def joint(
    spec: JointSpec, recogniser: Recogniser, read: Iterable[tuple[list[Utterance], Features]]
) -> Iterator[tuple[Utterance, str]]:
    """Each utterance of `read_features` with what is recognised in it; UserError where the model has no decoder."""
    for batch, features in read:
        yield from zip(batch, texts(spec, recogniser, features), strict=True)


def texts(spec: JointSpec, recogniser: Recogniser, features: Features) -> list[str]:
    """What is recognised in each utterance of a batch; UserError where the model has no decoder."""
    model = recogniser.model
    if not isinstance(model, CtcAttention) and (model.taught or spec.ctc_weight < 1):
        raise UserError("a joint decoder needs a model with a decoder; of CTC alone, set its ctc_weight to 1")
    found = search(spec, recogniser, *recogniser.encoded(features))
    return [tidy(recogniser.spelling.decode(best[0].labels)) if best else "" for best in found]


def search(spec: JointSpec, recogniser: Recogniser, encoded: Tensor, frames: Tensor) -> list[list[Hypothesis]]:
    """The hypotheses of each utterance, best first, of encoder frames (B, T, H) with valid ones (B,).

    None of an utterance without a frame. Where the shortest that is allowed is longer than anything found, ESPnet's
    rule: again, allowing for hypotheses shorter by a tenth of the longest.
    """
    found: list[list[Hypothesis]] = [[] for _ in frames]
    ratio = spec.min_length_ratio
    while missing := [row for row, count in enumerate(frames.tolist()) if count and not found[row]]:
        rows = torch.tensor(missing, device=encoded.device)
        with torch.inference_mode():
            made = Search(spec, recogniser, encoded[rows], frames[rows], ratio).run()
        for row, ended in zip(missing, made, strict=True):
            found[row] = sorted(ended.found, key=lambda h: -h.score)
        if not ratio:
            break
        ratio = max(0.0, ratio - SHORTER)
    return found


class Search:
    """One search over B utterances side by side."""

    def __init__(self, spec: JointSpec, recogniser: Recogniser, encoded: Tensor, frames: Tensor, ratio: float) -> None:
        model = recogniser.model
        self.spec = spec
        self.beam = spec.beam
        self.weight = spec.ctc_weight
        self.utterances = torch.arange(len(encoded), device=encoded.device).repeat_interleave(self.beam)  # (N,)
        longest = spec.max_length_ratio
        self.most = [max(1, int(longest * count)) if longest else count for count in frames.tolist()]
        self.ended = [Ended(int(ratio * most)) for most in self.most]
        self.decoder = model if isinstance(model, CtcAttention) and self.weight < 1 else None
        ctc, _ = model(encoded, frames, done=len(model.trunk), lang=recogniser.lang)
        self.classes = ctc.shape[-1]
        self.end = self.classes - 1
        self.prefixes = CtcPrefixes(ctc.float().log_softmax(dim=-1), frames) if self.weight else None
        self.candidates = min(self.classes, int(PRUNING * self.beam)) if self.weight < 1 else self.classes
        self.memory, self.state = self.begin(encoded, frames)

    def begin(self, encoded: Tensor, frames: Tensor) -> tuple[Memory | None, State | None]:
        """The decoder's memory and state of N hypotheses without a label."""
        if self.decoder is None:
            return None, None
        memory, state = self.decoder.memory(encoded, frames)
        return memory.of(self.utterances), state.of(self.utterances)

    def run(self) -> list[Ended]:
        """Search to the end."""
        rows, device = len(self.utterances), self.utterances.device
        labels = torch.zeros(rows, 0, dtype=torch.int64, device=device)
        scores = torch.full((rows,), -math.inf, dtype=torch.float64, device=device)
        scores[:: self.beam] = 0.0  # every utterance begins with one hypothesis
        last = torch.full((rows,), self.end, device=device)
        prefixes = self.prefixes.begin(self.utterances) if self.prefixes else None
        heard = torch.zeros(rows, dtype=torch.float64, device=device)  # CTC's score of each hypothesis
        for step in range(max(self.most)):
            attended = self.attend(last)
            candidates = attended.topk(self.candidates, dim=1).indices
            local = (1 - self.weight) * attended.gather(1, candidates)
            if self.prefixes and prefixes:
                spelt = self.prefixes.scores(prefixes, self.utterances, candidates)
                local = local + self.weight * (spelt - heard[:, None])
            scores, parents, places = self.best(scores[:, None] + local)
            last = candidates[parents, places]
            labels = torch.cat([labels[parents], last[:, None]], dim=1)
            self.state = self.state.of(parents) if self.state else None
            if self.prefixes and prefixes:
                heard = spelt[parents, places]
                prefixes = self.prefixes.extended(prefixes.of(parents), self.utterances, last)
            scores = self.close(labels, scores, step)
            if not bool(scores.isfinite().any()):
                break
        return self.ended

    def attend(self, last: Tensor) -> Tensor:
        """The decoder's log-probabilities (N, V) behind the labels `last` (N,), in double precision."""
        if self.decoder is None or self.memory is None or self.state is None:
            return torch.zeros(len(last), self.classes, dtype=torch.float64, device=last.device)
        log_probs, self.state = self.decoder.step(self.memory, self.state, last)
        return log_probs.double()

    def best(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The beam's best of each utterance from scores (N, C): their scores, hypotheses and candidates, each (N,)."""
        width = scores.shape[1]
        flat = scores.view(-1, self.beam * width)  # (B, W · C): of each utterance, all that follows
        found = flat.topk(self.beam, dim=1)  # W · C is at least W
        first = torch.arange(0, len(scores), self.beam, device=scores.device)[:, None]
        parents = first + found.indices.div(width, rounding_mode="floor")
        return found.values.flatten(), parents.flatten(), (found.indices % width).flatten()

    def close(self, labels: Tensor, scores: Tensor, step: int) -> Tensor:
        """Put away the hypotheses that have ended, and all of an utterance whose search is over; gives the scores."""
        written, values, left = labels.tolist(), scores.tolist(), scores.clone()
        for utterance, ended in enumerate(self.ended):
            rows = range(utterance * self.beam, (utterance + 1) * self.beam)
            over = step + 1 == self.most[utterance]
            for row in rows:
                ends = written[row][-1] == self.end
                if math.isfinite(values[row]) and (ends or over):
                    spoken = written[row][:-1] if ends else written[row]
                    ended.add(spoken, values[row] + (step + 1) * self.spec.penalty, step)
                    left[row] = -math.inf
            if over or (not self.spec.max_length_ratio and ended.settled(step)):
                left[rows.start : rows.stop] = -math.inf
        return left
