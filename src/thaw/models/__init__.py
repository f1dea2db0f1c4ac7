"""Models: ordered stacks of named layers, built from the specifications of `thaw.config.models`."""

from __future__ import annotations

from thaw.config.models import DeepSpeechSpec, ModelSpec
from thaw.models.deepspeech import deepspeech
from thaw.models.layered import LayeredModel, Noise
from thaw.models.quartznet import quartznet
from thaw.models.store import load_model, load_tensors, save_model, save_tensors

__all__ = ["LayeredModel", "Noise", "build", "load_model", "load_tensors", "save_model", "save_tensors"]


def build(spec: ModelSpec, classes: int) -> LayeredModel:
    """The model of `spec` with V = `classes` outputs (alphabet + blank, blank last); its weights are not yet drawn."""
    return deepspeech(spec, classes) if isinstance(spec, DeepSpeechSpec) else quartznet(spec, classes)
