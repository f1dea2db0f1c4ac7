"""A Conformer in training: killed, frozen in part, and as a transducer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import TASKS, Bench, sentences, write_split
from tests.training.test_activations import CPU, prepared, recipe, trained
from tests.training.test_survival import EVERY_STEP, assert_same_outputs, kill_when
from thaw.config.conformer import ConformerSpec
from thaw.config.run import RunRecipe
from thaw.files import read_json
from thaw.training.activations import computed_once
from thaw.training.data import Examples, read_examples

CONFORMER: dict[str, Any] = {"kind": "conformer", "variant": "mini-S", "kernel": 5}
ADAM: dict[str, Any] = {"epochs": 2, "optimizer": "adam", "learning_rate": 0.002, "dropout": 0.1}


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (CONFORMER, ADAM),  # statistics of batch norms, and dropout
        ({**CONFORMER, "norm": "group", "head": "rnnt"}, {**ADAM, "task": {"kind": "rnnt"}}),
    ],
)
def test_a_killed_training_goes_on_to_the_same_bits(
    bench: Bench, model: dict[str, Any], changes: dict[str, Any]
) -> None:
    net = bench.with_recipe(**changes)
    net.recipe["model"] = model
    code, err = net.run("whole", state="state-whole")
    assert code == 0, err
    for step in (2, 7):
        kill_when(net, step, *EVERY_STEP)
    code, err = net.run("out", *EVERY_STEP)
    assert code == 0, err
    assert_same_outputs(net, "out")
    assert read_json(net.outputs("whole")["record"])["checks"]["start"]["trainable"]


def test_a_transducer_trains_in_bf16(bench: Bench) -> None:
    """Dev too, whose search goes through the weights as they are kept."""
    net = bench.with_recipe(**ADAM, task={"kind": "rnnt"}, precision="bf16")
    net.recipe["model"] = {**CONFORMER, "head": "rnnt"}
    code, err = net.run("out")
    assert code == 0, err
    assert read_json(net.outputs("out")["record"])["epochs"] == 2


def frozen(done: int) -> RunRecipe:
    run = recipe([], epochs=2, learning_rate=0.0005, optimizer="sgd")  # Adam would make much of a gradient that is 0
    run = run.model_copy(update={"model": ConformerSpec.model_validate({**CONFORMER, "norm": "group"})})
    return run.model_copy(update={"freeze": tuple(sorted(run.model.layer_names[:done]))})


@pytest.mark.parametrize("done", [1, 3])
def test_training_behind_kept_activations_is_the_same(done: int, tmp_path: Path) -> None:
    """To the bit, since the subsampling alone is kept: a block's attention sums over as many frames as a batch has."""
    splits: list[Examples] = []
    for name, count in (("train", 24), ("dev", 8)):
        path = write_split(tmp_path, name, sentences(name, count))
        splits.append(read_examples([path], TASKS, "nemo-80"))
    run = frozen(done)
    assert computed_once(prepared(run), run, splits, CPU) == 1
    whole, behind = trained(run, splits, 0), trained(run, splits, 1)
    assert all(
        torch.equal(tensor, behind.model.state_dict()[name]) for name, tensor in whole.model.state_dict().items()
    )
    first = prepared(run).model.state_dict()
    moved = {name for name, tensor in whole.model.state_dict().items() if not torch.equal(tensor, first[name])}
    assert not [name for name in moved if name.split(".")[1] in run.freeze]
    assert "layers.block_4.conv.inner_norm.weight" in moved
