"""CTC prefix scores: how likely it is that what was said begins with certain labels.

Source: Watanabe et al. (2017), "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition", algorithm 2;
espnet/espnet espnet/nets/ctc_prefix_score.py (CTCPrefixScore). A prefix is kept as the probabilities of all paths
through the first t frames that spell it, by t = 0 … T, apart for those that end in its last label and in a blank.

Shapes: B utterances, N prefixes, T frames, V classes (the blank is the last), C candidates. Logarithms are natural.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEVER = -1e10  # the logarithm of nothing; as ESPnet has it, so that no difference of two is undefined


@dataclass(frozen=True)
class Prefixes:
    """N prefixes: paths (N, T + 1) that end in their last label, and in a blank; that label (N,), V - 1 for none."""

    labelled: Tensor
    blank: Tensor
    last: Tensor

    def of(self, rows: Tensor) -> Prefixes:
        """Some of them, in this order."""
        return Prefixes(self.labelled[rows], self.blank[rows], self.last[rows])

    def spelt(self) -> Tensor:
        """ln P (N,) that what was said is the prefix and no more."""
        return torch.logaddexp(self.labelled[:, -1], self.blank[:, -1])

    def before(self, candidates: Tensor) -> Tensor:
        """Paths (N, C, T) that a candidate can follow: between two equal labels stands a blank."""
        both = torch.logaddexp(self.labelled, self.blank)[:, None, :-1]
        again = (candidates == self.last[:, None])[:, :, None]
        return torch.where(again, self.blank[:, None, :-1], both)


class CtcPrefixes:
    """The prefixes of what was said in B utterances."""

    def __init__(self, log_probs: Tensor, frames: Tensor) -> None:
        """Log-probabilities (B, T, V), of which `frames` (B,) are valid: beyond, nothing but blanks is heard."""
        self.end = log_probs.shape[-1] - 1
        outside = (torch.arange(log_probs.shape[1], device=log_probs.device) >= frames[:, None])[:, :, None]
        padding = log_probs.new_full((log_probs.shape[-1],), NEVER).double()
        padding[self.end] = 0.0
        self.log_probs = torch.where(outside, padding, log_probs.double())

    def begin(self, utterances: Tensor) -> Prefixes:
        """Prefixes without a label, of the utterances (N,)."""
        blank = self.log_probs[utterances, :, self.end].cumsum(dim=1)
        blank = torch.cat([blank.new_zeros(len(blank), 1), blank], dim=1)
        return Prefixes(torch.full_like(blank, NEVER), blank, torch.full_like(utterances, self.end))

    def scores(self, prefixes: Prefixes, utterances: Tensor, candidates: Tensor) -> Tensor:
        """ln P (N, C) that what was said in utterances (N,) begins with a prefix and a candidate (N, C) behind it.

        The candidate V - 1 stands for the end: that it is the prefix and no more.
        """
        heard = self.log_probs[utterances[:, None], :, candidates]  # (N, C, T)
        scores = (prefixes.before(candidates) + heard).logsumexp(dim=2)
        return torch.where(candidates == self.end, prefixes.spelt()[:, None], scores).clamp(min=NEVER)

    def extended(self, prefixes: Prefixes, utterances: Tensor, labels: Tensor) -> Prefixes:
        """Each prefix with one of its labels (N,) behind it."""
        heard = self.log_probs[utterances, :, labels]  # (N, T)
        silence = self.log_probs[utterances, :, self.end]
        before = prefixes.before(labels[:, None])[:, 0]
        labelled = [torch.full_like(before[:, 0], NEVER)]
        blank = [labelled[0]]
        for t in range(heard.shape[1]):
            labelled_t = torch.logaddexp(labelled[t], before[:, t]) + heard[:, t]
            blank.append(torch.logaddexp(labelled[t], blank[t]) + silence[:, t])
            labelled.append(labelled_t)
        paths = [torch.stack(each, dim=1).clamp(min=NEVER) for each in (labelled, blank)]
        return Prefixes(paths[0], paths[1], labels)
