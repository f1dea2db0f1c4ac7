"""Layers by place mean the same in every model."""

from __future__ import annotations

import pytest

from thaw.config.dnn import DnnSpec
from thaw.config.layers import named_layers
from thaw.config.models import DeepSpeechSpec, QuartzNetSpec, head_names, layer_names, places

DEEPSPEECH = DeepSpeechSpec(kind="deepspeech").layer_names
QUARTZNET = QuartzNetSpec(kind="quartznet", variant="mini-3x1").layer_names


@pytest.mark.parametrize(
    ("references", "layers", "meant"),
    [
        (["output"], DEEPSPEECH, ("layer_6",)),
        (["output"], QUARTZNET, ("decoder",)),
        (["first-2"], QUARTZNET, ("conv_1", "block_1")),
        (["last-2", "layer_1"], DEEPSPEECH, ("layer_1", "layer_5", "layer_6")),
        (["first-2", "layer_2", "layer_1"], DEEPSPEECH, ("layer_1", "layer_2")),
        (["first-6"], DEEPSPEECH, DEEPSPEECH),
        ([], DEEPSPEECH, ()),
    ],
)
def test_what_is_meant(references: list[str], layers: tuple[str, ...], meant: tuple[str, ...]) -> None:
    assert named_layers(references, layers) == meant


@pytest.mark.parametrize("reference", ["first-7", "first-0", "last-", "layer_7", "Output", "first-1.5"])
def test_what_means_nothing(reference: str) -> None:
    with pytest.raises(KeyError, match=reference):
        named_layers(["layer_1", reference], DEEPSPEECH)


def test_output_means_all_heads_and_they_count_as_one_place() -> None:
    layers = ("one", "two", "out_aa", "out_bb")
    heads = ("out_aa", "out_bb")
    assert named_layers(["output"], layers, heads) == heads
    assert named_layers(["last-2"], layers, heads) == ("two", *heads)
    assert named_layers(["first-2"], layers, heads) == ("one", "two")
    assert named_layers(["out_bb"], layers, heads) == ("out_bb",)
    with pytest.raises(KeyError):
        named_layers(["last-4"], layers, heads)


def test_all_that_stands_at_one_place_counts_as_one() -> None:
    spec = DnnSpec(kind="dnn", layers=3, hidden=8)
    langs = ("aa", "bb")
    stack = layer_names(spec, langs), head_names(spec, langs), places(spec, langs)
    own = ("hidden_3_aa", "hidden_3_bb", "output_aa", "output_bb")
    assert stack[0] == ("hidden_1", "hidden_2", *own)
    assert named_layers(["last-2"], *stack) == own
    assert named_layers(["first-3"], *stack) == ("hidden_1", "hidden_2", *own[:2])
    assert named_layers(["output"], *stack) == own[2:]
    assert layer_names(spec) == ("hidden_1", "hidden_2", "hidden_3", "output")
