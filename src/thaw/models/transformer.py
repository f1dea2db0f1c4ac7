"""A Transformer for speech as named layers: subsampling, encoder_1 …, embedding, decoder_1 …, and two heads.

Source: espnet/espnet espnet/nets/pytorch_backend/transformer (subsampling.py, embedding.py, encoder_layer.py,
decoder_layer.py, attention.py) with `transformer_init: pytorch`; Karita et al. (2019), "A Comparative Study on
Transformer vs RNN in Speech Applications". Norms come before attention and sums; there is no dropout of attention
weights. Frames count by an utterance's own length: ESPnet keeps one more of those that are shorter than their batch,
whose window reaches into the padding.

Shapes: B batch, N hypotheses, T frames, F features, D units, L labels, V classes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thaw.config.transformer import TransformerSpec
from thaw.frontends import dimension
from thaw.models.blstm import outside_of
from thaw.models.ctc_attention import ATTENTION_OUTPUT, CTC_OUTPUT, HEADS, CtcAttention, Memory, State
from thaw.models.layered import Drop, Layer, Noise, keep
from thaw.models.normalising import Normaliser
from thaw.units import EVERY, ByLanguage

EPSILON = 1e-12  # of the norms
Kept = tuple[Tensor, Tensor]  # keys and values
LEAST = 7  # frames of which the convolutions make one


def transformer(spec: TransformerSpec, classes: ByLanguage[int]) -> TransformerCtcAttention:
    """The model with V outputs of both heads, its weights not yet drawn."""
    return TransformerCtcAttention(spec, classes[EVERY])


class Attention(nn.Module):
    """Scaled dot products of queries and keys, several heads side by side (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, T, D) of x (B, T, D)."""
        return self.key(x), self.value(x)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None) -> Tensor:
        """(B, L, D) asks of keys and values (B, T, D); `allowed` (B or 1, L or 1, T): what may be seen; None: all."""
        query, keys, values = (y.unflatten(2, (self.heads, -1)).transpose(1, 2) for y in (self.query(x), keys, values))
        mask = None if allowed is None else allowed.unsqueeze(1)
        y = F.scaled_dot_product_attention(query, keys, values, mask)
        made: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return made


class Sums(nn.Module):
    """Two weighted sums per frame with ReLU and dropout between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, drop: Drop) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        made: Tensor = self.second(drop(F.relu(self.first(x))))
        return made


class Drawn(Layer):
    """A layer whose weights are drawn as torch draws those of its own modules."""

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Weights and biases uniform in ±1 / sqrt(inputs), norms that change nothing."""
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, Normaliser):
                module.reset()
            elif isinstance(module, nn.Linear | nn.Conv2d):
                bound = 1 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters():
                    parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))


class Subsampling(Drawn):
    """Two 3x3 convolutions with a stride of two and ReLU, a weighted sum, and where in the utterance a frame is."""

    def __init__(self, features: int, width: int, normalises: bool) -> None:
        super().__init__()
        self.normaliser = Normaliser(features) if normalises else None
        self.first, self.second = nn.Conv2d(1, width, 3, 2), nn.Conv2d(width, width, 3, 2)
        self.sum = nn.Linear(width * halved(halved(features)), width)

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, F) -> (B, T / 4, D): without padding, so a little less than a fourth. At least one frame comes out."""
        x = x if self.normaliser is None else self.normaliser(x)
        x = x.masked_fill(outside_of(lengths, x.shape[1], x.device), 0.0)
        x = F.pad(x, (0, 0, 0, max(0, LEAST - x.shape[1]))).unsqueeze(1)  # (B, 1, T, F)
        x = F.relu(self.second(F.relu(self.first(x))))
        x = self.sum(x.transpose(1, 2).flatten(2))
        for _ in range(2):
            lengths = (lengths - 1).div(2, rounding_mode="floor").clamp(min=0)
        return drop(placed(x)), lengths

    def padded(self, frames: int) -> int:
        """T' of a batch of T = `frames`."""
        return halved(halved(max(LEAST, frames)))


class EncoderBlock(Drawn):
    """Self-attention and sums, each on a norm and beside a way past it; the last block ends in a norm."""

    apart = False  # attention sums over as many frames as the batch has: equal to rounding

    def __init__(self, spec: TransformerSpec, last: bool) -> None:
        super().__init__()
        self.norm_attention, self.norm_sums = (nn.LayerNorm(spec.width, EPSILON) for _ in range(2))
        self.attention = Attention(spec.width, spec.attention_heads)
        self.sums = Sums(spec.width, spec.inner)
        self.norm_last = nn.LayerNorm(spec.width, EPSILON) if last else None

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, D) -> (B, T, D)."""
        asked = self.norm_attention(x)
        x = x + drop(self.attention(asked, *self.attention.read(asked), seen(lengths, x.shape[1], x.device)))
        x = x + drop(self.sums(self.norm_sums(x), drop))
        return x if self.norm_last is None else self.norm_last(x), lengths


class Embedding(Layer):
    """Labels as vectors, and where in the sentence each is."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, width))

    def read(self, labels: Tensor, first: int = 0) -> Tensor:
        """(B, L) -> (B, L, D), of labels whose first one is the sentence's `first`."""
        return placed(F.embedding(labels, self.weight), first)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Normal, of variance one."""
        self.weight.copy_(torch.empty(self.weight.shape).normal_(generator=generator))


class DecoderBlock(Drawn):
    """Attention to the labels so far, to the encoder's frames, and sums; the last block ends in a norm."""

    def __init__(self, spec: TransformerSpec, last: bool) -> None:
        super().__init__()
        self.norm_labels, self.norm_frames, self.norm_sums = (nn.LayerNorm(spec.width, EPSILON) for _ in range(3))
        self.labels, self.frames = (Attention(spec.width, spec.attention_heads) for _ in range(2))
        self.sums = Sums(spec.width, spec.inner)
        self.norm_last = nn.LayerNorm(spec.width, EPSILON) if last else None

    def advance(
        self, x: Tensor, before: Kept, frames: Kept, inside: Tensor, drop: Drop, back: Tensor | None
    ) -> tuple[Tensor, Kept]:
        """Labels x (B, L, D) behind those whose keys and values are `before`; `back` (1, L, L): which see which.

        `frames`: keys and values of the encoder's frames, of which `inside` (B, 1, T) are the utterance's. Gives
        (B, L, D), and keys and values of all labels.
        """
        asked = self.norm_labels(x)
        kept = join(before, self.labels.read(asked))
        x = x + drop(self.labels(asked, *kept, back))
        x = x + drop(self.frames(self.norm_frames(x), *frames, inside))
        x = x + drop(self.sums(self.norm_sums(x), drop))
        return x if self.norm_last is None else self.norm_last(x), kept


class TransformerCtcAttention(CtcAttention):
    """An encoder, a decoder, and their heads."""

    def __init__(self, spec: TransformerSpec, classes: int) -> None:
        ends = (spec.encoder[-1], spec.decoder[-1])
        layers: dict[str, Layer] = {
            "subsampling": Subsampling(dimension(spec.frontend), spec.width, spec.features == "fbank")
        }
        layers |= {name: EncoderBlock(spec, name in ends) for name in spec.encoder[1:]}
        layers["embedding"] = Embedding(classes, spec.width)
        layers |= {name: DecoderBlock(spec, name in ends) for name in spec.decoder[1:]}
        layers |= {name: Output(spec.width, classes) for name in (CTC_OUTPUT, ATTENTION_OUTPUT)}
        super().__init__(layers, {EVERY: (*spec.decoder, *HEADS)}, len(HEADS))
        self.width = spec.width

    @property
    def embedding(self) -> Embedding:
        """The layer of that name."""
        layer = self.layer("embedding")
        assert isinstance(layer, Embedding)
        return layer

    def blocks(self) -> dict[str, DecoderBlock]:
        """The decoder's, by name."""
        named = {name: self.layer(name) for name in self.layers}
        return {name: layer for name, layer in named.items() if isinstance(layer, DecoderBlock)}

    def teach(self, x: Tensor, lengths: Tensor, begun: Tensor, noise: Noise | None) -> Tensor:
        """(B, T, D), labels (B, L) -> (B, L, D), all labels at once, of which none sees what comes behind it."""
        noise = noise or Noise({}, 0, 0, ())
        count = begun.shape[1]
        back = torch.ones(1, count, count, dtype=torch.bool, device=x.device).tril()
        inside = seen(lengths, x.shape[1], x.device)
        y = noise.drop_for("embedding")(self.embedding.read(begun))
        none = self.nothing(len(x), x)
        for name, block in self.blocks().items():
            y, _ = block.advance(y, none, block.frames.read(x), inside, noise.drop_for(name), back)
        return y

    def nothing(self, rows: int, like: Tensor) -> Kept:
        """Keys and values of no label."""
        return like.new_zeros(rows, 0, self.width), like.new_zeros(rows, 0, self.width)

    def memory(self, x: Tensor, lengths: Tensor) -> tuple[Memory, State]:
        """See `CtcAttention`: keys and values of frames for each block, then which are the utterance's."""
        blocks = self.blocks().values()
        tensors = [tensor for block in blocks for tensor in block.frames.read(x)]
        none = [tensor for _ in blocks for tensor in self.nothing(len(x), x)]
        return Memory((*tensors, seen(lengths, x.shape[1], x.device)), lengths), State(tuple(none))

    def step(self, memory: Memory, state: State, labels: Tensor) -> tuple[Tensor, State]:
        """See `CtcAttention`."""
        *frames, inside = memory.tensors
        y = self.embedding.read(labels.unsqueeze(1), state.tensors[0].shape[1])
        kept: list[Tensor] = []
        for place, block in enumerate(self.blocks().values()):
            pair = slice(2 * place, 2 * place + 2)
            (keys, values), (old_keys, old_values) = frames[pair], state.tensors[pair]
            y, both = block.advance(y, (old_keys, old_values), (keys, values), inside, keep, None)
            kept += both
        return self.log_probs(y[:, -1]), State(tuple(kept))


class Output(Drawn):
    """A weighted sum per frame, or label."""

    drops = False

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.sum = nn.Linear(width, classes)

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, D) -> (B, T, V)."""
        return self.sum(x), lengths


def halved(frames: int) -> int:
    """How many windows of three, two apart, fit into so many frames."""
    return max(0, (frames - 1) // 2)


def join(before: Kept, new: Kept) -> Kept:
    """Keys and values one after the other."""
    return torch.cat([before[0], new[0]], dim=1), torch.cat([before[1], new[1]], dim=1)


def seen(lengths: Tensor, frames: int, device: torch.device) -> Tensor:
    """(B, 1, T): which frames are an utterance's; one that has none sees the first, so that there is a mean."""
    return ~outside_of(lengths.clamp(min=1), frames, device).transpose(1, 2)


def placed(x: Tensor, first: int = 0) -> Tensor:
    """x (B, T, D), times the root of D, plus sines and cosines of where its frames are (Vaswani et al. 2017, 3.5)."""
    width = x.shape[2]
    places = torch.arange(first, first + x.shape[1], device=x.device, dtype=torch.float32).unsqueeze(1)
    speeds = torch.exp(torch.arange(0, width, 2, device=x.device, dtype=torch.float32) * (-math.log(1e4) / width))
    turns = torch.stack([torch.sin(places * speeds), torch.cos(places * speeds)], dim=2).flatten(1)  # (T, D)
    return x * math.sqrt(width) + turns.to(x.dtype)
