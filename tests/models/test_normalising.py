"""Statistics of the training set, as buffers of whichever layer comes first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from tests.models.test_blstm import randn
from thaw.config.models import ModelSpec
from thaw.models import build
from thaw.models.normalising import Normaliser

MODELS: dict[str, dict[str, Any]] = {
    "blstm_1": {"kind": "blstm", "mel": 8, "layers": 2, "cells": 4, "projection": 4},
    "vgg": {"kind": "blstm", "mel": 8, "layers": 1, "cells": 4, "projection": 4, "vgg": [2, 2]},
    "subsampling": {
        "kind": "transformer",
        "mel": 8,
        "width": 8,
        "attention_heads": 2,
        "inner": 8,
        "encoder_layers": 1,
        "decoder_layers": 1,
    },
}


@pytest.mark.parametrize("first", MODELS)
def test_a_fitted_model_sees_normal_features(first: str) -> None:
    plain, fitted = (
        build(TypeAdapter[ModelSpec](ModelSpec).validate_python({**MODELS[first], "features": how}), 5)
        for how in ("log-mel", "fbank")
    )
    for model in (plain, fitted):
        model.initialise(1)
    buffers = {name for name, _ in fitted.named_buffers()}
    assert buffers == {f"layers.{first}.normaliser.mean", f"layers.{first}.normaliser.scale"}
    assert not list(plain.named_buffers())
    x, lengths = randn(2, 30, 8) * 3 + 7, torch.tensor([30, 17])
    torch.testing.assert_close(plain(x, lengths)[0], fitted(x, lengths)[0])  # as they are until they are fitted
    (normaliser,) = (module for module in fitted.modules() if isinstance(module, Normaliser))
    rows = [x[0].numpy(), x[1, :17].numpy()]
    normaliser.fit(rows)
    heard = np.concatenate(rows).astype(np.float64)
    normal = ((x - torch.from_numpy(heard.mean(0)).float()) / torch.from_numpy(heard.std(0)).float()).float()
    torch.testing.assert_close(plain(normal, lengths)[0], fitted(x, lengths)[0], rtol=1e-4, atol=1e-4)
    fitted.reset_layer(first, 2)
    assert not normaliser.mean.any()
    assert (normaliser.scale == 1).all()
