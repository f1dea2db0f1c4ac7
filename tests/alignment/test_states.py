from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.alignment.toy import align_evenly
from tests.training.conftest import ALPHABET, write_split
from thaw.alignment.frames import SHIFT, WINDOW, frames_of
from thaw.alignment.states import Aligned, Inventory, read_alignment, write_alignment
from thaw.corpora.manifest import read_manifest
from thaw.errors import UserError

TEXTS = {"u1": "a b", "u0": "abcd", "u2": "d c b a"}


def test_frames_lie_within_the_audio() -> None:
    assert [frames_of(n) for n in (0, WINDOW - 1, WINDOW, WINDOW + SHIFT - 1, WINDOW + SHIFT)] == [0, 0, 1, 1, 2]
    assert frames_of(16000) == 98


def test_an_alignment_comes_back_as_it_was_written(tmp_path: Path) -> None:
    manifest = write_split(tmp_path, "train", TEXTS)
    rows = [
        ("u0", Aligned(((2, 3), (0, 1), (2, 4)), ((1, 4), (1, 4)))),
        ("u2", Aligned(((1, 5),), ((0, 5),))),
    ]
    path = tmp_path / "train.safetensors"
    write_alignment(path, rows, Inventory(4, ("SIL", "a")), manifest, {"language": "xx"})
    found = read_alignment(path, manifest)
    assert list(found) == ["u0", "u2"]
    assert "u1" not in found
    np.testing.assert_array_equal(found["u0"], [2, 2, 2, 0, 2, 2, 2, 2])
    np.testing.assert_array_equal(found["u2"], [1] * 5)
    assert found.phones("u0") == [("a", 4), ("a", 4)]
    assert found.num_states == 4
    np.testing.assert_array_equal(found.counts(), [1, 5, 7, 0])
    assert found.meta["language"] == "xx"


def test_equal_alignments_are_equal_files(tmp_path: Path) -> None:
    manifest = write_split(tmp_path, "train", TEXTS)
    one, two = (align_evenly(manifest, tmp_path / name, ALPHABET) for name in ("1.safetensors", "2.safetensors"))
    assert one.read_bytes() == two.read_bytes()
    for utterance in read_manifest(manifest):
        assert len(read_alignment(one)[utterance.id]) == frames_of(utterance.samples)


def test_an_alignment_older_than_its_manifest_is_refused(tmp_path: Path) -> None:
    manifest = write_split(tmp_path, "train", TEXTS)
    path = align_evenly(manifest, tmp_path / "a.safetensors", ALPHABET)
    read_alignment(path, manifest)
    write_split(tmp_path, "train", {**TEXTS, "u1": "a c"})
    with pytest.raises(UserError, match=r"not an alignment of .*train.jsonl as it is now"):
        read_alignment(path, manifest)


def test_numbers_outside_the_inventory_are_refused(tmp_path: Path) -> None:
    manifest = write_split(tmp_path, "train", TEXTS)
    path = tmp_path / "a.safetensors"
    write_alignment(path, [("u0", Aligned(((4, 2),)))], Inventory(4), manifest, {})
    with pytest.raises(UserError, match="not an alignment of this version"):
        read_alignment(path)
