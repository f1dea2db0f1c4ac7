"""The transducer: its loss against all alignments written out, its search, and a model that learns with it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.decoding.test_decode import write_shard
from thaw.config.conformer import ConformerSpec
from thaw.config.decoders import BeamSpec, GreedySpec
from thaw.config.models import misfit
from thaw.config.probes import ProbeSpec
from thaw.config.tasks import CTC, RnntSpec
from thaw.decoding.decode import decode
from thaw.errors import UserError
from thaw.models import build, save_model
from thaw.models.layered import Labels, Noise, keep
from thaw.models.transducer import MOST_LABELS, Joint, Transducer
from thaw.probing.probe import probe
from thaw.surgery.surgery import parameter_counts
from thaw.tasks.rnnt import rnnt_loss

SPEC = ConformerSpec(kind="conformer", variant="mini-S", norm="group", head="rnnt")
CLASSES = 5


def randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def made(classes: int = CLASSES) -> Transducer:
    model = build(SPEC, classes)
    model.initialise(1)
    assert isinstance(model, Transducer)
    return model.eval()


def labels(*rows: list[int]) -> Labels:
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = torch.tensor(row)
    return Labels(ids, torch.tensor([len(row) for row in rows]))


def likelihood(log_probs: Tensor, targets: list[int]) -> Tensor:
    """Of all ways to say the targets (U) within T frames: log_probs (T, U + 1, V), a last blank ends."""
    frames, blank = len(log_probs), log_probs.shape[-1] - 1
    ways = []
    for at in itertools.combinations_with_replacement(range(frames), len(targets)):
        total = log_probs.new_zeros(())
        for frame in range(frames):
            said = [place for place, when in enumerate(at) if when == frame]
            before = sum(when < frame for when in at)
            for number, place in enumerate(said):
                total = total + log_probs[frame, before + number, targets[place]]
            total = total + log_probs[frame, before + len(said), blank]
        ways.append(total)
    return torch.stack(ways).logsumexp(0)


def test_the_loss_is_of_all_alignments() -> None:
    """Also of a shorter utterance in a padded batch, whatever the padding holds."""
    targets, frames = [[1, 0, 1], [2]], [4, 2]
    logits = randn(2, 6, 5, CLASSES) * 3
    flat = torch.tensor([label for row in targets for label in row], dtype=torch.int32)
    found = rnnt_loss(logits, torch.tensor(frames), flat, torch.tensor([3, 1]))
    for row in range(2):
        log_probs = logits[row, : frames[row], : len(targets[row]) + 1].log_softmax(-1)
        torch.testing.assert_close(found[row], -likelihood(log_probs, targets[row]), rtol=1e-5, atol=1e-5)


def test_padding_of_frames_and_labels_changes_nothing() -> None:
    model, x = made(), randn(2, 61, 80)
    lengths, both = torch.tensor([61, 30]), labels([1, 2, 3], [2])
    encoded, frames = model(x, lengths, upto=len(model.trunk))
    logits = model.outputs(encoded, frames, labels=both)["output"]
    assert logits.shape == (2, 16, 4, CLASSES)
    alone, shorter = model(x[1:, :30], lengths[1:], upto=len(model.trunk))
    other = model.outputs(alone, shorter, labels=labels([2]))["output"]
    torch.testing.assert_close(logits[1:, :8, :2], other, rtol=1e-5, atol=1e-5)
    assert model.search(encoded, frames) == [
        *model.search(encoded[:1], frames[:1]), *model.search(alone, shorter)
    ]  # fmt: skip


def test_the_search_takes_the_likeliest_class_every_time() -> None:
    """Followed through the logits that the joint network gives when it is taught what was found."""
    model = made()
    joint = model.joint()
    with torch.no_grad():
        for parameter in joint.parameters():
            parameter.mul_(3)  # so that some frames say labels, and some none
        joint.classes.bias[joint.blank] += 1.5
    encoded, frames = randn(3, 12, 32) * 2, torch.tensor([12, 7, 1])
    found = model.search(encoded, frames)
    assert any(found)
    for row, said in enumerate(found):
        ids = labels(said or [0])
        logits = joint.scores(encoded[row : row + 1], Labels(ids.ids[:, : len(said)], ids.lengths), keep)[0]
        at = 0
        for frame in range(int(frames[row])):
            for _ in range(MOST_LABELS):
                best = int(logits[frame, at].argmax())
                if best == joint.blank:
                    break
                assert best == said[at]
                at += 1
        assert at == len(said)


def test_a_model_that_never_says_blank_comes_to_an_end() -> None:
    model = made()
    with torch.no_grad():
        model.joint().classes.bias[CLASSES - 1] = -100.0
    (found,) = model.search(randn(1, 4, 32), torch.tensor([4]))
    assert len(found) == 4 * MOST_LABELS


def test_it_learns_to_say_what_it_was_told() -> None:
    model = made()
    x, lengths, told = randn(3, 60, 80), torch.tensor([60, 50, 40]), [[1, 2, 3], [3, 3], [0, 1, 0, 2]]
    flat = torch.tensor([label for row in told for label in row], dtype=torch.int32)
    counts = torch.tensor([len(row) for row in told])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    losses = []
    for _ in range(150):
        encoded, frames = model(x, lengths, upto=len(model.trunk))
        loss = rnnt_loss(model.outputs(encoded, frames, labels=labels(*told))["output"], frames, flat, counts).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    assert model.search(*model(x, lengths, upto=len(model.trunk))) == told


def test_dropout_of_the_prediction_is_of_the_utterance() -> None:
    model = made()
    encoded, frames, both = randn(2, 8, 32), torch.tensor([8, 8]), labels([1, 2, 3], [2])
    rates = {"output": 0.5}
    noisy = model.outputs(encoded, frames, Noise(rates, 1, 1, ["a", "b"]), labels=both)["output"]
    assert not torch.allclose(noisy, model.outputs(encoded, frames, labels=both)["output"])
    alone = model.outputs(encoded[1:], frames[1:], Noise(rates, 1, 1, ["b"]), labels=labels([2]))["output"]
    torch.testing.assert_close(noisy[1:, :, :2], alone, rtol=1e-5, atol=1e-5)


def test_its_sizes() -> None:
    spec = ConformerSpec(kind="conformer", variant="S", head="rnnt")
    with torch.device("meta"):
        counts = parameter_counts(build(spec, 29))["by_layer"]
    assert counts["output"] == 29 * 320 + 8 * 320**2 + 8 * 320 + 145 * 320 + 320**2 + 321 * 29
    joint = made().joint()
    again = Joint(32, 32, CLASSES)
    again.reset_parameters(torch.Generator().manual_seed(1))
    assert all(tensor.abs().max() <= 32**-0.5 for name, tensor in again.named_parameters() if "embedding" not in name)
    assert joint.embedding.weight.std() > 0.5


# --- where it is used -------------------------------------------------------------------------------------------------


def test_a_transducer_and_its_task_go_together() -> None:
    ctc = SPEC.model_copy(update={"head": "ctc"})
    assert not misfit(SPEC, RnntSpec(kind="rnnt"))
    assert "learns rnnt and no other, not ctc" in misfit(SPEC, CTC)
    assert "learns anything but rnnt" in misfit(ctc, RnntSpec(kind="rnnt"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shard(tmp_path)
    run: dict[str, Any] = {"seed": 1, "start": "scratch", "reset": [], "output_rows": "fresh"}
    meta = {"model": SPEC.model_dump(mode="json"), "alphabet": " abc", "run": run, "epoch": 3, "task": {"kind": "rnnt"}}
    save_model(tmp_path / "model.safetensors", made(), meta)
    return tmp_path


def test_it_is_decoded_and_probed_greedily(folder: Path) -> None:
    model, manifest = folder / "model.safetensors", folder / "test.jsonl"
    rows, _ = decode(GreedySpec(kind="greedy"), model, manifest, device="cpu")
    probed = probe(
        ProbeSpec.model_validate({"operations": {"none": [], "joint": [{"reset": ["output"], "seed": 7}]}}),
        model, [manifest], device="cpu",
    )  # fmt: skip
    place = {"name": "none", "split": "test"}
    assert [row for row in probed.hypotheses if row["name"] == "none"] == [place | row for row in rows]
    assert [row for row in probed.hypotheses if row["name"] == "joint"] != [
        {"name": "joint", "split": "test"} | row for row in rows
    ]


def test_other_decoders_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"beam|transducer"):
        decode(BeamSpec(kind="beam"), folder / "model.safetensors", folder / "test.jsonl", device="cpu")
