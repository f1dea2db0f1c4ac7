"""Models: ordered stacks of named layers, built from the specifications of `thaw.config.models`."""

from __future__ import annotations

from thaw.config.awd_lstm import AwdLstmSpec
from thaw.config.conformer import ConformerSpec
from thaw.config.dnn import DnnSpec
from thaw.config.models import DeepSpeechSpec, ModelSpec, QuartzNetSpec
from thaw.config.rnn import BlstmSpec
from thaw.config.transformer import TransformerSpec
from thaw.models.awd_lstm import awd_lstm
from thaw.models.conformer import conformer
from thaw.models.deepspeech import deepspeech
from thaw.models.dnn import dnn
from thaw.models.layered import LayeredModel, Noise
from thaw.models.quartznet import quartznet
from thaw.models.recurrent import blstm
from thaw.models.store import load_model, load_tensors, save_model, save_tensors
from thaw.models.transformer import transformer
from thaw.units import EVERY, ByLanguage

__all__ = ["LayeredModel", "Noise", "build", "load_model", "load_tensors", "save_model", "save_tensors"]


def build(spec: ModelSpec, classes: int | ByLanguage[int]) -> LayeredModel:
    """The model of `spec` with V = `classes` outputs (units, and what the task adds: a blank, which is the last).

    Where `classes` maps languages to such numbers, each has a head of its own. Weights are not yet drawn.
    """
    heads = {EVERY: classes} if isinstance(classes, int) else classes
    match spec:
        case DeepSpeechSpec():
            return deepspeech(spec, heads)
        case QuartzNetSpec():
            return quartznet(spec, heads)
        case ConformerSpec():
            return conformer(spec, heads)
        case BlstmSpec():
            return blstm(spec, heads)
        case TransformerSpec():
            return transformer(spec, heads)
        case DnnSpec():
            return dnn(spec, heads)
        case AwdLstmSpec():
            return awd_lstm(spec, heads)
