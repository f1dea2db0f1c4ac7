"""The bundle reader: a checkpoint that TensorFlow wrote, and all that a file may do wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints import writer
from thaw.checkpoints.bundle import Bundle
from thaw.errors import UserError

REAL = Path(__file__).parent / "data" / "best_dev-3"
TENSORS = {
    "a/weights": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a/weights/Adam": np.full((2,), 0.5, np.float64),
    "empty": np.zeros((0, 3), np.float32),
    "step": np.array(732522, np.int64),
    "z": np.array([[-1], [2**31 - 1]], np.int32),
}


def read_all(prefix: Path) -> dict[str, np.ndarray]:
    bundle = Bundle(prefix)
    return {name: bundle.read(name) for name in bundle.entries}


def test_a_checkpoint_of_tensorflow():
    bundle = Bundle(REAL)
    assert len(bundle.entries) == 40
    assert bundle.shape("layer_1/weights") == (130, 6)
    assert bundle.read("global_step") == 3
    np.testing.assert_allclose(bundle.read("beta2_power"), 0.999**4, rtol=1e-6)
    after = np.load(REAL.with_name("golden.npz"))
    for name in bundle.entries:
        values = bundle.read(name)
        assert values.shape == bundle.shape(name)
        if f"after/{name}" in after:  # one step of at most a few learning rates (0.01) later
            assert 0 < np.abs(values - after[f"after/{name}"]).max() < 0.05


@pytest.mark.parametrize(("shards", "per_block"), [(1, 1000), (3, 2), (2, 1)])
def test_types_shapes_shards_and_blocks(tmp_path: Path, shards: int, per_block: int):
    found = read_all(writer.bundle(tmp_path / "m", TENSORS, shards, per_block))
    assert found.keys() == TENSORS.keys()
    for name, values in TENSORS.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
    assert len(Bundle(tmp_path / "m").files()) == 1 + shards


def test_many_names_with_common_beginnings(tmp_path: Path):
    tensors = {f"layer/{n:04d}/weights": np.array(n, np.int32) for n in range(300)}
    assert all(values == tensors[name] for name, values in read_all(writer.bundle(tmp_path / "m", tensors)).items())


def test_missing_files_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"m\.index: no such file"):
        Bundle(tmp_path / "m")
    writer.bundle(tmp_path / "m", TENSORS)
    (tmp_path / "m.data-00000-of-00001").unlink()
    with pytest.raises(UserError, match=r"m\.data-00000-of-00001: no such file; a checkpoint is"):
        Bundle(tmp_path / "m").read("step")


def changed(tmp_path: Path, name: str, message: bytes) -> Bundle:
    """A bundle with another index entry for one tensor."""
    index, data = writer.rows(TENSORS)
    return Bundle(writer.write(tmp_path / "m", {**index, name.encode(): message}, data))


def test_what_is_not_read_is_refused(tmp_path: Path):
    values = TENSORS["a/weights"].tobytes()
    fine = writer.entry(1, (3, 4), 0, 0, 48, writer.masked(values))
    np.testing.assert_array_equal(changed(tmp_path, "a/weights", fine).read("a/weights"), TENSORS["a/weights"])
    with pytest.raises(UserError, match="a/weights was saved in slices"):
        changed(tmp_path, "a/weights", fine + writer.field(7, b"\n\x00")).read("a/weights")
    with pytest.raises(UserError, match="a/weights has TensorFlow's type 7; thaw reads float32"):
        changed(tmp_path, "a/weights", writer.entry(7, (3, 4), 0, 0, 48, bytes(4))).read("a/weights")
    for wrong in (
        writer.entry(1, (3, 5), 0, 0, 48, bytes(4)),
        writer.entry(1, (3, 4), 1, 0, 48, bytes(4)),
        writer.entry(1, (0, 4), 0, 0, 48, bytes(4)),
    ):
        with pytest.raises(UserError, match="contradict its shape"):
            changed(tmp_path, "a/weights", wrong).read("a/weights")
    with pytest.raises(UserError, match="a/weights should end at byte 4000000000000"):
        changed(tmp_path, "a/weights", writer.entry(1, (10**12,), 0, 0, 4 * 10**12, bytes(4))).read("a/weights")
    with pytest.raises(UserError, match="should end at byte"):
        changed(tmp_path, "a/weights", writer.entry(1, (3, 4), 0, 2**63, 48, bytes(4))).read("a/weights")
    for shape in ((2**63 + 5,), (1,) * 9, (0, 2**40, 2**40)):
        with pytest.raises(UserError, match="shape in it is impossible"):
            changed(tmp_path, "a/weights", writer.entry(1, shape, 0, 0, 48, bytes(4)))


def test_headers(tmp_path: Path):
    for message, why in (
        (writer.field(1, 1) + writer.field(2, 1), "big-endian"),
        (b"", "no number of data files"),
        (writer.field(1, 10**9), "no number of data files"),
    ):
        with pytest.raises(UserError, match=why):
            changed(tmp_path, "", message)
    with pytest.raises(UserError, match="no header"):
        Bundle(writer.write(tmp_path / "m", {b"x": b""}, []))


def of_table(tmp_path: Path, content: bytes) -> Bundle:
    (tmp_path / "m.index").write_bytes(content)
    return Bundle(tmp_path / "m")


def test_tables_that_would_unfold_are_refused(tmp_path: Path):
    head = {b"": writer.header(1)}
    good = writer.block(head)
    with pytest.raises(UserError, match="compressed"):
        of_table(tmp_path, writer.table([good], [b""], kind=1))
    with pytest.raises(UserError, match="keys are not in order"):
        of_table(tmp_path, writer.table([good, good], [b"", b"a"]))
    with pytest.raises(UserError, match="longer than it can be"):
        of_table(tmp_path, writer.table([writer.block({**head, b"x" * 2000: b""})], [b"y"]))
    shared = writer.varint(5) + writer.varint(1) + writer.varint(0) + b"x"  # with five bytes of an empty key
    with pytest.raises(UserError, match="longer than it can be"):
        of_table(tmp_path, writer.table([good[:-8] + shared + good[-8:]], [b"y"]))
    with pytest.raises(UserError, match="not text"):
        of_table(tmp_path, writer.table([writer.block({**head, b"\0\xff": b""})], [b"y"]))
    with pytest.raises(UserError, match="no room for its own restarts"):
        of_table(tmp_path, writer.table([good[:-4] + b"\xff\xff\xff\x7f"], [b""]))
    with pytest.raises(UserError, match="larger than"):
        of_table(tmp_path, bytes((16 << 20) + 1))
    again = writer.varint(0) + writer.varint(8)  # an empty block, listed twice
    empty = writer.block({}) + b"\0" + writer.masked(writer.block({}) + b"\0")
    index = writer.block({b"a": again, b"b": again})
    footer = writer.varint(0) + writer.varint(8) + writer.varint(len(empty)) + writer.varint(len(index))
    with pytest.raises(UserError, match="blocks are not in order"):
        of_table(
            tmp_path,
            empty + index + b"\0" + writer.masked(index + b"\0") + footer.ljust(40, b"\0")
            + writer.MAGIC.to_bytes(8, "little"),
        )  # fmt: skip


def outcome(prefix: Path) -> dict[str, np.ndarray] | None:
    """The tensors, or None after a UserError. Any other exception fails the test."""
    message = ""
    try:
        return read_all(prefix)
    except UserError as error:
        message = str(error)
    assert str(prefix) in message
    return None


def test_real_files_cut_or_with_a_bit_flipped_are_refused_or_read_the_same(tmp_path: Path):
    whole = read_all(REAL)
    for suffix, step in ((".index", 1), (".data-00000-of-00001", 50)):
        for path in REAL.parent.glob("best_dev-3.*"):
            shutil.copyfile(path, tmp_path / path.name)
        target = tmp_path / f"best_dev-3{suffix}"
        data = target.read_bytes()
        cuts = [data[:n] for n in range(0, len(data), 50)]
        for variant in cuts:
            target.write_bytes(variant)
            assert outcome(tmp_path / "best_dev-3") is None
        for variant in writer.flips(data, step * 7):
            target.write_bytes(variant)
            found = outcome(tmp_path / "best_dev-3")
            assert found is None or all(np.array_equal(found[name], whole[name]) for name in whole)


def test_damage_under_a_right_checksum_is_refused_or_read(tmp_path: Path):
    index, data = writer.rows(TENSORS)
    writer.write(tmp_path / "m", index, data)
    content = writer.block({key: index[key] for key in sorted(index)})
    refused = 0
    for variant in (*writer.flips(content), *(content[:n] for n in range(0, len(content), 5))):
        (tmp_path / "m.index").write_bytes(writer.table([variant], [b"~"]))
        refused += outcome(tmp_path / "m") is None
    assert refused > len(content) / 3
