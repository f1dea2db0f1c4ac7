"""Heigold et al.'s network as named layers: hidden_1 … hidden_N, logistic, and the weighted sums of `output`.

Source: Heigold et al. (ICASSP 2013), section 2; the same network as in Dean et al. (NIPS 2012), section 5. Neither says
how inputs were normalised or weights drawn. Here every channel gets mean 0 and variance 1 over what the network was
first trained on: the statistics are buffers of hidden_1, so they travel, freeze and are drawn anew with it. Weights are
Glorot & Bengio's (2010) for logistic units; frames beyond the ends are the first and the last one again, as in Kaldi.

Shapes: B batch, T frames, F channels of the front end, H hidden units, V states.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from thaw.config.dnn import DnnSpec
from thaw.config.models import own_names
from thaw.frontends import dimension
from thaw.models.layered import Drop, Layer, LayeredModel
from thaw.models.normalising import statistics
from thaw.placing import on_device
from thaw.units import ByLanguage

LOGISTIC_GAIN = 4.0  # logistic units pass a quarter of what goes through them


def dnn(spec: DnnSpec, classes: ByLanguage[int]) -> LayeredModel:
    """The model with a head of V outputs for every language of `classes`, its weights not yet drawn."""
    channels = dimension(spec.frontend)
    whole = {lang: _stack(spec, channels, count) for lang, count in sorted(classes.items())}
    branches = {lang: own_names(spec, lang) for lang in whole}
    shared = len(spec.layer_names) - len(next(iter(branches.values())))
    layers = dict(zip(spec.layer_names[:shared], next(iter(whole.values())), strict=False))
    for place in range(shared, len(spec.layer_names)):  # place by place: heads come last
        layers |= {names[place - shared]: whole[lang][place] for lang, names in branches.items()}
    return LayeredModel(layers, branches)


def _stack(spec: DnnSpec, channels: int, classes: int) -> list[Layer]:
    """All layers of one language, input side first."""
    first = Spliced(channels, spec.hidden, spec.context)
    return [first, *(Logistic(spec.hidden, spec.hidden) for _ in range(1, spec.layers)), Sums(spec.hidden, classes)]


class Sums(Layer):
    """A weighted sum per frame."""

    gain = 1.0
    drops = False

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, H) -> (B, T, V)."""
        return F.linear(x, self.weight, self.bias), lengths

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Uniform in ±gain · sqrt(6 / (inputs + outputs)), zero bias (Glorot & Bengio 2010, section 4.2.1)."""
        bound = self.gain * math.sqrt(6.0 / sum(self.weight.shape))
        with torch.no_grad():
            self.weight.copy_(torch.empty(self.weight.shape).uniform_(-bound, bound, generator=generator))
        nn.init.zeros_(self.bias)


class Logistic(Sums):
    """A weighted sum per frame, the logistic function of it, dropout."""

    gain = LOGISTIC_GAIN
    drops = True

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, H) -> (B, T, H)."""
        return drop(torch.sigmoid(F.linear(x, self.weight, self.bias))), lengths


class Spliced(Logistic):
    """The same of a frame beside its neighbours, `context` on each side, all normalised by channel."""

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int, outputs: int, context: int) -> None:
        super().__init__((2 * context + 1) * channels, outputs)
        self.context = context
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, F) -> (B, T, H); or of frames that come with their neighbours: (B, T, (2·context + 1)·F)."""
        if x.shape[2] == len(self.mean):
            beside = spliced((x - self.mean) * self.scale, lengths, self.context)
        else:
            beside = ((x.view(*x.shape[:2], -1, len(self.mean)) - self.mean) * self.scale).flatten(2)
        return super().forward(beside, lengths, drop)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """See `Sums`; statistics as if the features were normal already, until `fit` knows better."""
        super().reset_parameters(generator)
        self.mean.zero_()
        self.scale.fill_(1.0)

    @torch.no_grad()
    def fit(self, features: Iterable[NDArray[np.float32]]) -> None:
        """Take the mean and the deviation of each channel over all frames of `features`, each (T, F)."""
        mean, deviation = statistics(features, len(self.mean))
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(1.0 / deviation))


def spliced(x: Tensor, lengths: Tensor, context: int) -> Tensor:
    """(B, T, F) -> (B, T, (2·context + 1)·F): frames t - context … t + context, oldest first, within each utterance."""
    frames = x.shape[1]
    places = torch.arange(frames, device=x.device)[:, None] + torch.arange(-context, context + 1, device=x.device)
    last = (on_device(lengths, x.device) - 1).clamp(min=0)[:, None, None]
    inside = torch.minimum(places.clamp(min=0)[None], last)  # (B, T, 2·context + 1)
    rows = torch.arange(len(x), device=x.device)[:, None, None]
    return x[rows, inside].flatten(2)
