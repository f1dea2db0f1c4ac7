"""The recurrent models of the top-down study, put together: convolutions, bidirectional LSTMs, one head or two."""

from __future__ import annotations

from thaw.config.rnn import BlstmSpec
from thaw.frontends import dimension
from thaw.models.attention import RecurrentCtcAttention
from thaw.models.blstm import Linear, ProjectedBlstm, blstm_stack
from thaw.models.layered import Layer, LayeredModel, with_heads
from thaw.models.normalising import Normaliser
from thaw.models.vgg import Vgg, vgg_units
from thaw.units import EVERY, ByLanguage


def blstm(spec: BlstmSpec, classes: ByLanguage[int]) -> LayeredModel:
    """The model with a head of V outputs for every language of `classes`, its weights not yet drawn.

    With a decoder it has one language, V outputs of CTC and as many of the decoder.
    """
    channels, encoder = dimension(spec.frontend), dict[str, Layer]()
    if spec.vgg:
        encoder["vgg"] = Vgg(spec.vgg)
    encoder |= blstm_stack(spec, vgg_units(channels, spec.vgg) if spec.vgg else channels)
    first = next(iter(encoder.values()))
    assert isinstance(first, Vgg | ProjectedBlstm)
    first.normaliser = Normaliser(channels) if spec.features == "fbank" else None
    if spec.decoder:
        return RecurrentCtcAttention(encoder, spec.projection, spec.decoder, classes[EVERY])
    return with_heads(spec, encoder, {lang: Linear(spec.projection, count) for lang, count in classes.items()})
