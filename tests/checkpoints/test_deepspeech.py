"""DeepSpeech checkpoints: TensorFlow's numbers with thaw's model, and every way in which a checkpoint may not fit.

The expected numbers were made by TensorFlow's own operations; see make_golden.py.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.checkpoints import writer
from thaw.checkpoints.bundle import Bundle
from thaw.checkpoints.deepspeech import LSTM, OPAQUE, WEIGHTS, Imported, import_deepspeech, to_thaw
from thaw.config.models import DeepSpeechSpec
from thaw.errors import UserError
from thaw.frontends import features
from thaw.surgery.operations import Load
from thaw.surgery.surgery import prepare
from thaw.tasks.ctc import ctc_loss
from thaw.training.optim import AdamTF
from thaw.units import Alphabet

DATA = Path(__file__).parent / "data"
ALPHABET = Alphabet(" abc'")
SCALE, LEARNING_RATE = 20.0, 0.01  # as in make_golden.py
LABELS = ([1, 2, 2, 0, 3], [4, 1])

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def golden() -> Arrays:
    return dict(np.load(DATA / "golden.npz"))


@pytest.fixture(scope="module")
def real() -> Arrays:
    bundle = Bundle(DATA / "best_dev-3")
    return {name: bundle.read(name) for name in bundle.entries}


@pytest.fixture
def imported() -> Imported:
    return import_deepspeech(Bundle(DATA / "best_dev-3"), ALPHABET)


def of(tmp_path: Path, tensors: Arrays, alphabet: Alphabet = ALPHABET, spec: DeepSpeechSpec | None = None) -> Imported:
    return import_deepspeech(Bundle(writer.bundle(tmp_path / "m", tensors)), alphabet, spec)


def batch(golden: Arrays) -> tuple[Tensor, Tensor]:
    """Both utterances' features by TensorFlow, (2, T, 26), and their lengths."""
    mfcc = [torch.from_numpy(golden[f"mfcc_{n}"]) / SCALE for n in range(2)]
    return torch.nn.utils.rnn.pad_sequence(mfcc, batch_first=True), torch.tensor([len(x) for x in mfcc])


def loss_of(logits: Tensor, lengths: Tensor) -> Tensor:
    targets = torch.tensor([label for labels in LABELS for label in labels], dtype=torch.int32)
    return ctc_loss(logits, lengths, targets, torch.tensor([len(labels) for labels in LABELS])).mean()


def test_front_end_gives_tensorflows_features(golden: Arrays):
    for n in range(2):
        np.testing.assert_allclose(features("deepspeech", golden[f"pcm_{n}"]), golden[f"mfcc_{n}"], rtol=0, atol=2e-5)


def test_model_gives_tensorflows_logits_and_loss(imported: Imported, golden: Arrays):
    assert imported.spec == DeepSpeechSpec(kind="deepspeech", hidden=6, context=2)
    x, lengths = batch(golden)
    logits, _ = imported.model(x, lengths)
    expected = torch.from_numpy(golden["logits"]).transpose(0, 1)
    for row, length in enumerate(lengths.tolist()):
        assert expected[row, :length].std() > 0.1
        torch.testing.assert_close(logits[row, :length], expected[row, :length], rtol=0, atol=2e-6)
    torch.testing.assert_close(loss_of(logits, lengths).item(), float(golden["loss"]), rtol=1e-6, atol=0)


def test_next_step_is_tensorflows(imported: Imported, golden: Arrays):
    surgery = prepare(
        imported.model, [Load("start", tuple(imported.model.layers))], {"start": imported.model.state_dict()}
    )
    optimizer = AdamTF(surgery.trainable())
    taken = optimizer.transfer(imported.optimizer, surgery.kept_parameters())
    assert taken == list(surgery.trainable())
    assert optimizer.t == 3
    logits, lengths = imported.model(*batch(golden))
    loss_of(logits, lengths).backward()
    optimizer.step(LEARNING_RATE)
    state = imported.model.state_dict()
    for name in WEIGHTS:
        for key, values in to_thaw(name, golden[f"after/{name}"]).items():
            np.testing.assert_allclose(state[key].numpy(), values, rtol=0, atol=2e-6, err_msg=key)


def test_cudnns_moments_are_those_of_the_kernel(tmp_path: Path, imported: Imported, real: Arrays, golden: Arrays):
    tensors = {name: values for name, values in real.items() if not name.startswith(f"{LSTM}/") or "Adam" not in name}
    tensors |= {f"{OPAQUE}/Adam": golden["opaque_m"], f"{OPAQUE}/Adam_1": golden["opaque_v"]}
    cudnn = of(tmp_path, tensors)
    assert cudnn.optimizer.keys() == imported.optimizer.keys()
    for name, tensor in imported.optimizer.items():
        assert torch.equal(tensor, cudnn.optimizer[name]), name
    assert torch.count_nonzero(cudnn.optimizer["layers.lstm.weight_hh/v"])
    assert cudnn.record["optimizer"]["without_moments"] == []
    assert "trained by cuDNN" in cudnn.record["notes"][0]


def test_cudnns_moments_are_left_out_where_its_biases_disagree(tmp_path: Path, real: Arrays, golden: Arrays):
    tensors = {name: values for name, values in real.items() if not name.startswith(f"{LSTM}/") or "Adam" not in name}
    tensors |= {f"{OPAQUE}/Adam": golden["opaque_m"], f"{OPAQUE}/Adam_1": golden["opaque_v"][::-1].copy()}
    cudnn = of(tmp_path, tensors)
    lstm = [f"layers.lstm.{part}" for part in ("weight_ih", "weight_hh", "bias")]
    assert cudnn.record["optimizer"]["without_moments"] == lstm
    assert cudnn.record["left"] == [f"{OPAQUE}/Adam", f"{OPAQUE}/Adam_1"]
    assert not any(name.startswith("layers.lstm") for name in cudnn.optimizer)
    assert "layers.layer_5.weight/m" in cudnn.optimizer


def test_record_says_where_each_variable_went(imported: Imported):
    record = imported.record
    assert record["parameters"] == 130 * 6 + 6 + 3 * 42 + 12 * 24 + 24 + 6 * 6 + 6 == 1266
    kernel = record["variables"][f"{LSTM}/kernel"]
    assert kernel == {
        "shape": [12, 24],
        "type": "float32",
        "to": ["layers.lstm.weight_ih", "layers.lstm.weight_hh"],
    }
    assert record["variables"]["layer_6/bias/Adam_1"]["to"] == ["layers.layer_6.bias/v"]
    assert (record["left"], record["notes"]) == ([], [])
    optimizer = record["optimizer"]
    assert (optimizer["step"], optimizer["global_step"], optimizer["moments"]) == (3, 3, 13)
    assert optimizer["learning_rate"] == pytest.approx(LEARNING_RATE)


def test_without_moments_the_optimizer_begins_afresh(tmp_path: Path, real: Arrays):
    bare = of(tmp_path, {name: values for name, values in real.items() if "Adam" not in name})
    assert {name: int(value) for name, value in bare.optimizer.items()} == {"step": 0}
    assert "begins afresh" in bare.record["notes"][0]


def test_layers_frozen_in_the_checkpoint_have_no_moments(tmp_path: Path, real: Arrays):
    frozen = of(
        tmp_path, {name: v for name, v in real.items() if not name.startswith("layer_1/") or "Adam" not in name}
    )
    assert frozen.record["optimizer"]["without_moments"] == ["layers.layer_1.weight", "layers.layer_1.bias"]
    assert "share the step count" in frozen.record["notes"][-1]


def test_step_count(tmp_path: Path, real: Arrays):
    long = {"global_step": np.array(732522, np.int64), "beta2_power": np.array(0.0, np.float32)}
    assert int(of(tmp_path, real | long).optimizer["step"]) == 732522
    fresh = real | {"global_step": np.array(5000, np.int64)}  # beta2_power is that of step 3
    again = of(tmp_path, fresh)
    assert int(again.optimizer["step"]) == 3
    assert "global_step is 5000, but Adam took 3 steps" in again.record["notes"][0]
    with pytest.raises(UserError, match="counters make no sense"):
        of(tmp_path, real | {"global_step": np.array(-1, np.int64)})
    with pytest.raises(UserError, match="no global_step"):
        of(tmp_path, {name: values for name, values in real.items() if name != "global_step"})


def test_missing_and_unknown_variables_are_named_together(tmp_path: Path, real: Arrays):
    tensors = {name: values for name, values in real.items() if name not in ("layer_5/bias", f"{LSTM}/kernel")}
    tensors["layer_1/layer_norm/gamma"] = np.ones(6, np.float32)
    with pytest.raises(UserError) as error:
        of(tmp_path, tensors)
    assert f"it lacks layer_5/bias, {LSTM}/kernel and also has layer_1/layer_norm/gamma" in str(error.value)
    with pytest.raises(UserError, match=r"and 88 more$"):
        of(tmp_path, real | {f"other/{n}": np.zeros(1, np.float32) for n in range(100)})


def test_what_does_not_fit_alphabet_or_model_is_named(tmp_path: Path, real: Arrays):
    with pytest.raises(UserError, match="alphabet has 3 characters but layer_6 has 6 outputs, so its alphabet has 5"):
        of(tmp_path, real, Alphabet("abc"))
    with pytest.raises(UserError, match=r"layer_1/weights is \(130, 6\) of float32, expected \(494, 6\)$"):
        of(tmp_path, real, spec=DeepSpeechSpec(kind="deepspeech", hidden=6))
    wrong = {"layer_2/weights": np.zeros((5, 6), np.float32), "layer_3/bias": np.zeros(6, np.float64)}
    with pytest.raises(UserError, match=r"layer_2/weights is \(5, 6\).*; layer_3/bias is \(6,\) of float64") as error:
        of(tmp_path, real | wrong)
    assert "layer_5" not in str(error.value)
    with pytest.raises(UserError, match="an odd number of frames"):
        of(tmp_path, real | {"layer_1/weights": np.zeros((52, 6), np.float32)})
    with pytest.raises(UserError, match=r"opaque_kernel/Adam is \(3,\) of float32, expected \(336,\)"):
        of(tmp_path, real | {f"{OPAQUE}/{slot}": np.zeros(3, np.float32) for slot in ("Adam", "Adam_1")})


def test_a_diverged_checkpoint_is_refused(tmp_path: Path, real: Arrays):
    with pytest.raises(UserError, match="layer_5/bias holds values that are not finite"):
        of(tmp_path, real | {"layer_5/bias": np.array([0, 0, math.nan, 0, 0, 0], np.float32)})
