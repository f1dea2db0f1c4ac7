"""CTC prefix scores and the joint search against all that could have been said, in toy cases."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.models.test_attention import labels as side_by_side
from tests.models.test_attention import small
from tests.models.test_attention import spec as attention_spec
from tests.models.test_blstm import randn
from tests.models.test_blstm import spec as ctc_spec
from tests.models.test_transformer import small as small_transformer
from tests.tasks.test_ctc_attention import bench, recipe
from tests.training.conftest import Bench
from thaw.cli import main
from thaw.config.decoders import JointSpec
from thaw.decoding.emissions import Features, Recogniser
from thaw.decoding.greedy import collapse
from thaw.decoding.joint import Ended, Hypothesis, search, texts
from thaw.decoding.prefixes import CtcPrefixes
from thaw.decoding.rows import without
from thaw.errors import UserError
from thaw.models import LayeredModel, build
from thaw.models.ctc_attention import CtcAttention
from thaw.scoring.edits import count_characters
from thaw.units import EVERY, Alphabet

__all__ = ["bench"]

Labels = tuple[int, ...]


def spelt(log_probs: Tensor) -> dict[Labels, float]:
    """P of every text, by all paths through (T, V); the blank is the last class."""
    frames, classes = log_probs.shape
    sums: dict[Labels, float] = {}
    for path in itertools.product(range(classes), repeat=frames):
        text = tuple(label for label, _ in itertools.groupby(path) if label != classes - 1)
        sums[text] = sums.get(text, 0.0) + math.exp(sum(log_probs[t, c].item() for t, c in enumerate(path)))
    return sums


def begins(sums: dict[Labels, float], prefix: Labels) -> float:
    return sum(p for text, p in sums.items() if text[: len(prefix)] == prefix)


def test_prefix_scores_are_sums_over_all_paths() -> None:
    """Two utterances, one of them padded, along several prefixes, with repeated labels."""
    log_probs = (2 * randn(2, 6, 4)).double().log_softmax(-1)
    frames = torch.tensor([6, 4])
    ctc = CtcPrefixes(log_probs, frames)
    for prefix in ((), (0,), (1, 1), (0, 0, 2), (2, 1, 2)):
        utterances = torch.tensor([0, 1])
        prefixes = ctc.begin(utterances)
        for label in prefix:
            prefixes = ctc.extended(prefixes, utterances, torch.tensor([label, label]))
        scores = ctc.scores(prefixes, utterances, torch.arange(4).repeat(2, 1))
        for row in range(2):
            sums = spelt(log_probs[row, : frames[row]])
            for label in range(3):
                wanted = begins(sums, (*prefix, label))
                assert scores[row, label].exp().item() == pytest.approx(wanted, rel=1e-9, abs=1e-12), (prefix, label)
            assert scores[row, 3].exp().item() == pytest.approx(sums.get(prefix, 0.0), rel=1e-9, abs=1e-12)


def test_prefixes_stay_in_order() -> None:
    ctc = CtcPrefixes(randn(1, 5, 4).log_softmax(-1), torch.tensor([5]))
    two = ctc.extended(
        ctc.begin(torch.zeros(2, dtype=torch.int64)), torch.zeros(2, dtype=torch.int64), torch.tensor([0, 1])
    )
    turned = two.of(torch.tensor([1, 0]))
    assert torch.equal(turned.blank[0], two.blank[1])
    assert turned.last.tolist() == [1, 0]


def recogniser(model: LayeredModel, size: int) -> Recogniser:
    units = {EVERY: Alphabet(" abcdefgh"[:size])}
    return Recogniser(model.eval(), units, "log-mel-8", torch.device("cpu"), {}, None)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_a_wide_search_finds_the_best_of_all_texts(weight: float, penalty: float) -> None:
    model = build_toy()
    frames, end = 4, 2
    encoded = 3 * randn(1, frames, 4)
    with torch.no_grad():
        ctc, _ = model(encoded, torch.tensor([frames]), done=len(model.trunk))
        sums = spelt(ctc[0].log_softmax(-1))
        wanted: dict[Labels, float] = {}
        for length in range(frames + 1):
            for labels in itertools.product(range(end), repeat=length):
                over = length == frames  # as many as frames: it ends there, unasked
                heard = begins(sums, labels) if over else sums.get(labels, 0.0)
                score = (1 - weight) * taught(model, encoded, labels, not over) if weight < 1 else 0.0
                score += weight * max(math.log(heard) if heard else -1e10, -1e10)
                wanted[labels] = score + penalty * (length if over else length + 1)
    spec = JointSpec(kind="joint", beam=64, ctc_weight=weight, penalty=penalty)
    (found,) = search(spec, recogniser(model, 2), encoded, torch.tensor([frames]))
    likely = {h.labels: h.score for h in found if h.score > -1e6}
    assert likely == pytest.approx({k: v for k, v in wanted.items() if v > -1e6}, rel=1e-5, abs=1e-5)
    assert found[0].labels == max(wanted, key=lambda labels: wanted[labels])


def build_toy() -> CtcAttention:
    """Two labels and an end."""
    model = build(attention_spec(), 3)
    model.initialise(4)
    assert isinstance(model, CtcAttention)
    return model.eval()


def taught(model: CtcAttention, encoded: Tensor, labels: Labels, ended: bool) -> float:
    """ln P of labels by the decoder, and of the end behind them where that is asked for."""
    outputs = model.outputs(encoded, torch.tensor([encoded.shape[1]]), labels=side_by_side([*labels]))
    log_probs = outputs["attention_output"][0].log_softmax(-1)
    said = [*labels, log_probs.shape[1] - 1] if ended else [*labels]
    return sum(log_probs[place, label].item() for place, label in enumerate(said))


MODELS = {"recurrent": lambda: small(mel=8), "transformer": small_transformer}


@pytest.mark.parametrize("kind", MODELS)
def test_an_utterance_is_searched_alike_alone_and_in_a_batch(kind: str) -> None:
    model = MODELS[kind]()
    width = 4 if kind == "recurrent" else 8
    encoded, frames = 2 * randn(3, 9, width), torch.tensor([9, 5, 2])
    spec = JointSpec(kind="joint", beam=3)
    together = search(spec, recogniser(model, 6), encoded, frames)
    for row, count in enumerate(frames.tolist()):
        (alone,) = search(spec, recogniser(model, 6), encoded[row : row + 1, :count], frames[row : row + 1])
        assert [h.labels for h in alone] == [h.labels for h in together[row]]
        assert [h.score for h in alone] == pytest.approx([h.score for h in together[row]], abs=1e-4)


def test_lengths_are_bounded_and_the_shortest_gives_way() -> None:
    model = recogniser(small(mel=8), 6)
    encoded, frames = 2 * randn(1, 10, 4), torch.tensor([10])
    (few,) = search(JointSpec(kind="joint", beam=3, max_length_ratio=0.2), model, encoded, frames)
    assert max(len(h.labels) for h in few) == 2
    spec = JointSpec(kind="joint", beam=3, ctc_weight=0.0, min_length_ratio=0.8, penalty=-50.0)
    (many,) = search(spec, model, encoded, frames)
    assert min(len(h.labels) + 2 for h in many) > 8
    none, one = search(spec, model, encoded.repeat(2, 1, 1), torch.tensor([0, 10]))
    assert none == []
    assert one


def test_end_detection_looks_at_three_lengths() -> None:
    ended = Ended(0, [Hypothesis((1,), -1.0, 0)])
    ended.found += [Hypothesis((1,) * n, -12.0, n) for n in (3, 4, 5)]
    assert ended.settled(7)
    assert not ended.settled(8)
    ended.found.append(Hypothesis((2,) * 4, -10.5, 4))
    assert not ended.settled(7)
    assert not Ended(0).settled(5)


def test_ctc_alone_is_searched_for_the_likeliest_text() -> None:
    """Not the likeliest path: of several texts, one has more of them."""
    model = build(ctc_spec(layers=1), 4)
    model.initialise(2)
    others = 0
    for place in range(8):
        encoded, frames = 2 * randn(8, 5, 5)[place : place + 1], torch.tensor([5])
        (found,) = search(JointSpec(kind="joint", beam=40, ctc_weight=1.0), recogniser(model, 3), encoded, frames)
        logits, _ = model(encoded, frames, done=len(model.trunk))
        sums = spelt(logits[0].log_softmax(-1))
        best = max(sums, key=lambda text: sums[text])
        assert found[0].labels == best
        assert found[0].score == pytest.approx(math.log(sums[best]), abs=1e-5)
        others += tuple(collapse(logits[0].argmax(-1).numpy(), 3)) != best
    assert others
    with pytest.raises(UserError, match="needs a model with a decoder"):
        texts(JointSpec(kind="joint"), recogniser(model, 3), Features(torch.zeros(1, 9, 8), torch.tensor([9])))


def test_a_trained_model_is_decoded_jointly(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """From `thaw train` to `thaw decode`, by both heads and by CTC's alone."""
    trained = recipe(bench, epochs=12)
    code, err = trained.run("out")
    assert code == 0, err
    errors = {}
    for name, spec in (("greedy", {"kind": "greedy"}), ("joint", {"kind": "joint", "beam": 4})):
        rows, record = (trained.folder / f"{name}.{ending}" for ending in ("jsonl", "json"))
        files = ["--hypotheses", str(rows), "--record", str(record)]
        model = ["--model", str(trained.outputs("out")["model"]), "--manifest", str(trained.dev)]
        assert main(["decode", "--decoder", json.dumps(spec), *model, *files]) == 0, capsys.readouterr().err
        lines = [json.loads(line) for line in Path(rows).read_text().splitlines()]
        assert len(lines) == 12
        assert json.loads(record.read_text())["decoder"]["kind"] == name
        errors[name] = sum(count_characters(line["reference"], line["hypothesis"]).errors for line in lines)
    assert max(errors.values()) < 10, errors  # of 60 letters and more
    capsys.readouterr()
    sound = trained.dev.with_suffix(".wav")  # all of dev, one after the other
    spoken = ["transcribe", str(trained.outputs("out")["model"]), str(sound), "--decoder", json.dumps(spec)]
    assert main(spoken) == 0
    path, text = capsys.readouterr().out.rstrip("\n").split("\t")
    assert path == str(sound)
    assert set(text) <= set(" abcd")


def test_characters_are_left_out_of_what_is_compared() -> None:
    row = {"id": "u", "speaker": "s", "reference": "①yes ② no", "hypothesis": "yes no②"}
    assert without("①②", row) == row | {"reference": "yes no", "hypothesis": "yes no"}
    assert without("y", row)["hypothesis"] == "es no②"
