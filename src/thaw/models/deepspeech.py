"""Mozilla DeepSpeech 0.7 as named layers: layer_1, layer_2, layer_3, lstm, layer_5, layer_6.

Source: mozilla/DeepSpeech v0.7.4 training/deepspeech_training/train.py (`create_model`, `dense`, `create_overlap`).
Shapes: B batch, T frames, F features, H hidden units, V classes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thaw.config.models import DeepSpeechSpec
from thaw.frontends import dimension
from thaw.models.layered import Drop, Layer, LayeredModel, with_heads
from thaw.models.lstm import lstm
from thaw.placing import on_device
from thaw.units import ByLanguage


def deepspeech(spec: DeepSpeechSpec, classes: ByLanguage[int]) -> LayeredModel:
    """The model with a head of V outputs for every language of `classes`, its weights not yet drawn."""
    inputs = dimension(spec.frontend) * (2 * spec.context + 1)
    hidden, clip = spec.hidden, spec.relu_clip
    shared = {
        "layer_1": Dense(inputs, hidden, clip, context=spec.context),
        "layer_2": Dense(hidden, hidden, clip),
        "layer_3": Dense(hidden, hidden, clip),
        "lstm": Lstm(hidden, hidden),
        "layer_5": Dense(hidden, hidden, clip),
    }
    return with_heads(spec, shared, {lang: Dense(hidden, count, clip=None) for lang, count in classes.items()})


class Dense(Layer):
    """A weighted sum per frame, then (where `clip` is set) min(max(x, 0), clip) and dropout.

    `context` frames to each side are put beside the frame first; outside the utterance they are zero.
    """

    def __init__(self, inputs: int, outputs: int, clip: float | None, context: int = 0) -> None:
        super().__init__()
        self.clip = clip
        self.drops = clip is not None
        self.context = context
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, F) -> (B, T, H)."""
        if self.context:
            x = stack_context(x, lengths, self.context)
        x = F.linear(x, self.weight, self.bias)
        if self.clip is not None:
            x = drop(F.hardtanh(x, 0.0, self.clip))
        return x, lengths

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Xavier (Glorot) uniform weights, zero bias."""
        outputs, inputs = self.weight.shape
        draw_glorot(self.weight, inputs, outputs, generator)
        nn.init.zeros_(self.bias)


class Lstm(Layer):
    """One unidirectional LSTM with one bias per gate, as TensorFlow has it. Gates in torch's order i, f, g, o.

    torch's own module has a second bias, which Adam would train too: the effective step of the bias would double.
    No dropout here: DeepSpeech has none after its LSTM.
    """

    drops = False

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden, inputs))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias = nn.Parameter(torch.empty(4 * hidden))

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, F) -> (B, T, H), from a zero state; padding comes after the utterance, so it cannot reach back."""
        state = x.new_zeros(1, len(x), self.weight_hh.shape[1])
        weights = [self.weight_ih, self.weight_hh, self.bias, torch.zeros_like(self.bias)]
        return lstm(x, (state, state), weights, self.training)[0], lengths

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Glorot uniform for each of the eight gate matrices, zero bias (the forget gate's too)."""
        for weight in (self.weight_ih, self.weight_hh):
            rows, inputs = weight.shape
            draw_glorot(weight, inputs, rows // 4, generator)
        nn.init.zeros_(self.bias)


def draw_glorot(weight: nn.Parameter, inputs: int, outputs: int, generator: torch.Generator) -> None:
    """Uniform in ±sqrt(6 / (inputs + outputs)), drawn on the CPU wherever the weight lives (Glorot & Bengio 2010)."""
    bound = math.sqrt(6.0 / (inputs + outputs))
    with torch.no_grad():
        weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))


def stack_context(x: Tensor, lengths: Tensor, context: int) -> Tensor:
    """(B, T, F) -> (B, T, (2·context + 1)·F): frames t - context … t + context, oldest first, zero outside."""
    frames = x.shape[1]
    outside = torch.arange(frames, device=x.device) >= on_device(lengths, x.device).unsqueeze(1)  # (B, T)
    x = x.masked_fill(outside.unsqueeze(2), 0.0)
    x = F.pad(x, (0, 0, context, context))
    windows = x.unfold(1, 2 * context + 1, 1)  # (B, T, F, 2·context + 1), a view
    return windows.transpose(2, 3).reshape(len(x), frames, -1)
