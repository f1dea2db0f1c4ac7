"""Make the files of tests/checkpoints/data with TensorFlow itself: pip install tensorflow-cpu; python make_golden.py.

TensorFlow is not needed to run the tests. The graph is DeepSpeech 0.7.4's (mozilla/DeepSpeech v0.7.4,
training/deepspeech_training/train.py and util/feeding.py) in its CPU form, small, with the same operations and names.

    best_dev-3.index, best_dev-3.data-00000-of-00001, best_dev_checkpoint: weights and Adam's slots after three steps
    golden.npz: samples and features of two utterances; logits (of features / SCALE) and loss at step 3; all weights
        after step 4; Adam's slots of the LSTM joined as cuDNN holds its weights (`opaque_m`, `opaque_v`), by Keras'
        own function
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow.rnn import _standardize_cudnn_weights

DATA = Path(__file__).parent / "data"
HIDDEN, CONTEXT, INPUT, CLASSES = 6, 2, 26, 6
SAMPLES = (6400, 3500)
LABELS = ([1, 2, 2, 0, 3], [4, 1])
LEARNING_RATE = 0.01
SCALE = np.float32(20)  # so that so few units do not saturate
LSTM = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"


def samples() -> list[np.ndarray]:
    """A chirp under noise, and noise that swells."""
    random = np.random.default_rng(7)
    t = np.arange(SAMPLES[0]) / 16000
    chirp = 6000 * np.sin(2 * np.pi * (200 * t + 6000 * t**2)) + random.normal(0, 100, SAMPLES[0])
    swell = random.normal(0, 900, SAMPLES[1]) * np.linspace(0, 1, SAMPLES[1])
    return [np.round(x).astype(np.int16) for x in (chirp, swell)]


def features(pcm: np.ndarray) -> tf.Tensor:
    """(N,) int16 -> (T, 26)."""
    audio = (pcm.astype(np.float32) / 32767)[:, None]
    spectrogram = tf.raw_ops.AudioSpectrogram(input=audio, window_size=512, stride=320, magnitude_squared=True)
    mfcc = tf.raw_ops.Mfcc(
        spectrogram=spectrogram, sample_rate=16000, upper_frequency_limit=8000, dct_coefficient_count=INPUT
    )
    return mfcc[0]


def windows(batch: tf.Tensor) -> tf.Tensor:
    """(B, T, 26) -> (B, T, 26 · (2 · CONTEXT + 1)), by a convolution with an identity filter."""
    width = 2 * CONTEXT + 1
    identity = np.eye(width * INPUT, dtype=np.float32).reshape(width, INPUT, width * INPUT)
    return tf.nn.conv1d(input=batch, filters=identity, stride=1, padding="SAME")


def variable(name: str, *shape: int) -> tf.Variable:
    v1 = tf.compat.v1
    return v1.get_variable(name, shape, tf.float32, v1.random_uniform_initializer(-0.4, 0.4))


def dense(name: str, x: tf.Tensor, outputs: int, clip: bool = True) -> tf.Tensor:
    bias, weights = variable(f"{name}/bias", outputs), variable(f"{name}/weights", int(x.shape[-1]), outputs)
    y = tf.nn.bias_add(tf.matmul(x, weights), bias)
    return tf.minimum(tf.nn.relu(y), 20.0) if clip else y


def network(batch: tf.Tensor, lengths: list[int]) -> tf.Tensor:
    """(B, T, 26) -> time-major logits (T, B, V)."""
    frames = max(lengths)
    x = tf.transpose(windows(batch), [1, 0, 2])
    x = tf.reshape(x, [-1, INPUT * (2 * CONTEXT + 1)])
    for name in ("layer_1", "layer_2", "layer_3"):
        x = dense(name, x, HIDDEN)
    x = tf.reshape(x, [frames, len(lengths), HIDDEN])
    kernel, bias = variable(f"{LSTM}/kernel", 2 * HIDDEN, 4 * HIDDEN), variable(f"{LSTM}/bias", 4 * HIDDEN)
    zero, peephole = tf.zeros([len(lengths), HIDDEN]), tf.zeros([HIDDEN])
    x = tf.raw_ops.BlockLSTM(
        seq_len_max=tf.constant(frames, tf.int64),
        x=x, cs_prev=zero, h_prev=zero, w=kernel, wci=peephole, wcf=peephole, wco=peephole, b=bias,
        forget_bias=0.0, cell_clip=-1.0, use_peephole=False,
    ).h  # fmt: skip
    x = dense("layer_5", tf.reshape(x, [-1, HIDDEN]), HIDDEN)
    return tf.reshape(dense("layer_6", x, CLASSES, clip=False), [frames, len(lengths), CLASSES])


def opaque(kernel: np.ndarray, bias: np.ndarray) -> tf.Tensor:
    """Kernel and bias of TensorFlow's (gates i, c, f, o) as cuDNN's one vector; both its biases take `bias`."""
    i, c, f, o = np.split(kernel, 4, axis=1)
    gates = (i, f, c, o)
    bi, bc, bf, bo = np.split(bias, 4)
    return _standardize_cudnn_weights(
        weights=[g[:HIDDEN] for g in gates] + [g[HIDDEN:] for g in gates],
        biases=[bi, bf, bc, bo] * 2,
        shape=tf.constant([-1]),
        transpose_weights=True,
    )


def main() -> None:
    """Train four steps, save after the third."""
    v1 = tf.compat.v1
    v1.disable_eager_execution()
    v1.set_random_seed(11)
    pcm = samples()
    mfcc = v1.Session().run([features(x) for x in pcm])
    lengths = [len(x) for x in mfcc]
    batch = np.stack([np.pad(x, ((0, max(lengths) - len(x)), (0, 0))) for x in mfcc])
    logits = network(tf.constant(batch / SCALE), lengths)
    labels = tf.ragged.constant(LABELS, dtype=tf.int32).to_sparse()
    loss = tf.reduce_mean(v1.nn.ctc_loss(labels=labels, inputs=logits, sequence_length=lengths))
    global_step = v1.train.get_or_create_global_step()
    v1.get_variable("learning_rate", initializer=LEARNING_RATE, trainable=False)
    optimizer = v1.train.AdamOptimizer(LEARNING_RATE, 0.9, 0.999, 1e-8)
    step = optimizer.minimize(loss, global_step=global_step)
    weights = {v.op.name: v for v in v1.trainable_variables()}
    with v1.Session() as session, tempfile.TemporaryDirectory() as folder:
        session.run(v1.global_variables_initializer())
        for _ in range(3):
            session.run(step)
        v1.train.Saver(max_to_keep=1).save(
            session, f"{folder}/best_dev", global_step, latest_filename="best_dev_checkpoint", write_meta_graph=False
        )
        for path in Path(folder).glob("best_dev-*"):
            shutil.copyfile(path, DATA / path.name)
        state = Path(folder, "best_dev_checkpoint").read_text().replace(folder, "/another/machine")
        (DATA / "best_dev_checkpoint").write_text(state)
        golden = {f"pcm_{n}": x for n, x in enumerate(pcm)} | {f"mfcc_{n}": x for n, x in enumerate(mfcc)}
        golden |= {"logits": session.run(logits), "loss": session.run(loss)}
        for slot in ("m", "v"):
            parts = [session.run(optimizer.get_slot(weights[f"{LSTM}/{p}"], slot)) for p in ("kernel", "bias")]
            golden[f"opaque_{slot}"] = session.run(opaque(*parts))
        session.run(step)
        golden |= {f"after/{name}": session.run(v) for name, v in weights.items()}
    np.savez_compressed(DATA / "golden.npz", **golden)


if __name__ == "__main__":
    main()
