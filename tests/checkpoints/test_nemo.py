"""NeMo's checkpoints: the same logits after a round trip, and one line for everything that does not fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torchaudio
import yaml
from torch import Tensor

from tests.checkpoints.nemowriter import LETTERS, SPEC, config, jasper, model, state, write_nemo, write_pair
from thaw.checkpoints.imported import Imported
from thaw.checkpoints.nemo import import_nemo
from thaw.checkpoints.nemoconfig import blocks, variant_of
from thaw.checkpoints.nemofile import open_jasper, open_nemo
from thaw.config.models import QuartzNetSpec
from thaw.errors import UserError
from thaw.models import LayeredModel
from thaw.units import Alphabet

ALPHABET = Alphabet(LETTERS)
OTHER_ORDER = Alphabet(" 'abé")


@pytest.fixture(scope="module")
def released() -> LayeredModel:
    return model()


@pytest.fixture
def tensors(released: LayeredModel) -> dict[str, Tensor]:
    return state(released)


def logits(of: LayeredModel) -> Tensor:
    x = torch.randn(2, 40, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return of.eval()(x, torch.tensor([40, 33]))[0]


def imported(
    tmp_path: Path,
    tensors: object,
    settings: dict[str, Any] | None = None,
    alphabet: Alphabet = ALPHABET,
    spec: QuartzNetSpec | None = None,
) -> Imported:
    return import_nemo(open_nemo(write_nemo(tmp_path / "x.nemo", tensors, settings)), alphabet, spec)


@pytest.mark.parametrize("layout", ["params", "target"])
@pytest.mark.parametrize("packed", [True, False])
def test_a_nemo_file_gives_the_same_logits(
    tmp_path: Path, released: LayeredModel, tensors: dict[str, Tensor], layout: str, packed: bool
):
    path = write_nemo(tmp_path / "x.nemo", tensors, config(layout), packed=packed, zipped=packed)
    found = import_nemo(open_nemo(path), ALPHABET)
    assert found.spec == SPEC
    assert torch.equal(logits(found.model), logits(released))
    assert found.optimizer == {}


@pytest.mark.parametrize("lists", [False, True])
def test_an_old_pair_gives_the_same_logits(
    tmp_path: Path, released: LayeredModel, tensors: dict[str, Tensor], lists: bool
):
    folder = write_pair(tmp_path / "pair", tensors, lists=lists)
    names = open_jasper(folder).tensors
    assert ("encoder.1.conv.0.weight" in names) is lists
    assert ("encoder.1.res.0.0.weight" in names) is lists
    found = import_nemo(open_jasper(folder), ALPHABET)
    assert found.spec == QuartzNetSpec(kind="quartznet", variant="mini-3x1", frontend_version="v0.10")
    assert torch.equal(logits(found.model), logits(released))
    notes = " ".join(found.record["notes"])
    assert 'does not name its letters: its 6 rows are taken for " ab\'é"' in notes
    assert "no YAML file beside the pair" in notes


def test_rows_are_put_in_the_order_of_the_alphabet(tmp_path: Path, released: LayeredModel, tensors: dict[str, Tensor]):
    found = imported(tmp_path, tensors, alphabet=OTHER_ORDER)
    wanted = [LETTERS.index(letter) for letter in OTHER_ORDER.characters] + [len(LETTERS)]
    assert torch.equal(logits(found.model), logits(released)[..., wanted])
    assert found.record["vocabulary"] == list(LETTERS)
    assert any("put in the alphabet's order" in note for note in found.record["notes"])
    same = imported(tmp_path, tensors)
    assert not any("put in the alphabet's order" in note for note in same.record["notes"])


def test_the_yaml_beside_a_pair_names_its_letters(tmp_path: Path, released: LayeredModel, tensors: dict[str, Tensor]):
    folder = write_pair(tmp_path / "pair", tensors)
    (folder / "quartznet.yaml").write_text(yaml.safe_dump(config("v0.10"), allow_unicode=True))
    (folder / "trainer-STEP-9.pt").write_bytes(b"never read")
    spec = SPEC.model_copy(update={"frontend_version": "v1.0"})
    found = import_nemo(open_jasper(folder), OTHER_ORDER, spec)
    wanted = [LETTERS.index(letter) for letter in OTHER_ORDER.characters] + [len(LETTERS)]
    assert torch.equal(logits(found.model), logits(released)[..., wanted])
    notes = " ".join(found.record["notes"])
    assert "those of quartznet.yaml, which the checksum leaves out" in notes
    assert "never read, since another training's optimizer state spoils a new one: trainer-STEP-9.pt" in notes
    assert "stft_conv is True, as in NeMo v0.10, and the model's frontend_version is v1.0" in notes


def test_one_pair_of_several_is_named_by_its_encoder(tmp_path: Path, tensors: dict[str, Tensor]):
    folder = write_pair(tmp_path / "pair", tensors, step=9)
    write_pair(folder, tensors, step=12)
    with pytest.raises(UserError, match=r"2 encoders there: JasperEncoder-STEP-12.pt, JasperEncoder-STEP-9.pt"):
        open_jasper(folder)
    assert set(open_jasper(folder / "JasperEncoder-STEP-12.pt").files) == {
        "JasperEncoder-STEP-12.pt",
        "JasperDecoderForCTC-STEP-12.pt",
    }
    (folder / "JasperDecoderForCTC-STEP-9.pt").unlink()
    with pytest.raises(UserError, match=r"JasperDecoderForCTC-STEP-9.pt: no such file; .* only half of a model"):
        open_jasper(folder / "JasperEncoder-STEP-9.pt")
    with pytest.raises(UserError, match="no encoder there"):
        open_jasper(tmp_path)


def test_record_says_where_each_tensor_went(tmp_path: Path, tensors: dict[str, Tensor]):
    extra = {"preprocessor.featurizer.window": torch.zeros(7), "_wer.scores": torch.tensor(0)}
    found = imported(tmp_path, tensors | extra)
    variables = found.record["variables"]
    assert list(variables) == [*tensors, *extra]
    kept = [name for entry in variables.values() for name in entry["to"]]
    assert sorted(kept) == sorted(found.model.state_dict())
    assert {"preprocessor.featurizer.window", "_wer.scores"} <= set(found.record["left"])
    assert all(variables[name]["to"] == [] for name in found.record["left"])
    assert found.record["parameters"] == sum(p.numel() for p in found.model.parameters())
    assert found.record["frontend"]["window_size"] == 0.02
    assert any("window in the file is (7,)" in note for note in found.record["notes"])
    assert any("only optimizer_state: fresh" in note for note in found.record["notes"])


def test_letters_that_differ_are_named(tmp_path: Path, tensors: dict[str, Tensor]):
    with pytest.raises(UserError) as error:
        imported(tmp_path, tensors, alphabet=Alphabet(" abcé"))
    assert "only it has U+0027 '''; only the alphabet has U+0063 'c'" in str(error.value)
    assert 'for its own, set alphabet: " ab\'é"' in str(error.value)
    with pytest.raises(UserError, match="only the alphabet has U\\+0041 'A'"):  # case is a difference
        imported(tmp_path, tensors, alphabet=Alphabet(" Ab'é"))
    with pytest.raises(UserError, match=r"vocabulary has 4 letters, but its output layer 6 rows"):
        imported(tmp_path, tensors, config(letters=" ab'"), alphabet=Alphabet(" ab'"))
    with pytest.raises(UserError, match=r"the alphabet has 2 letters, but its output layer 6 rows, so it writes 5"):
        import_nemo(open_jasper(write_pair(tmp_path / "pair", tensors)), Alphabet(" a"))


@pytest.mark.parametrize(
    ("letters", "message"),
    [
        (["a", "_the"], r"1 of its 2 classes are not single characters \(\[_the\]\): it writes pieces of words"),
        (["a", "b", "a"], r"letters given twice: \['a'\]"),
        ("${labels}", r"its vocabulary is not a list of letters but \$\{labels\}"),
        ([1, 2], "not a list of letters"),
    ],
)
def test_vocabularies_that_do_not_spell(tmp_path: Path, tensors: dict[str, Tensor], letters: object, message: str):
    settings = config()
    settings["decoder"]["params"]["vocabulary"] = letters
    with pytest.raises(UserError, match=message):
        imported(tmp_path, tensors, settings)


def test_labels_stand_in_for_a_vocabulary(tmp_path: Path, tensors: dict[str, Tensor]):
    settings = config("target")
    del settings["decoder"]["vocabulary"]
    found = imported(tmp_path, tensors, settings | {"labels": list(LETTERS)}, alphabet=OTHER_ORDER)
    assert found.record["vocabulary"] == list(LETTERS)


def test_another_quartznet_than_the_studys(tmp_path: Path, tensors: dict[str, Tensor]):
    wanted = QuartzNetSpec(kind="quartznet", variant="15x5")
    with pytest.raises(UserError, match="holds QuartzNet mini-3x1, but the model is 15x5; set variant: mini-3x1"):
        imported(tmp_path, tensors, spec=wanted)
    with pytest.raises(UserError, match="holds QuartzNet mini-3x1, but the model is 15x5"):  # from shapes alone
        import_nemo(open_jasper(write_pair(tmp_path / "pair", tensors)), ALPHABET, wanted)


@pytest.mark.parametrize("variant", ["15x5", "10x5", "5x5", "5x3", "mini-5x2", "mini-3x1"])
def test_blocks_say_which_quartznet_it_is(variant: str):
    spec = QuartzNetSpec.model_validate({"kind": "quartznet", "variant": variant})
    for layout in ("params", "target", "v0.10"):
        found = blocks(config(layout, spec=spec), "x")
        assert found is not None
        assert variant_of(found) == variant


@pytest.mark.parametrize(
    ("place", "key", "value", "message"),
    [
        (1, "kernel", [13], "none of the QuartzNets that thaw knows .*block_1 is channels 96, kernel 13"),
        (1, "se", True, "block 1 of its encoder has se: True, which QuartzNet has not"),
        (2, "residual_dense", True, "block 2 of its encoder has residual_dense: True"),
        (0, "filters", "many", r"block 0 of its encoder has no usable filters \(many\)"),
        (0, "stride", [2, 2], "no usable stride"),
        (3, "separable", 3, "no usable separable"),
    ],
)
def test_blocks_that_are_no_quartznet(
    tmp_path: Path, tensors: dict[str, Tensor], place: int, key: str, value: object, message: str
):
    settings = config()
    settings["encoder"]["params"]["jasper"][place][key] = value
    with pytest.raises(UserError, match=message):
        imported(tmp_path, tensors, settings)


def test_encoders_that_are_no_quartznet(tmp_path: Path, tensors: dict[str, Tensor]):
    settings = config()
    settings["encoder"]["params"]["jasper"] = jasper()[:-1]
    with pytest.raises(UserError, match=r"its 5 blocks are none .* conv_3 is missing, but in mini-3x1 channels 256"):
        imported(tmp_path, tensors, settings, spec=SPEC)
    settings["encoder"]["params"] |= {"jasper": jasper(), "activation": "swish"}
    with pytest.raises(UserError, match="its encoder has activation: swish"):
        imported(tmp_path, tensors, settings)
    settings["encoder"] = {"_target_": "nemo.ConformerEncoder", "n_layers": 17}
    with pytest.raises(UserError, match=r"its encoder \(nemo.ConformerEncoder\) has no list of blocks"):
        imported(tmp_path, tensors, settings)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("window_stride", 0.02, r"other features than thaw computes: window_stride 0.02 \(thaw: 0.01\)"),
        ("window_size", 0.025, "window_size 0.025"),
        ("features", 80, "features 80"),
        ("normalize", "all_features", "normalize all_features"),
        ("sample_rate", 8000, "sample_rate 8000"),
        ("highfreq", 4000, "highfreq 4000"),
        ("log_zero_guard_value", 1e-5, "log_zero_guard_value 1e-05"),
        ("log_zero_guard_type", "clamp", "log_zero_guard_type clamp"),
    ],
)
def test_other_features_are_refused(tmp_path: Path, tensors: dict[str, Tensor], key: str, value: object, message: str):
    settings = config()
    settings["preprocessor"]["params"][key] = value
    with pytest.raises(UserError, match=message):
        imported(tmp_path, tensors, settings)


def test_features_that_hardly_differ_are_noted(tmp_path: Path, tensors: dict[str, Tensor]):
    settings = config("target")
    settings["preprocessor"] |= {"dither": "1e-05", "pad_to": 16, "highfreq": None, "mag_power": 2, "n_fft": None}
    quiet = imported(tmp_path, tensors, settings).record["notes"]
    assert not [note for note in quiet if note.startswith("front end: ") and "in the file" not in note]
    settings["preprocessor"] |= {"dither": 0.0, "pad_to": 8, "stft_conv": True, "novelty": 3}
    notes = " ".join(imported(tmp_path, tensors, settings).record["notes"])
    for text in ("dither is 0.0, not 1e-05", "pad_to is 8", "stft_conv is True, as in NeMo v0.10", "novelty: 3"):
        assert text in notes


def test_tensors_that_do_not_fit_are_reported(tmp_path: Path, tensors: dict[str, Tensor]):
    bn = "encoder.encoder.0.mconv.2.bias"
    first = "encoder.encoder.0.mconv.0.conv.weight"
    del tensors[bn]
    tensors[first] = torch.zeros(64, 1, 9)
    tensors["decoder.decoder_layers.0.weight"] = tensors["decoder.decoder_layers.0.weight"].double()
    tensors["encoder.encoder.9.mconv.0.conv.weight"] = torch.zeros(1)
    with pytest.raises(UserError) as error:
        imported(tmp_path, tensors)
    message = str(error.value)
    assert f"1 missing ({bn})" in message
    assert f"{first} is (64, 1, 9), expected (64, 1, 11)" in message
    assert "decoder.decoder_layers.0.weight is torch.float64, expected torch.float32" in message
    assert "1 unknown to it (encoder.encoder.9.mconv.0.conv.weight)" in message
    assert f"{len(model().state_dict()) - 3} tensors fit" in message
    assert "\n" not in message


def test_values_that_no_model_can_have(tmp_path: Path, tensors: dict[str, Tensor]):
    name = "encoder.encoder.0.mconv.2.running_var"
    good = tensors[name]
    tensors[name] = good - 10
    with pytest.raises(UserError, match=f"{name} holds a negative variance"):
        imported(tmp_path, tensors)
    tensors[name] = good * math.nan
    with pytest.raises(UserError, match=f"{name} holds values that are not finite"):
        imported(tmp_path, tensors)
    # Claims to be huge, by an expanded view that takes no memory: refused for its shape, before anything is copied.
    tensors[name] = torch.zeros(1).expand(1 << 45)
    with pytest.raises(UserError, match="does not fit QuartzNet mini-3x1"):
        imported(tmp_path, tensors)


def test_half_precision_is_taken_as_it_is(tmp_path: Path, tensors: dict[str, Tensor]):
    name = "decoder.decoder_layers.0.weight"
    tensors[name] = tensors[name].half()
    found = imported(tmp_path, tensors).model.state_dict()
    (weight,) = (tensor for key, tensor in found.items() if key.startswith("layers.decoder.") and tensor.dim() > 1)
    assert weight.dtype == torch.float32
    assert torch.equal(weight.reshape(6, -1), tensors[name].float().reshape(6, -1))


def test_the_files_own_filters_and_window_are_compared(tmp_path: Path, tensors: dict[str, Tensor]):
    filters = torchaudio.functional.melscale_fbanks(257, 0, 8000, 64, 16000, norm="slaney", mel_scale="slaney")
    own = {
        "preprocessor.featurizer.fb": filters.T[None].contiguous(),
        "preprocessor.featurizer.window": torch.hann_window(320, periodic=False),
    }
    notes = imported(tmp_path, tensors | own, spec=SPEC).record["notes"]
    assert any(note.startswith("front end: fb in the file is as thaw's for v1.0") for note in notes)
    assert any(note.startswith("front end: window in the file is as thaw's for v1.0") for note in notes)
    old = SPEC.model_copy(update={"frontend_version": "v0.10"})
    own["preprocessor.featurizer.fb"][0, 3, 5] = math.nan
    notes = imported(tmp_path, tensors | own, spec=old).record["notes"]
    assert any(note.startswith("front end: fb in the file is other than thaw's for v0.10") for note in notes)
    assert any(
        note.startswith("front end: window in the file is other than thaw's for v0.10, within 0.00") for note in notes
    )
