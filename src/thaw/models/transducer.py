"""A transducer (Graves 2012): an encoder's frames and a network that predicts the next label, joined frame by frame.

The joint network and the prediction network, one LSTM as in Gulati et al. (2020), are one layer, the model's head. The
blank is the last class; it also stands before the first label.

Shapes: B batch, T encoder frames, D their width, U labels, P units of the prediction, V classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from thaw.models.layered import Drop, Labels, Layer, LayeredModel, Noise, keep
from thaw.models.lstm import State, through
from thaw.units import EVERY, ByLanguage, of_language

MOST_LABELS = 10  # of one frame, in the search: a model that has learnt nothing might never say blank


class Joint(Layer):
    """Prediction network (embedding, LSTM) and joint network: tanh of the sum of both sides, then the classes."""

    def __init__(self, width: int, units: int, classes: int) -> None:
        super().__init__()
        self.blank = classes - 1
        self.embedding = nn.Embedding(classes, units)
        self.prediction = nn.LSTM(units, units, batch_first=True)
        self.encoded = nn.Linear(width, units)
        self.predicted = nn.Linear(units, units, bias=False)
        self.classes = nn.Linear(units, classes)

    def forward(self, x: Tensor, lengths: Tensor, drop: Drop) -> tuple[Tensor, Tensor]:
        """A transducer says nothing of a frame alone: `Transducer.outputs` asks for `scores`."""
        raise RuntimeError("a transducer's head needs labels")

    def scores(self, x: Tensor, labels: Labels, drop: Drop) -> Tensor:
        """Frames (B, T, D) and labels (B, U) -> logits (B, T, U + 1, V): of what follows each number of labels."""
        begun = torch.cat([labels.ids.new_full((len(labels.ids), 1), self.blank), labels.ids], dim=1)
        predicted, _ = through(self.prediction, self.embedding(begun))
        return self.joined(x.unsqueeze(2), drop(predicted).unsqueeze(1))

    def joined(self, x: Tensor, predicted: Tensor) -> Tensor:
        """Frames (…, D) and predictions (…, P) that broadcast -> logits (…, V)."""
        logits: Tensor = self.classes(torch.tanh(self.encoded(x) + self.predicted(predicted)))
        return logits

    def step(self, labels: Tensor, state: State | None) -> tuple[Tensor, State]:
        """The prediction (N, P) behind one more label (N,) each."""
        predicted, state = through(self.prediction, self.embedding(labels.unsqueeze(1)), state)
        return predicted.squeeze(1), state

    def reset_parameters(self, generator: torch.Generator) -> None:
        """As torch draws such modules: uniform by fan-in, the LSTM's by its units, embeddings normal."""
        units = self.embedding.embedding_dim
        with torch.no_grad():
            self.embedding.weight.copy_(torch.empty(self.embedding.weight.shape).normal_(generator=generator))
            for name, parameter in self.named_parameters():
                if not name.startswith("embedding"):
                    fan = units if not name.startswith("encoded") else self.encoded.in_features
                    drawn = torch.empty(parameter.shape).uniform_(-1, 1, generator=generator)
                    parameter.copy_(drawn / math.sqrt(fan))


class Transducer(LayeredModel):
    """A stack of layers, and behind it a `Joint` for each language."""

    taught: ClassVar[bool] = True

    def __init__(self, shared: Mapping[str, Layer], heads: ByLanguage[Joint], names: ByLanguage[str]) -> None:
        own = {names[lang]: heads[lang] for lang in sorted(heads)}
        super().__init__({**shared, **own}, {lang: (names[lang],) for lang in sorted(heads)})

    def path(self, lang: str = EVERY) -> tuple[str, ...]:
        """As far as it goes without labels: the stack."""
        return self.trunk

    def joint(self, lang: str = EVERY) -> Joint:
        """The head of a language."""
        head = self.layer(of_language(self.heads_of, lang)[0])
        assert isinstance(head, Joint)
        return head

    def outputs(
        self, x: Tensor, lengths: Tensor, noise: Noise | None = None, lang: str = EVERY, labels: Labels | None = None
    ) -> dict[str, Tensor]:
        """Logits (B, T, U + 1, V) of the head; nothing without labels."""
        if labels is None:
            return {}
        name = of_language(self.heads_of, lang)[0]
        drop = keep if noise is None else noise.drop_for(name)
        return {name: self.joint(lang).scores(x, labels, drop)}

    @torch.no_grad()
    def search(self, x: Tensor, lengths: Tensor, lang: str = EVERY) -> list[list[int]]:
        """The labels of each utterance of frames x (B, T, D), lengths (B,): always the likeliest class, label or blank.

        After a label the frame is asked again, at most MOST_LABELS times; after a blank the next one is.
        """
        joint = self.joint(lang)
        found: list[list[int]] = [[] for _ in x]
        last = torch.full((len(x),), joint.blank, device=x.device)
        predicted, (hidden, cell) = joint.step(last, None)
        x = x.to(predicted.dtype)  # a training in bf16 has encoded it in that
        for frame in range(x.shape[1]):
            rows = (lengths.to(x.device) > frame).nonzero().squeeze(1)
            for _ in range(MOST_LABELS):
                best = joint.joined(x[rows, frame], predicted[rows]).argmax(dim=-1)
                rows, best = rows[best != joint.blank], best[best != joint.blank]
                if not len(rows):
                    break
                for row, label in zip(rows.tolist(), best.tolist(), strict=True):
                    found[row].append(label)
                predicted[rows], state = joint.step(best, (hidden[:, rows], cell[:, rows]))
                hidden[:, rows], cell[:, rows] = state
        return found
