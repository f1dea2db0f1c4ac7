"""Tensors by name out of a file that `torch.save` wrote, without ever running what its pickle asks for.

Source: torch v2.11 torch/serialization.py, which has two formats: a zip file since torch 1.6, before that a plain
sequence of pickles.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from typing import IO

import torch
from torch import Tensor, nn

from thaw.errors import UserError

MAX_TENSORS = 1 << 16


def read_state(file: IO[bytes], where: str) -> dict[str, Tensor]:
    """The tensors (CPU) of a state dict; `where` names the file in errors.

    UserError where the file is damaged, packed, not a flat mapping from names to plain tensors, or where its pickle
    wants anything that torch does not hold for harmless. A tensor's shape is only a claim until it is compared: an
    expanded tensor of any size takes no memory before it is copied.
    """
    _check_unpacked(file, where)
    try:
        with warnings.catch_warnings():  # of old pickle protocols and storage classes, which these files have
            warnings.simplefilter("ignore")
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumble over
        raise UserError(f"{where}: {_reason(error)}; get it again from its publisher") from error
    return _flat(state, where)


def _check_unpacked(file: IO[bytes], where: str) -> None:
    """UserError for a zip that unpacks to more than itself: torch stores its entries as they are."""
    file.seek(0)
    zipped = file.read(4) == b"PK\x03\x04"  # by this torch tells its two formats apart
    file.seek(0)
    if zipped:
        try:
            with zipfile.ZipFile(file) as entries:
                packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.infolist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise UserError(f"{where}: damaged ({error}); get it again from its publisher") from error
        if packed:
            raise UserError(f"{where}: its entries are compressed, as torch never writes them; refused")
        file.seek(0)


def _reason(error: Exception) -> str:
    """What torch says against a file, in a few words: its own advice is to trust the file."""
    wanted = re.search(r"GLOBAL (\S+)", str(error))
    if wanted:
        return f"refused: it asks to run {ascii(wanted[1][:80])[1:-1]}, which no file of plain tensors does"
    first = str(error).partition("\n")[0].partition(". In PyTorch 2.6")[0][:160]
    first = "".join(c if c.isprintable() else "?" for c in first)
    return f"not a file of plain tensors, or damaged ({first or type(error).__name__})"


def _flat(state: object, where: str) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not state or len(state) > MAX_TENSORS:
        raise UserError(f"{where}: holds no flat list of named tensors but {_kind(state)}")
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not name.isprintable() or len(name) > 200:
            raise UserError(f"{where}: one of its names is no name of a tensor: {repr(name)[:60]}")
        if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided or value.device.type != "cpu":
            raise UserError(f"{where}: {name} is no plain tensor but {_kind(value)}")
        tensors[name] = value.detach()
    return tensors


def _kind(value: object) -> str:
    return "nothing" if value is None or value == {} else f"something of type {type(value).__name__}"
