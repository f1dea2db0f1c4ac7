"""A block of convolutions before a recurrent encoder, as one named layer: vgg.

Source: espnet/espnet espnet/nets/pytorch_backend/rnn/encoders.py (VGG2L), after Hori et al. (2017), "Advances in Joint
CTC-Attention based End-to-End Speech Recognition with a Deep CNN Encoder and RNN-LM".
Shapes: B batch, T frames, F features, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thaw.models.blstm import draw_lecun, outside_of
from thaw.models.layered import Drop, Layer
from thaw.models.normalising import Normaliser

PAIRS = 2  # of convolutions, each with a pooling behind it
POOL = 2  # frames, and features, of which the largest is kept


class Vgg(Layer):
    """Twice: two 3x3 convolutions with ReLU, then the largest of 2x2. A frame is what four were, all channels of it.

    Beyond an utterance's end stand zeros before every convolution, so it is the same in whatever batch.
    """

    drops = False

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        self.normaliser: Normaliser | None = None  # of what comes in
        first, second = channels
        widths = ((1, first), (first, first), (first, second), (second, second))
        self.weights = nn.ParameterList([torch.empty(out, inputs, 3, 3) for inputs, out in widths])
        self.biases = nn.ParameterList([torch.empty(out) for _, out in widths])

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, F) -> (B, T / 4, C · F / 4), divisions rounded up; a frame holds channel after channel."""
        if self.normaliser is not None:
            x = self.normaliser(x)
        x = x.masked_fill(outside_of(lengths, x.shape[1], x.device), 0.0).unsqueeze(1)  # (B, 1, T, F)
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            inside = ~outside_of(lengths, x.shape[2], x.device)[:, None]  # (B, 1, T, 1)
            x = F.relu(F.conv2d(x, weight, bias, padding=1)) * inside
            if place % 2:  # what is never negative, zeros beyond the end leave as it is
                x = F.max_pool2d(x, POOL, ceil_mode=True)
                lengths = (lengths + 1).div(POOL, rounding_mode="floor")
        return x.transpose(1, 2).flatten(2), lengths

    def padded(self, frames: int) -> int:
        """T' of a batch of T = `frames`."""
        for _ in range(PAIRS):
            frames = (frames + 1) // POOL
        return frames

    def reset_parameters(self, generator: torch.Generator) -> None:
        """See `draw_lecun`."""
        draw_lecun(self, generator)
        if self.normaliser is not None:
            self.normaliser.reset()


def vgg_units(features: int, channels: tuple[int, int]) -> int:
    """Units of a frame behind the block."""
    for _ in range(PAIRS):
        features = (features + 1) // POOL
    return features * channels[1]
