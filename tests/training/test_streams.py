"""The learner of language models: streams, random lengths, NT-ASGD, and the same bits whatever interrupts it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.conftest import Bench
from tests.training.test_train_command import assert_same_outputs, kill_when
from thaw.config.decoders import PerplexitySpec
from thaw.config.run import TRAIN_VERSION, RunRecipe
from thaw.config.schema import RecipeSpec
from thaw.config.tasks import LanguageTaskSpec
from thaw.corpora.sentences import Sentence, read_sentences
from thaw.decoding.decode import decode
from thaw.decoding.emissions import load_recogniser
from thaw.errors import UserError
from thaw.files import read_json, read_jsonl, write_json, write_jsonl
from thaw.models import load_model
from thaw.randomness import rng
from thaw.surgery.checks import SurgeryError
from thaw.tasks import LanguageModelling
from thaw.training import session
from thaw.training.begin import Job, begin
from thaw.training.distributed import World
from thaw.training.epochs import Epochs
from thaw.training.learner import Moment
from thaw.training.streams import Streams, Text, cuts
from thaw.training.torch_optim import Averaged, NonMonotone, optimizer_for
from thaw.units import Words

WORDS = Words(["<unk>", "a", "b", "c", "d"])
TASK = LanguageTaskSpec(kind="language-model", bptt=12, bptt_spread=2.0, dev_streams=2)


def sentences(split: str, count: int) -> list[dict[str, Any]]:
    """Texts of a small grammar: b follows a, and sentences differ in length."""
    generator, rows = rng(1, "sentences", split), []
    for number in range(count):
        pairs = generator.choice(["a b", "c d", "a b c"], int(generator.integers(1, 5)))
        place = {"id": f"{split}-{number:03d}", "speaker": f"{split}/{number // 10}", "lang": "en"}
        rows.append({**place, "text": " ".join(pairs), "text_raw": " ".join(pairs)})
    return rows


def recipe(**changes: Any) -> dict[str, Any]:
    """A RunRecipe as plain types; keywords change its `recipe` part."""
    how = {"epochs": 6, "batch_size": 4, "learning_rate": 2.0, "optimizer": "nt-asgd", "averaging_patience": 1}
    how |= {"task": TASK.model_dump(mode="json"), "units": {"kind": "words"}, "max_gradient_norm": 0.25}
    return {
        "version": TRAIN_VERSION,
        "model": {"kind": "awd-lstm", "embedding": 6, "hidden": 8, "lstms": 2, "input_dropout": 0.1},
        "alphabet": " ab",
        "corpora": ["toy"],
        "seed": 1,
        "units": "x",
        "recipe": {**how, **changes},
    }


@pytest.fixture
def text(tmp_path: Path) -> Bench:
    """A bench with text: --units is given to every command."""
    write_json(tmp_path / "units.json", WORDS.plain())
    for split, count in (("train", 60), ("dev", 20)):
        write_jsonl(tmp_path / f"{split}.jsonl", sentences(split, count))
    return Bench(tmp_path, tmp_path / "train.jsonl", tmp_path / "dev.jsonl", recipe())


def learner(bench: Bench, **changes: Any) -> Streams:
    job = Job(
        RunRecipe.model_validate({**bench.recipe, "recipe": {**bench.recipe["recipe"], **changes}}),
        [bench.train], [bench.dev], {}, bench.folder / "state", units=bench.folder / "units.json",
    )  # fmt: skip
    found = begin(job, World(), lambda text: None).learner
    assert isinstance(found, Streams)
    return found


# --- text -----------------------------------------------------------------------------------------


def test_streams_are_the_text_cut_in_order() -> None:
    text = Text([Sentence("1", "en", "x", "a b"), Sentence("2", "en", "x", ""), Sentence("3", "en", "x", "c e")],
                LanguageModelling(WORDS))  # fmt: skip
    assert text.labels.tolist() == [1, 2, 5, 5, 3, 0, 5]  # 5: the end of a sentence
    assert text.streams(2).tolist() == [[1, 2, 5], [5, 3, 0]]
    with pytest.raises(UserError, match="7 units of text are too few for 3 streams"):
        text.streams(3)


def test_lengths_of_steps_are_those_of_the_original() -> None:
    """70 with probability 0.95, else 35, each ±5 and at least 5; the law of salesforce/awd-lstm-lm main.py."""
    spec = LanguageTaskSpec(kind="language-model")
    drawn = [cut.drawn for epoch in range(1, 60) for cut in cuts(5000, spec, 1, epoch)]
    short = [length for length in drawn if length < 53]
    assert len(short) / len(drawn) == pytest.approx(0.05, abs=0.02)
    assert np.mean([length for length in drawn if length >= 53]) == pytest.approx(69.5, abs=0.5)  # int() rounds down
    assert np.std([length for length in drawn if length >= 53]) == pytest.approx(5, abs=0.4)
    assert np.mean(short) == pytest.approx(34.5, abs=1.5)
    one = cuts(5000, spec, 1, 1)
    assert one == cuts(5000, spec, 1, 1) != cuts(5000, spec, 1, 2)
    assert [cut.start for cut in one[1:]] == [cut.stop for cut in one[:-1]]
    assert one[-1].stop <= 4999
    tiny = LanguageTaskSpec(kind="language-model", bptt=1, bptt_spread=0.0)
    assert {cut.drawn for cut in cuts(100, tiny, 1, 1)} == {5}


def test_the_rate_of_a_step_goes_with_its_length(text: Bench) -> None:
    found = learner(text)
    rates: list[float] = []
    step = found.optimizer.step
    found.optimizer.step = lambda rate: (rates.append(rate), step(rate))[1]  # type: ignore[method-assign]
    for moment in found.run():
        if moment is Moment.EPOCH:
            break
    assert rates == [2.0 * cut.drawn / 12 for cut in found.cuts(1)]


# --- NT-ASGD --------------------------------------------------------------------------------------


def original(parameter: Tensor, gradients: list[Tensor], switch: int, lr: float, decay: float) -> tuple[Tensor, Tensor]:
    """SGD, and from `switch` on ASGD with t0 = 0, lambd = 0: weights and averages, by the original's formulas."""
    w, average = parameter.clone(), parameter.clone()
    for number, gradient in enumerate(gradients):
        w = w - lr * (gradient + decay * w)
        asgd = number - switch + 1  # steps of the ASGD that took over
        mu = 1.0 if asgd <= 1 else 1.0 / max(1, asgd - 1)
        average = w.clone() if asgd <= 0 else average + mu * (w - average)
    return w, average


def test_one_switch_is_that_of_the_original() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = nn.Parameter(torch.randn(5, generator=generator))
    first, gradients = weight.detach().clone(), [torch.randn(5, generator=generator) for _ in range(9)]
    optimizer = NonMonotone({"w": weight}, 0.1)
    for number, gradient in enumerate(gradients):
        if number == 4:
            assert optimizer.averages() == {}
            optimizer.begin_averaging()
        weight.grad = gradient.clone()
        optimizer.step(0.3)
    w, average = original(first, gradients, 4, 0.3, 0.1)
    assert torch.allclose(weight.detach(), w, atol=1e-6)
    assert torch.allclose(optimizer.averages()["w"], average, atol=1e-6)
    assert not torch.allclose(w, average, atol=1e-3)


def test_a_switch_survives_a_restart() -> None:
    weights = [nn.Parameter(torch.ones(3)) for _ in range(2)]
    one, two = (NonMonotone({"w": weight}, 0.0) for weight in weights)
    for number in range(6):
        if number == 2:
            one.begin_averaging()
        if number == 4:
            weights[1].data.copy_(weights[0].data)
            two.restore(one.state())
            assert two.averaging
        for weight, optimizer in zip(weights, (one, two), strict=True):
            weight.grad = torch.full((3,), float(number))
            optimizer.step(0.1)
    assert torch.equal(one.averages()["w"], two.averages()["w"])
    assert isinstance(two, Averaged)


@pytest.mark.parametrize(
    ("earlier", "loss", "patience", "switches"),
    [
        ([5, 4, 3, 2, 1], 9, 5, False),  # as many epochs as patience: there is nothing before them
        ([3, 9, 9, 9, 9, 9], 4, 5, True),  # worse than the first of six
        ([3, 9, 9, 9, 9, 9], 3, 5, False),  # no worse
        ([9, 3, 9, 9, 9, 9], 4, 5, False),  # the last five do not count
        ([9, 3, 9], 4, 1, True),
    ],
)
def test_the_trigger_is_that_of_the_original(
    text: Bench, earlier: list[float], loss: float, patience: int, switches: bool
) -> None:
    """It switches where val_loss > min(best_val_loss[:-nonmono]), and there are more than nonmono of these."""
    found = learner(text, averaging_patience=patience)
    found.progress.stale = 3
    found.switch(loss, earlier)
    assert isinstance(found.optimizer, NonMonotone)
    assert found.optimizer.averaging is switches
    assert found.progress.stale == (0 if switches else 3)
    assert switches == (len(earlier) > patience and loss > min(earlier[:-patience] or [math.inf]))


def test_frozen_weights_have_no_average(text: Bench) -> None:
    start = learner(text)
    frozen = {name: p for name, p in start.model.named_parameters() if "lstm" in name}
    optimizer = optimizer_for(RecipeSpec.model_validate(text.recipe["recipe"]), frozen)
    assert {name.split("/")[0] for name in optimizer.state()} == {*frozen, "step"}


# --- training -------------------------------------------------------------------------------------


def test_it_learns_and_its_record_and_files_say_how(text: Bench) -> None:
    rates = dict.fromkeys(("word_dropout", "input_dropout", "hidden_dropout", "output_dropout", "weight_dropout"), 0.0)
    model = {"kind": "awd-lstm", "embedding": 12, "hidden": 12, "lstms": 1, **rates}
    long = text.with_recipe(epochs=25, learning_rate=5.0, max_gradient_norm=1.0, averaging_patience=3, model=model)
    code, err = long.run("out", "--units", str(text.folder / "units.json"))
    assert code == 0, err
    rows, record = read_jsonl(long.outputs("out")["metrics"]), read_json(long.outputs("out")["record"])
    assert rows[-1]["dev_loss"] < 0.8 * rows[0]["dev_loss"]
    assert rows[-1]["dev_perplexity"] == pytest.approx(math.exp(rows[-1]["dev_loss"]))
    assert record["best"]["dev_loss"] == min(row["dev_loss"] for row in rows)
    averaged = [row["averaged"] for row in rows]
    assert averaged == sorted(averaged)
    assert record["first_averaged_epoch"] == averaged.index(True) + 1
    assert record["classes"] == 6
    assert re.search(r"dev loss [0-9.]+ \(best [0-9.]+\)  perplexity [0-9.]+", err)
    network, meta = load_model(long.outputs("out")["model"])
    assert meta["units"] == WORDS.plain()
    assert sum(p.numel() for p in network.parameters()) == record["parameters"]["total"]


def test_killed_anywhere_it_ends_with_the_same_bytes(text: Bench) -> None:
    text = text.with_recipe(epochs=8, learning_rate=40.0, max_gradient_norm=1.0)  # too fast: dev goes up and down
    units = ("--units", str(text.folder / "units.json"))
    code, err = text.run("whole", *units, state="state-whole")
    assert code == 0, err
    rows = read_jsonl(text.outputs("whole")["metrics"])
    assert any(row["averaged"] for row in rows), "the switch is part of what is interrupted"
    for step in (2, rows[2]["step"] + 1, rows[-1]["step"] - 2):
        kill_when(text, step, *units, "--checkpoint-seconds", "1e-9")
    code, err = text.run("out", *units)
    assert code == 0, err
    assert "resumed" in err
    assert_same_outputs(text, "out")


def test_what_is_handed_on_is_checked_and_not_what_trained_alone(text: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An average over steps that also took in the frozen matrix would be in the file, though not in the model."""
    run = RunRecipe.model_validate({**text.recipe, "freeze": ["embedding", "decoder"]})
    units = text.folder / "units.json"

    def job(state: str) -> Job:
        return Job(run, [text.train], [text.dev], {}, text.folder / state, units=units, device="cpu")

    session.train(job("one"))
    weights = Epochs.weights
    monkeypatch.setattr(Epochs, "weights", lambda self: {name: t * 0.9 for name, t in weights(self).items()})
    with pytest.raises(SurgeryError, match=r"kept have other frozen layers: \['embedding'\]"):
        session.train(job("two"))


def test_without_its_units_it_says_what_is_missing(text: Bench) -> None:
    code, err = text.run("out")
    assert code == 2
    assert "give the file that `thaw units` made" in err
    write_json(text.folder / "units.json", {"kind": "words", "words": ["a", "b"]})
    code, err = text.run("out", "--units", str(text.folder / "units.json"))
    assert code == 2
    assert "lacks <unk>" in err
    assert len(err.strip().splitlines()) == 1


# --- perplexity -----------------------------------------------------------------------------------


def test_perplexity_counts_every_unit_once_given_all_before(text: Bench) -> None:
    code, err = text.run("out", "--units", str(text.folder / "units.json"))
    assert code == 0, err
    path = text.outputs("out")["model"]
    rows, record = decode(PerplexitySpec(kind="perplexity"), path, text.dev, device="cpu")
    model, _ = load_model(path)
    found = read_sentences([text.dev])
    labels = [5, *LanguageModelling(WORDS).stream(one.text for one in found)]
    logits, _ = model(torch.tensor([labels[:-1]]), torch.tensor([len(labels) - 1]))
    expected = nn.functional.cross_entropy(logits[0], torch.tensor(labels[1:]), reduction="sum")
    counted = [row["counts"]["token"] for row in rows]
    assert sum(one["errors"] for one in counted) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert sum(one["total"] for one in counted) == len(labels) - 1 == record["units"]
    assert [row["id"] for row in rows] == [one.id for one in found]
    assert {row["speaker"] for row in rows} == {one.speaker for one in found}


def test_a_language_model_hears_nothing(text: Bench) -> None:
    code, err = text.with_recipe(epochs=1).run("out", "--units", str(text.folder / "units.json"))
    assert code == 0, err
    with pytest.raises(UserError, match="hears nothing: decode it by perplexity"):
        load_recogniser(text.outputs("out")["model"], "cpu")


def test_what_belongs_to_other_tasks_is_refused() -> None:
    for changes, said in (
        ({"schedule": "cosine"}, "schedule"),
        ({"dropout": 0.1}, "dropout"),
        ({"early_stop_epochs": 1}, "would end before it averages"),
        ({"task": {"kind": "ctc"}}, "nt-asgd belongs to the task language-model"),
    ):
        with pytest.raises(ValueError, match=said):
            RecipeSpec.model_validate({**recipe()["recipe"], **changes})
