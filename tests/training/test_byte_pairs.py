"""Speech learnt in byte pairs: the same training, other classes, text again from what is decoded."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.conftest import Bench
from thaw.config.decoders import BeamSpec, GreedySpec
from thaw.config.units import BpeUnits
from thaw.corpora.manifest import read_manifest
from thaw.decoding.decode import decode
from thaw.decoding.greedy import greedy
from thaw.decoding.searching import Files
from thaw.errors import UserError
from thaw.files import read_jsonl, write_json
from thaw.models import load_model
from thaw.units import EVERY, Pieces, units_from
from thaw.units.making import make_units


def test_a_ctc_model_has_a_class_for_every_piece_and_writes_text(bench: Bench) -> None:
    units, _ = make_units(BpeUnits(kind="bpe", size=9), [one.text for one in read_manifest(bench.train)])
    file = bench.folder / "units.json"
    write_json(file, units.plain())
    pieces = bench.with_recipe(units="x", recipe={**bench.recipe["recipe"], "epochs": 3, "learning_rate": 0.02,
                                                  "units": {"kind": "bpe", "size": 9}})  # fmt: skip
    code, err = pieces.run("out", "--units", str(file))
    assert code == 0, err
    path = pieces.outputs("out")["model"]
    model, meta = load_model(path)
    assert isinstance(units_from(meta)[EVERY], Pieces)
    assert len(model.layer("layer_6").bias) == 9 + 1  # the blank is the last
    rows = read_jsonl(pieces.outputs("out")["metrics"])
    assert rows[-1]["dev_loss"] < rows[0]["dev_loss"]
    found, record = decode(GreedySpec(kind="greedy"), path, bench.dev, device="cpu")
    assert record["warnings"] == []
    assert set("".join(row["hypothesis"] for row in found)) <= set(" abcd")
    labels = [label for piece in units.encode("ab cd") for label in (piece, piece, 9)]  # 9: the blank
    assert greedy(np.eye(10)[labels], units) == "ab cd"


def test_a_lexicon_spells_no_pieces(bench: Bench) -> None:
    units, _ = make_units(BpeUnits(kind="bpe", size=9), [one.text for one in read_manifest(bench.train)])
    write_json(bench.folder / "units.json", units.plain())
    pieces = bench.with_recipe(
        units="x", recipe={**bench.recipe["recipe"], "epochs": 1, "units": {"kind": "bpe", "size": 9}}
    )
    code, err = pieces.run("out", "--units", str(bench.folder / "units.json"))
    assert code == 0, err
    spec = BeamSpec(kind="beam")
    with pytest.raises(UserError, match="needs characters, not 9 byte pairs"):
        decode(spec, pieces.outputs("out")["model"], bench.dev, device="cpu", files=Files(bench.dev, bench.dev))
