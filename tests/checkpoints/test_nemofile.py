"""Files that only look like NeMo's: each ends in one line, and nothing in them runs or is written anywhere."""

from __future__ import annotations

import collections
import gzip
import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from tests.checkpoints.nemowriter import config, saved, write_nemo, write_pair, write_tar
from thaw.checkpoints import nemofile
from thaw.checkpoints.nemoconfig import read_config
from thaw.checkpoints.nemofile import open_jasper, open_nemo
from thaw.checkpoints.statedict import read_state
from thaw.errors import UserError

TENSORS = {"decoder.decoder_layers.0.bias": torch.arange(3.0)}


class Runs:
    """Unpickled without care, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def refused(path: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        open_nemo(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_does_not_run(tmp_path: Path, zipped: bool):
    evil = TENSORS | {"encoder.x": Runs(tmp_path / "ran")}
    refused(
        write_nemo(tmp_path / "x.nemo", evil, zipped=zipped), r"model_weights.ckpt: refused: it asks to run \w+\.mkdir"
    )
    folder = write_pair(tmp_path / "pair", TENSORS)
    (folder / "JasperEncoder-STEP-9.pt").write_bytes(saved(evil, zipped=zipped))
    with pytest.raises(UserError, match=r"JasperEncoder-STEP-9.pt: refused: it asks to run"):
        open_jasper(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "holds no flat list of named tensors but something of type list"),
        ({}, "holds no flat list of named tensors but nothing"),
        ({"state_dict": {"a": torch.zeros(1)}}, "state_dict is no plain tensor but something of type dict"),
        ({3: torch.zeros(1)}, "one of its names is no name of a tensor: 3"),
        ({"a\nb": torch.zeros(1)}, "one of its names is no name"),
        ({"a": torch.eye(2).to_sparse()}, "a is no plain tensor"),
        ({"a": torch.empty(2, device="meta")}, "a is no plain tensor|meta"),
    ],
)
def test_pickles_of_something_else(tmp_path: Path, value: object, message: str):
    refused(write_nemo(tmp_path / "x.nemo", value), message)


@pytest.mark.parametrize("data", [b"", b"no pickle", b"PK\x03\x04" + bytes(50), saved(TENSORS)[:400]])
def test_weights_that_are_damaged(tmp_path: Path, data: bytes):
    path = write_tar(tmp_path / "x.nemo", {"./model_config.yaml": b"a: 1", "./model_weights.ckpt": data})
    refused(path, "model_weights.ckpt: .*; get it again")


def test_weights_that_unpack_to_more_than_they_are():
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(TENSORS))) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(UserError, match="x: its entries are compressed"):
        read_state(packed, "x")


def test_an_ordered_state_with_metadata_is_read():
    state = collections.OrderedDict(TENSORS)
    state._metadata = collections.OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]  # as Module.state_dict
    for zipped in (True, False):
        found = read_state(io.BytesIO(saved(state, zipped=zipped)), "x")
        assert torch.equal(found["decoder.decoder_layers.0.bias"], torch.arange(3.0))


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("name", "member", "message"),
    [
        ("/etc/model_weights.ckpt", b"", "points outside of it; refused"),
        ("../model_config.yaml", b"", "points outside of it; refused"),
        ("a\\b", b"", "points outside of it; refused"),
        ("l", entry("model_config.yaml", tarfile.SYMTYPE, "/etc/passwd"), "is a link, a device or sparse"),
        ("l", entry("./model_weights.ckpt", tarfile.LNKTYPE, "model_config.yaml"), "is a link, a device or sparse"),
        ("l", entry("tty", tarfile.CHRTYPE), "is a link, a device or sparse"),
        ("sub/model_config.yaml", b"a: 2", "model_config.yaml is in it twice"),
    ],
)
def test_members_that_no_nemo_file_has(tmp_path: Path, name: str, member: bytes | tarfile.TarInfo, message: str):
    refused(write_tar(tmp_path / "x.nemo", {"./model_config.yaml": b"a: 1", name: member}), message)


def test_files_that_are_no_nemo(tmp_path: Path):
    refused(tmp_path, "a folder; give the path of a .nemo file")
    refused(tmp_path / "none.nemo", "no such file")
    path = tmp_path / "x.nemo"
    path.write_bytes(b"no tar" * 400)
    refused(path, "not a whole .nemo file")
    refused(
        write_tar(path, {"./module.yaml": b"a: 1"}), r"no model_config.yaml and no model_weights.ckpt \(module.yaml\)"
    )
    whole = write_nemo(path, TENSORS, config()).read_bytes()
    for size in (1, 200, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:size])
        refused(path, "not a whole .nemo file")
    path.write_bytes(whole[:-8] + b"\0\0\0\0" + whole[-4:])  # gzip's checksum
    refused(path, "not a whole .nemo file")
    path.write_bytes(whole)
    assert torch.equal(open_nemo(path).tensors["decoder.decoder_layers.0.bias"], torch.arange(3.0))


def test_other_members_are_left_and_named(tmp_path: Path):
    members = {"./model_config.yaml": b"a: 1", "./tokenizer.model": b"x", "./model_weights.ckpt": saved(TENSORS)}
    assert open_nemo(write_tar(tmp_path / "x.nemo", members)).notes == ("other files in it, not read: tokenizer.model",)


def test_a_gzip_bomb_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nemofile, "MAX_BYTES", 1 << 22)
    path = write_tar(tmp_path / "x.nemo", {"./zeros": bytes(5 << 20)})
    assert path.stat().st_size < 1 << 17
    refused(path, "unpacks to more than 4 MiB")
    path.write_bytes(gzip.compress(b"x" * (5 << 20)))
    refused(path, "not a whole .nemo file|unpacks to more")


def test_checksums(tmp_path: Path):
    path = write_nemo(tmp_path / "x.nemo", TENSORS)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert open_nemo(path, sha256.upper()).sha256 == sha256
    with pytest.raises(UserError, match=rf"sha256 of x\.nemo is {sha256}, not 00"):
        open_nemo(path, "00")
    folder = write_pair(tmp_path / "pair", TENSORS | {"encoder.encoder.x": torch.zeros(1)})
    halves = [(folder / f"{name}-STEP-9.pt").read_bytes() for name in ("JasperEncoder", "JasperDecoderForCTC")]
    assert open_jasper(folder).sha256 == hashlib.sha256(b"".join(halves)).hexdigest()
    with pytest.raises(UserError, match=r"sha256 of JasperEncoder-STEP-9\.pt \+ JasperDecoderForCTC-STEP-9\.pt is"):
        open_jasper(folder, "00")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "by references to references; refused"),
        (MERGES, "by references to references; refused"),
        ("a: &a [*a]", "contains itself; refused"),
        ("a: !!python/object/apply:os.mkdir [ran]", "could not determine a constructor"),
        ("a: !!timestamp never", "not plain YAML"),
        ("a: [1", "not plain YAML"),
        ("a: " + "[" * 5000, "not plain YAML"),
        ("- a\n- b", "which is a mapping from names to sections"),
        ("", "which is a mapping from names to sections"),
        ("1: a", "which is a mapping from names to sections"),
        ("a: \x00", "not plain YAML"),
        ("a: 1\n" + "#" * (1 << 19), "larger than 512 KiB"),
    ],
)
def test_yaml_that_is_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str):
    monkeypatch.chdir(tmp_path)
    refused(write_nemo(tmp_path / "x.nemo", TENSORS, text.encode()), message)
    assert not (tmp_path / "ran").exists()


def test_yaml_may_refer_to_what_it_has():
    found = read_config("labels: &l [' ', n, y, é]\ntrain: {labels: *l}\n".encode(), "x")
    assert found["train"]["labels"] == found["labels"] == [" ", "n", "y", "é"]
    with pytest.raises(UserError, match="x: not plain YAML"):
        read_config(b"\xff\xfe\xfa", "x")
