"""The federated learner: rounds that are central training where they should be, and the same bytes whatever happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import Bench, make_bench, sentences, write_split
from tests.training.test_train_command import EVERY_STEP, assert_same_outputs, kill_when
from thaw.errors import EXIT_USER_ERROR
from thaw.files import read_json, read_jsonl, write_jsonl
from thaw.models import load_tensors

CLIENT = {"optimizer": "sgd", "learning_rate": 0.002, "max_gradient_norm": 5.0, "epochs": 3}
SPEAKERS = 10  # of the bench: the last letter of an id


def federated(bench: Bench, **learner: Any) -> Bench:
    return bench.with_recipe(**CLIENT, learner={"kind": "federated", "clients": 3, **learner})


def trained(bench: Bench, out: str, *extra: str, state: str = "") -> dict[str, torch.Tensor]:
    code, err = bench.run(out, *extra, state=state or f"state-{out}")
    assert code == 0, err
    return load_tensors(bench.outputs(out)["model"])[0]


@pytest.fixture
def alone(tmp_path: Path) -> Bench:
    """A corpus of one speaker."""
    bench = make_bench(tmp_path)
    texts = {f"{name}-a": text for name, text in sentences("train", 20).items()}
    return Bench(tmp_path, write_split(tmp_path, "alone", texts), bench.dev, bench.recipe)


# --- what a round is ------------------------------------------------------------------------------


@pytest.mark.parametrize(("rounds", "local_epochs"), [(1, 1), (2, 1), (1, 2)])
def test_one_client_is_plain_local_training_bit_for_bit(alone: Bench, rounds: int, local_epochs: int) -> None:
    """Dropout, clipping, the order of batches: all of it. More rounds or local epochs are more epochs between devs."""
    epochs = CLIENT["epochs"] * rounds * local_epochs
    local = trained(alone.with_recipe(**{**CLIENT, "epochs": epochs, "snapshots": ["last"]}), "local", *last(alone))
    clients = federated(alone, clients=1, rounds=rounds, local_epochs=local_epochs).with_recipe(snapshots=["last"])
    found = trained(clients, "clients", *last(alone, "clients"))
    for out in ("local", "clients"):
        tensors, _ = load_tensors(alone.folder / f"{out}-snapshots", "last")
        (local if out == "local" else found).update(tensors)
    assert local.keys() == found.keys()
    assert [name for name in local if not torch.equal(local[name], found[name])] == []
    rows, ours = (read_jsonl(alone.outputs(out)["metrics"]) for out in ("local", "clients"))
    period = rounds * local_epochs
    assert [row["dev_loss"] for row in ours] == [row["dev_loss"] for row in rows[period - 1 :: period]]
    if period == 1:
        assert [row["train_loss"] for row in ours] == [row["train_loss"] for row in rows]


def last(bench: Bench, out: str = "local") -> tuple[str, str]:
    return "--snapshots", str(bench.folder / f"{out}-snapshots")


def test_a_round_is_the_weighted_mean_of_its_clients(bench: Bench) -> None:
    """One round of all speakers, who have 4 utterances each; then uniform weights are the weights by samples."""
    whole = federated(bench, clients=SPEAKERS).with_recipe(epochs=1)
    tensors = trained(whole, "whole")
    uniform = trained(federated(bench, clients=SPEAKERS, weighting="uniform").with_recipe(epochs=1), "uniform")
    assert all(torch.equal(tensors[name], uniform[name]) for name in tensors)
    (row,) = read_jsonl(bench.outputs("whole")["metrics"])
    (one,) = row["rounds"]
    assert one["cohort"] == [str(number) for number in range(SPEAKERS)]
    assert one["left_out"] == []
    assert len(one["losses"]) == len(one["change_norms"]) == SPEAKERS
    assert 0 < one["mean_change_norm"] < max(one["change_norms"])
    record = read_json(bench.outputs("whole")["record"])
    total = record["parameters"]["total"]
    assert one["bytes_down"] == one["bytes_up"] == SPEAKERS * total * 4
    assert record["federated"]["parameters"] == {"total": total, "client": total, "saved": 0}
    assert row["audio_seconds"] == pytest.approx(record["corpora"]["train"]["hours"] * 3600)


def test_cohorts_depend_on_seed_and_round_alone(bench: Bench) -> None:
    def cohorts(name: str, **changes: Any) -> list[list[str]]:
        learner = changes.pop("learner", {})
        trained(federated(bench, rounds=2, **learner).with_recipe(**changes), name)
        return [one["cohort"] for row in read_jsonl(bench.outputs(name)["metrics"]) for one in row["rounds"]]

    first = cohorts("first")
    assert len(first) == 6
    assert len({tuple(cohort) for cohort in first}) > 3
    assert cohorts("other", dropout=0.2, learner={"server": {"optimizer": "adam", "learning_rate": 0.01}}) == first
    assert cohorts("fewer-periods", epochs=2) == first[:4]
    assert cohorts("seed", seed=2) != first


def test_clipping_bounds_each_clients_change(bench: Bench) -> None:
    trained(federated(bench, clip=1e-4), "clipped")
    for row in read_jsonl(bench.outputs("clipped")["metrics"]):
        for one in row["rounds"]:
            assert one["clipped"] == 3
            assert min(one["change_norms"]) > 1e-4
            assert one["mean_change_norm"] <= 1e-4 * (1 + 1e-9)


# --- resuming, processes --------------------------------------------------------------------------


@pytest.mark.parametrize("server", [{}, {"optimizer": "adam", "learning_rate": 0.01, "warmup_rounds": 2}])
def test_a_killed_round_goes_on_to_the_same_bytes(bench: Bench, server: dict[str, Any]) -> None:
    rounds = federated(bench, rounds=3, server=server)
    trained(rounds, "whole")
    for step in (1, 4):
        kill_when(rounds, step, *EVERY_STEP)
    trained(rounds, "out", *EVERY_STEP, state="state")
    assert_same_outputs(rounds, "out")


def test_processes_give_the_bits_of_one(bench: Bench) -> None:
    rounds = federated(bench, rounds=2, clients=5)
    trained(rounds, "whole")
    trained(rounds, "out", "--workers", "2")
    assert_same_outputs(rounds, "out")


@pytest.fixture
def dropping(bench: Bench) -> tuple[Bench, tuple[str, str]]:
    """A Conformer whose clients lack half of the hidden units of its two most critical blocks, and its ranking."""
    blocks = ["block_1", "block_2", "block_3", "block_4"]
    errors = dict(zip(blocks, (50, 90, 20, 60), strict=True))
    rows = [
        {
            "name": f"{block}-draw-1",
            "split": "test",
            "operations": [{"reset": [block], "seed": 1}],
            "measures": {"word": {"errors": errors[block], "total": 100}},
        }
        for block in blocks
    ]
    write_jsonl(bench.folder / "rows.jsonl", rows)
    learner = {"dropout": {"critical": 2}, "server": {"optimizer": "adam", "learning_rate": 0.01}}
    net = federated(bench, rounds=2, **learner).with_recipe(epochs=2, ranking="a probe")
    net.recipe["model"] = {"kind": "conformer", "variant": "mini-S", "norm": "group"}
    return net, ("--ranking", str(bench.folder / "rows.jsonl"))


def test_clients_lack_units_of_the_layers_that_a_ranking_names(dropping: tuple[Bench, tuple[str, str]]) -> None:
    """And neither a kill nor another number of processes changes a byte."""
    net, ranking = dropping
    trained(net, "whole", *ranking)
    record = read_json(net.outputs("whole")["record"])["federated"]
    rates = {"block_1": 0.1, "block_2": 0.5, "block_3": 0.1, "block_4": 0.5}
    assert record["unit_rates"] == [{"layer": layer, "rate": rate} for layer, rate in rates.items()]
    parameters = record["parameters"]
    units = sum(2 * (128 - round((1 - rate) * 128)) for rate in rates.values())
    assert parameters["saved"] == units * (2 * 32 + 1)
    assert record["bytes_down"] == record["bytes_up"] == 4 * 3 * 4 * parameters["client"]
    kill_when(net, 2, *ranking, *EVERY_STEP)
    trained(net, "out", *ranking, *EVERY_STEP, "--workers", "2", state="state")
    assert_same_outputs(net, "out")
    rows = read_jsonl(net.folder / "rows.jsonl")
    rows[1]["measures"]["word"]["errors"] = 9
    write_jsonl(net.folder / "rows.jsonl", rows)
    trained(net, "other", *ranking, state="state")  # another ranking meets no old state
    other = read_json(net.outputs("other")["record"])["federated"]["unit_rates"]
    assert [row["rate"] for row in other] == [0.5, 0.1, 0.1, 0.5]


# --- what it refuses --------------------------------------------------------------------------------


def refused(bench: Bench, *extra: str) -> str:
    code, err = bench.run("out", *extra)
    assert code == EXIT_USER_ERROR, err
    return err


def test_more_clients_than_speakers(bench: Bench) -> None:
    assert "11 in each round, but only 10 speakers" in refused(federated(bench, clients=11))


def test_a_batch_norm_wants_a_policy(bench: Bench) -> None:
    net = federated(bench)
    net.recipe["model"] = {"kind": "quartznet", "variant": "mini-3x1"}
    assert "take group norm, or set average" in refused(net)
    average = federated(bench, buffers="average").with_recipe(epochs=1)
    average.recipe["model"] = net.recipe["model"]
    tensors = trained(average, "average")
    variances = [tensor for name, tensor in tensors.items() if name.endswith("running_var")]
    assert variances
    assert not any(torch.equal(variance, torch.ones_like(variance)) for variance in variances)
    record = read_json(average.outputs("average")["record"])["federated"]
    assert record["bytes_up"] == record["bytes_down"] == 3 * sum(t.numel() * t.element_size() for t in tensors.values())


def test_a_model_without_hidden_units_has_none_to_leave_out(bench: Bench) -> None:
    assert "no layer with hidden units" in refused(federated(bench, dropout={}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine"}, "clients keep one rate"),
        ({"optimizer": "asgd"}, "a client forgets"),
        ({"drop_last": True}, "would train nothing"),
        ({"learner": {"kind": "federated", "clients": 2, "server": {"betas": [0.9, 0.9]}}}, "betas: sgd has none"),
        (
            {"learner": {"kind": "federated", "clients": 2, "dropout": {"critical": 1, "ambient": 1}}},
            "give one of layers, critical and ambient",
        ),
        ({"learner": {"kind": "federated", "clients": 2, "dropout": {"raised": 0.3}}}, "raised: of which layers"),
        ({"ranking": "abc"}, "the recipe's ranking is 'abc'"),
    ],
)
def test_recipes_that_clients_cannot_follow(bench: Bench, changes: dict[str, Any], message: str) -> None:
    assert message in refused(federated(bench).with_recipe(**changes))
