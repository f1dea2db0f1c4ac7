"""AWD-LSTM (Merity et al. 2018): embedding, LSTMs, and a decoder whose weight is the embedding.

Layers: embedding, lstm_1 … lstm_N, decoder. The shared matrix is a parameter of `embedding` alone; the decoder has its
bias and borrows the rest, so that the matrix is counted, saved and stepped once. Operations name both layers (`tied`).

Five kinds of dropout, with masks that are the same for all times of a step where the original has them so
(salesforce/awd-lstm-lm model.py, locked_dropout.py, embed_regularize.py, weight_drop.py). Its weight drop replaces a
parameter of torch's LSTM by a tensor, which breaks in several ways today; here the LSTM is called with other weights.

Shapes: B streams, T units, E embedding, H hidden, V classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thaw.config.awd_lstm import AwdLstmSpec
from thaw.models.layered import Drop, Layer, LayeredModel, Noise
from thaw.models.lstm import through
from thaw.units import EVERY, ByLanguage

State = tuple[tuple[Tensor, Tensor], ...]  # of each LSTM: h and c, (1, B, H)
RANGE = 0.1  # of the embedding's first values


def awd_lstm(spec: AwdLstmSpec, classes: ByLanguage[int]) -> AwdLstm:
    """The model of `spec`; it has one head, of V = classes[EVERY]."""
    count = classes[EVERY]  # the plan refuses a head for each language
    embedding = Embedding(count, spec.embedding)
    widths = [spec.embedding, *[spec.hidden] * (spec.lstms - 1), spec.embedding]
    lstms = {f"lstm_{n}": Recurrent(widths[n - 1], widths[n]) for n in range(1, spec.lstms + 1)}
    return AwdLstm({"embedding": embedding, **lstms, "decoder": TiedDecoder(embedding)}, spec)


class Embedding(Layer):
    """A vector for every unit."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, width))

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """Units (B, T) -> (B, T, E)."""
        return F.embedding(x, self.weight), lengths

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Uniform in ±0.1."""
        draw_uniform(self.weight, RANGE, generator)


class Recurrent(Layer):
    """One of torch's LSTMs, with its two biases per gate."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, batch_first=True)

    @property
    def recurrent(self) -> Tensor:
        """The weights from hidden state to hidden state (4H, H)."""
        weight = self.lstm.weight_hh_l0
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, F) -> (B, T, H), from a zero state; padding comes after the text, so it cannot reach back."""
        return self.step(x, None, None)[0], lengths

    def step(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, T, F) -> (B, T, H) and the state behind it; `mask` (4H, H) drops weights from hidden to hidden state."""
        return through(self.lstm, x, state, None if mask is None else self.recurrent * mask)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Uniform in ±1/sqrt(H), as torch draws all four tensors."""
        for parameter in self.lstm.parameters():
            draw_uniform(parameter, 1.0 / math.sqrt(self.lstm.hidden_size), generator)


class TiedDecoder(Layer):
    """Logits by the embedding's matrix, and a bias."""

    def __init__(self, embedding: Embedding) -> None:
        super().__init__()
        self.tied = (embedding,)  # in a tuple: its parameters are not this layer's
        self.bias = nn.Parameter(torch.empty(len(embedding.weight)))

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """(B, T, E) -> (B, T, V)."""
        return F.linear(x, self.tied[0].weight, self.bias), lengths

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Zero: the matrix is drawn with the embedding."""
        nn.init.zeros_(self.bias)


def draw_uniform(parameter: nn.Parameter, bound: float, generator: torch.Generator) -> None:
    """Uniform in ±bound, drawn on the CPU wherever the parameter lives."""
    with torch.no_grad():
        parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))


class Masks:
    """The dropout masks of one step, inverted: a function of (seed, step, place, and stream or weight matrix) alone.

    `rates` go by place: words, input, hidden_N, output, weights_N.
    """

    def __init__(self, rates: Mapping[str, float], seed: int, step: int, streams: int) -> None:
        self.rates = rates
        self.rows = Noise(rates, seed, step, [str(stream) for stream in range(streams)])
        self.whole = Noise(rates, seed, step, ["weights"])

    def locked(self, place: str, x: Tensor) -> Tensor:
        """x (B, T, H) with the same units of a stream dropped at all its times."""
        if not self.rates.get(place):
            return x
        return x * self.rows.drop_for(place)(x.new_ones(len(x), 1, x.shape[2]))

    def of_weights(self, place: str, weight: Tensor) -> Tensor | None:
        """A mask of a matrix, each weight by itself; None where nothing is dropped."""
        if not self.rates.get(place):
            return None
        return self.whole.drop_for(place)(torch.ones_like(weight)[None])[0]

    def of_words(self, weight: Tensor) -> Tensor | None:
        """A mask (V, 1) of the rows of an embedding (V, E); None where nothing is dropped."""
        if not self.rates.get("words"):
            return None
        return self.whole.drop_for("words")(weight.new_ones(1, 1, len(weight)))[0, 0][:, None]


@dataclass(frozen=True)
class Reading:
    """What a model makes of the units of some streams."""

    logits: Tensor  # (B, T, V): of the unit that follows each
    raw: Tensor  # (B, T, E): of the last LSTM
    dropped: Tensor  # the same after dropout
    state: State  # behind the last unit


class AwdLstm(LayeredModel):
    """The stack, and how it reads a running text. `forward` reads each row from its beginning, without dropout."""

    def __init__(self, layers: Mapping[str, Layer], spec: AwdLstmSpec) -> None:
        super().__init__(layers)
        self.tied = spec.tied
        self.spec = spec
        self.lstms = [name for name in layers if name.startswith("lstm_")]

    def rates(self, still: Sequence[str] = ()) -> dict[str, float]:
        """Dropout by place (`Masks`); none at the places of layers that stand `still`.

        A place behind a layer belongs to that layer; the one behind the last LSTM does too.
        """
        spec, last = self.spec, len(self.lstms)
        rates = {
            "embedding": {"words": spec.word_dropout, "input": spec.input_dropout},
            **{
                f"lstm_{n}": {f"weights_{n}": spec.weight_dropout, f"hidden_{n}": spec.hidden_dropout}
                for n in range(1, last)
            },
            f"lstm_{last}": {f"weights_{last}": spec.weight_dropout, "output": spec.output_dropout},
        }
        return {place: rate for layer, mine in rates.items() if layer not in still for place, rate in mine.items()}

    def read(self, units: Tensor, state: State | None = None, masks: Masks | None = None) -> Reading:
        """Units (B, T) from a state (None: from nothing before); masks None: nothing is dropped."""
        masks = masks or Masks({}, 0, 0, len(units))
        embedding, decoder = self.layer("embedding"), self.layer("decoder")
        assert isinstance(embedding, Embedding)
        words = masks.of_words(embedding.weight)
        x = F.embedding(units, embedding.weight if words is None else embedding.weight * words)
        x = raw = masks.locked("input", x)
        after = []
        for place, name in enumerate(self.lstms):
            layer = self.layer(name)
            assert isinstance(layer, Recurrent)
            mask = masks.of_weights(f"weights_{place + 1}", layer.recurrent)
            raw, behind = layer.step(x, state[place] if state else None, mask)
            after.append(behind)
            x = masks.locked("output" if name == self.lstms[-1] else f"hidden_{place + 1}", raw)
        logits, _ = decoder(x, torch.empty(0), _same)
        return Reading(logits, raw, x, tuple(after))


def _same(x: Tensor) -> Tensor:
    return x


def detached(state: State) -> State:
    """The same values, through which no gradient flows back."""
    return tuple((h.detach(), c.detach()) for h, c in state)
