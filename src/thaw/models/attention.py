"""Location-aware attention and a recurrent decoder, as named layers: attention, decoder, ctc_output, attention_output.

Source: espnet/espnet espnet/nets/pytorch_backend/rnn/attentions.py (AttLoc), rnn/decoders.py (Decoder) and e2e_asr.py;
the attention is that of Chorowski et al. (2015), "Attention-Based Models for Speech Recognition", equations 6 to 9.
Shapes: B batch, T encoder frames, H their units, U labels, D units of the decoder, A units of the attention, V classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thaw.config.rnn import AttentionDecoderSpec
from thaw.models.blstm import Linear, draw_lecun, outside_of
from thaw.models.ctc_attention import ATTENTION_OUTPUT, CTC_OUTPUT, HEADS, CtcAttention, Memory, State
from thaw.models.layered import Drop, Layer, Noise, keep
from thaw.units import EVERY

SHARPENING = 2.0  # what energies are multiplied by before their softmax


class LocationAttention(Layer):
    """Weights of encoder frames from the decoder's state, the frames, and the weights of the step before."""

    def __init__(self, frames: int, decoder: int, spec: AttentionDecoderSpec) -> None:
        """`frames` H and `decoder` D units."""
        super().__init__()
        self.weight_frames = nn.Parameter(torch.empty(spec.attention, frames))
        self.bias_frames = nn.Parameter(torch.empty(spec.attention))
        self.weight_state = nn.Parameter(torch.empty(spec.attention, decoder))
        self.kernel = nn.Parameter(torch.empty(spec.channels, 1, 2 * spec.reach + 1))
        self.weight_location = nn.Parameter(torch.empty(spec.attention, spec.channels))
        self.weight_energy = nn.Parameter(torch.empty(1, spec.attention))
        self.bias_energy = nn.Parameter(torch.empty(1))  # moves no weight, since a softmax follows; ESPnet has it

    def keys(self, x: Tensor) -> Tensor:
        """What is made of the frames x (B, T, H) once: (B, T, A)."""
        return F.linear(x, self.weight_frames, self.bias_frames)

    def weights(self, keys: Tensor, outside: Tensor, state: Tensor, before: Tensor) -> Tensor:
        """Weights (B, T) from keys (B, T, A), the decoder's state (B, D) and the weights before (B, T).

        `outside` (B, T) says which frames lie beyond an utterance's end: their weight is zero.
        """
        location = F.conv1d(before.unsqueeze(1), self.kernel, padding=self.kernel.shape[2] // 2).transpose(1, 2)
        summed = keys + F.linear(location, self.weight_location) + F.linear(state, self.weight_state).unsqueeze(1)
        energies = F.linear(torch.tanh(summed), self.weight_energy, self.bias_energy).squeeze(2)
        return (SHARPENING * energies).masked_fill(outside, -torch.inf).softmax(dim=1)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """See `draw_lecun`."""
        draw_lecun(self, generator)


class Decoder(Layer):
    """An embedding of labels, and one LSTM that reads it beside what is attended to."""

    def __init__(self, frames: int, classes: int, width: int) -> None:
        """`frames` H units of the encoder, `width` D."""
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(classes, width))
        self.weight_ih = nn.Parameter(torch.empty(4 * width, width + frames))
        self.weight_hh = nn.Parameter(torch.empty(4 * width, width))
        self.bias_ih = nn.Parameter(torch.empty(4 * width))
        self.bias_hh = nn.Parameter(torch.empty(4 * width))

    @property
    def width(self) -> int:
        """D."""
        return self.embedding.shape[1]

    def advance(self, read: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """One step of the LSTM (torch's gates i, f, g, o): read (B, D + H), its state and cell (B, D) -> the next."""
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        hidden, cell = torch.lstm_cell(read, state, *weights)
        return hidden, cell

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """See `draw_lecun`; the embedding of variance 1, and forget gates that begin open (bias 1)."""
        draw_lecun(self, generator)
        self.embedding.mul_(self.width**0.5)
        self.bias_ih[self.width : 2 * self.width] = 1.0


@dataclass(frozen=True)
class Attended:
    """Frames, what the attention makes of them once, and which of them are padding."""

    frames: Tensor  # (B, T, H)
    keys: Tensor  # (B, T, A)
    outside: Tensor  # (B, T)

    def evenly(self) -> Tensor:
        """The same weight for every valid frame, (B, T), as before the first step."""
        inside = (~self.outside).to(self.frames.dtype)
        return inside / inside.sum(dim=1, keepdim=True)

    def mean(self, weights: Tensor) -> Tensor:
        """What is attended to: (B, T) -> (B, H)."""
        return torch.bmm(weights.unsqueeze(1), self.frames).squeeze(1)


class RecurrentCtcAttention(CtcAttention):
    """The layers of `encoder`, then attention, decoder and the two heads."""

    def __init__(self, encoder: Mapping[str, Layer], frames: int, spec: AttentionDecoderSpec, classes: int) -> None:
        """`frames`: the encoder's units, H."""
        layers: dict[str, Layer] = {
            **encoder,
            "attention": LocationAttention(frames, spec.width, spec),
            "decoder": Decoder(frames, classes, spec.width),
            CTC_OUTPUT: Linear(frames, classes),
            ATTENTION_OUTPUT: Linear(spec.width, classes),
        }
        super().__init__(layers, {EVERY: ("attention", "decoder", *HEADS)}, len(HEADS))

    @property
    def attention(self) -> LocationAttention:
        """The layer of that name."""
        layer = self.layer("attention")
        assert isinstance(layer, LocationAttention)
        return layer

    @property
    def decoder(self) -> Decoder:
        """The layer of that name."""
        layer = self.layer("decoder")
        assert isinstance(layer, Decoder)
        return layer

    def teach(self, x: Tensor, lengths: Tensor, begun: Tensor, noise: Noise | None) -> Tensor:
        """(B, T, H), labels (B, U + 1) -> (B, U + 1, D). Dropout: of embeddings, of what is asked with, of outputs."""
        drop = keep if noise is None else noise.drop_for("decoder")
        attended, decoder = self.attended(x, lengths), self.decoder
        embedded = drop(F.embedding(begun, decoder.embedding)).unbind(dim=1)
        asking, given = (_masks(drop, x, begun.shape[1], decoder.width) for _ in range(2))
        weights = attended.evenly()
        hidden = cell = x.new_zeros(len(x), decoder.width)
        made = []
        for place, label in enumerate(embedded):
            weights = self.attention.weights(attended.keys, attended.outside, asking(hidden, place), weights)
            hidden, cell = decoder.advance(torch.cat([label, attended.mean(weights)], dim=1), (hidden, cell))
            made.append(given(hidden, place))
        return torch.stack(made, dim=1)

    def attended(self, x: Tensor, lengths: Tensor) -> Attended:
        """What the attention needs of frames x (B, T, H); an utterance without any has one of zeros."""
        outside = outside_of(lengths, x.shape[1], x.device)
        x = x.masked_fill(outside, 0.0)  # a weight of zero would not keep out what is no number
        outside = outside.squeeze(2).clone()
        outside[:, 0] = False
        return Attended(x, self.attention.keys(x), outside)

    def memory(self, x: Tensor, lengths: Tensor) -> tuple[Memory, State]:
        """See `CtcAttention`."""
        attended = self.attended(x, lengths)
        zero = x.new_zeros(len(x), self.decoder.width)
        state = State((zero, zero, attended.evenly()))
        return Memory((attended.frames, attended.keys, attended.outside), lengths), state

    def step(self, memory: Memory, state: State, labels: Tensor) -> tuple[Tensor, State]:
        """See `CtcAttention`."""
        attended, (hidden, cell, weights) = Attended(*memory.tensors), state.tensors
        weights = self.attention.weights(attended.keys, attended.outside, hidden, weights)
        label = F.embedding(labels, self.decoder.embedding)
        hidden, cell = self.decoder.advance(torch.cat([label, attended.mean(weights)], dim=1), (hidden, cell))
        return self.log_probs(hidden), State((hidden, cell, weights))


def _masks(drop: Drop, x: Tensor, steps: int, width: int) -> _Masked:
    return _Masked(None if drop is keep else drop(x.new_ones(len(x), steps, width)))


@dataclass(frozen=True)
class _Masked:
    """Dropout step by step: one mask for all steps, (B, U + 1, D), drawn at once; None for no dropout."""

    mask: Tensor | None

    def __call__(self, x: Tensor, step: int) -> Tensor:
        return x if self.mask is None else x * self.mask[:, step]
