"""One pass of a model, and searches of what it left: the bytes of the model at hand, with any number of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.decoding import toy
from tests.decoding.test_decode import TEXTS, folder, model_of  # noqa: F401  (a fixture)
from thaw.cli import main
from thaw.config.decoders import BeamSpec, GreedySpec, TuningSpec
from thaw.corpora.manifest import read_manifest
from thaw.decoding.decode import decode, emit
from thaw.decoding.emissions import Recogniser, emissions, load_recogniser, read_features
from thaw.decoding.emitted import DEV, LABELS, SCORES, LogProbs, Scores, read_pass, write_scores
from thaw.decoding.searching import Files, search
from thaw.decoding.spread import spread
from thaw.errors import UserError
from thaw.files import read_json, read_jsonl, write_jsonl
from thaw.models import LayeredModel

GREEDY = GreedySpec(kind="greedy")
TUNED = BeamSpec(kind="beam", beam=20, tune=TuningSpec(steps=4, nbest=10))


@pytest.fixture(scope="module")
def passed(folder: Path) -> Path:  # noqa: F811
    """All that a pass can leave, of a manifest that is its own dev."""
    manifest = folder / "test.jsonl"
    write_jsonl(folder / "dev.jsonl", read_jsonl(manifest)[:4])
    emit(
        model_of(folder),
        manifest,
        folder / "e" / "emissions.json",
        scores=True,
        tune_on=folder / "dev.jsonl",
        device="cpu",
    )
    return folder / "e"


def files_of(folder: Path) -> Files:  # noqa: F811
    return Files(folder / "lm.arpa", folder / "lexicon.txt")


def test_the_file_holds_the_bits_of_the_model(passed: Path) -> None:
    manifest = passed.parent / "test.jsonl"
    recogniser = load_recogniser(model_of(passed.parent), "cpu")
    expected = list(emissions(recogniser, read_features(recogniser, read_manifest(manifest))))
    scores = Scores(passed / SCORES, read_manifest(manifest))
    assert [utterance.id for utterance in scores.utterances] == [utterance.id for utterance, _ in expected]
    for place, (_, wanted) in enumerate(expected):
        found = scores[place][1]
        assert (found.shape, found.dtype, found.tobytes()) == (wanted.shape, wanted.dtype, wanted.tobytes())
    tensors = load_file(passed / SCORES)  # as the library reads it, whole
    assert tensors["frames"].tolist() == [len(wanted) for _, wanted in expected]
    assert tensors["scores"].tobytes() == b"".join(wanted.tobytes() for _, wanted in expected)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("spec", [GREEDY, GREEDY.model_copy(update={"leave_out": "ab"}), TUNED], ids=lambda s: s.kind)
def test_a_search_finds_what_the_model_at_hand_does(passed: Path, spec: GreedySpec | BeamSpec, processes: int) -> None:
    here = passed.parent
    dev = here / "dev.jsonl" if isinstance(spec, BeamSpec) else None
    wanted, of_model = decode(
        spec, model_of(here), here / "test.jsonl", files=files_of(here), tune_on=dev, device="cpu"
    )
    rows, record = search(
        spec, read_pass(passed / "emissions.json"), here / "test.jsonl", files_of(here), dev, processes
    )
    assert rows == wanted
    assert record.pop("emissions")["passes"] == {"split": 1, "dev": 1}
    assert record.pop("cost")["processes"] == processes
    del of_model["cost"]
    assert record == of_model


def test_two_decoders_cost_one_pass(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    seen: list[int] = []
    batch = Recogniser.scores

    def counted(self: Recogniser, *arguments: Any) -> list[LogProbs]:
        found = batch(self, *arguments)
        seen.append(len(found))
        return found

    monkeypatch.setattr(Recogniser, "scores", counted)
    manifest = folder / "test.jsonl"
    emit(model_of(folder), manifest, tmp_path / "emissions.json", scores=True, device="cpu")
    for spec in (GREEDY, BeamSpec(kind="beam"), BeamSpec(kind="beam", beam=3)):
        rows, record = search(spec, read_pass(tmp_path / "emissions.json"), manifest, files_of(folder))
        assert len(rows) == len(TEXTS)
        assert record["emissions"]["passes"] == {"split": 1}
    assert sum(seen) == len(TEXTS)


def test_best_paths_alone_are_enough_for_greedy(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    manifest = folder / "test.jsonl"
    emit(model_of(folder), manifest, tmp_path / "emissions.json", device="cpu")
    assert not (tmp_path / SCORES).exists()
    rows, _ = search(GREEDY, read_pass(tmp_path / "emissions.json"), manifest, Files())
    assert rows == decode(GREEDY, model_of(folder), manifest, device="cpu")[0]
    with pytest.raises(UserError, match=r"scores\.safetensors: no such file; the `emit` rule"):
        search(BeamSpec(kind="beam"), read_pass(tmp_path / "emissions.json"), manifest, files_of(folder))


def test_a_decoder_may_be_tuned_on_the_split_itself(passed: Path) -> None:
    manifest = passed.parent / "test.jsonl"
    files = files_of(passed.parent)
    wanted = decode(TUNED, model_of(passed.parent), manifest, files=files, tune_on=manifest, device="cpu")[0]
    assert search(TUNED, read_pass(passed / "emissions.json"), manifest, files, manifest)[0] == wanted


def test_neither_greedy_nor_beam_search_loads_torch(passed: Path, tmp_path: Path) -> None:
    """Loading torch takes ten times as long as the rest of a greedy job."""
    here = passed.parent
    files = ["--manifest", here / "test.jsonl", "--tune-on", here / "dev.jsonl"]
    files += ["--lm", here / "lm.arpa", "--lexicon", here / "lexicon.txt", "--record", tmp_path / "r.json"]
    code = (
        "import sys; from thaw.cli import main; print(main(sys.argv[1:]), *sorted({'torch', 'scipy'} & {*sys.modules}))"
    )
    for spec in (GREEDY, TUNED):
        words = [
            "--decoder",
            spec.model_dump_json(),
            "--emissions",
            passed / "emissions.json",
            *files,
            "--threads",
            "2",
        ]
        command = [sys.executable, "-c", code, "search", *map(str, words), "--hypotheses", str(tmp_path / "h.jsonl")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["0"], done.stderr
        assert len(read_jsonl(tmp_path / "h.jsonl")) == len(TEXTS)


def test_the_verbs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    manifest, out = str(folder / "test.jsonl"), str(tmp_path / "e" / "emissions.json")
    assert (
        main(["emit", "--model", str(model_of(folder)), "--manifest", manifest, "--device", "cpu", "--record", out])
        == 0
    )
    words = ["search", "--emissions", out, "--manifest", manifest, "--lm", "--graph"]
    words += ["--hypotheses", str(tmp_path / "h.jsonl"), "--record", str(tmp_path / "r.json")]
    assert main(words) == 0
    assert "emit: dä" in capsys.readouterr().err
    assert read_json(tmp_path / "r.json")["decoder"]["kind"] == "greedy"
    assert main([*words, "--decoder", '{"kind": "joint"}']) == 2
    assert "joint asks the model while it searches: take `thaw decode`" in capsys.readouterr().err


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_emissions_of_another_manifest_are_refused(passed: Path, tmp_path: Path) -> None:
    rows = read_jsonl(passed.parent / "test.jsonl")
    write_jsonl(passed.parent / "corrected.jsonl", [rows[0] | {"text": "b"}, *rows[1:]])
    with pytest.raises(UserError, match=r"e: not emissions of .*corrected\.jsonl as it is now"):
        search(GREEDY, read_pass(passed / "emissions.json"), passed.parent / "corrected.jsonl", Files())
    files = files_of(passed.parent)
    with pytest.raises(UserError, match=r"e: not emissions of .*corrected\.jsonl as it is now"):
        search(
            TUNED,
            read_pass(passed / "emissions.json"),
            passed.parent / "test.jsonl",
            files,
            passed.parent / "corrected.jsonl",
        )
    with pytest.raises(UserError, match=r"emissions\.json: no such file"):
        read_pass(tmp_path / "emissions.json")


def test_damage_is_named(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    manifest = folder / "test.jsonl"
    emit(model_of(folder), manifest, tmp_path / "emissions.json", scores=True, device="cpu")
    path = tmp_path / SCORES
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"scores\.safetensors: damaged or edited"):
        search(BeamSpec(kind="beam"), read_pass(tmp_path / "emissions.json"), manifest, files_of(folder))
    (tmp_path / LABELS).write_text('{"id": "u0"}\n')
    with pytest.raises(UserError, match=r"labels\.jsonl: damaged or edited"):
        search(GREEDY, read_pass(tmp_path / "emissions.json"), manifest, Files())


def test_nothing_of_an_earlier_pass_is_left_beside_a_later_one(
    folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scores of one model beside the record of another would be searched under the wrong name."""
    manifest, record = folder / "test.jsonl", tmp_path / "emissions.json"
    emit(model_of(folder), manifest, record, scores=True, tune_on=manifest, device="cpu")
    emit(model_of(folder), manifest, record, device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["emissions.json", LABELS]
    emit(model_of(folder), manifest, record, scores=True, device="cpu")

    def killed(*arguments: Any) -> Iterator[LogProbs]:
        yield toy.random_emissions(5, 0)
        raise KeyboardInterrupt

    monkeypatch.setattr(Recogniser, "scores", killed)
    with pytest.raises(KeyboardInterrupt):
        emit(model_of(folder), manifest, record, scores=True, device="cpu")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="no such file"):
        read_pass(record)


def test_a_mistaken_pass_leaves_what_is_there(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    record = tmp_path / "emissions.json"
    emit(model_of(folder), folder / "test.jsonl", record, device="cpu")
    with pytest.raises(UserError, match="no such file"):
        emit(tmp_path / "model.safetensors", folder / "test.jsonl", record, device="cpu")
    assert search(GREEDY, read_pass(record), folder / "test.jsonl", Files())


def test_a_gpu_that_is_full_is_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def full(*arguments: Any, **how: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LayeredModel, "forward", full)
    with pytest.raises(UserError, match=r"out of GPU memory with 6 utterances of up to 64 frames; let fewer jobs"):
        emit(model_of(folder), folder / "test.jsonl", tmp_path / "emissions.json", device="cpu")


def test_best_paths_of_other_utterances_are_refused(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    manifest = folder / "test.jsonl"
    emit(model_of(folder), manifest, tmp_path / "emissions.json", device="cpu")
    write_jsonl(tmp_path / LABELS, read_jsonl(tmp_path / LABELS)[1:])
    with pytest.raises(UserError, match=r"labels\.jsonl: best paths of other utterances"):
        search(GREEDY, read_pass(tmp_path / "emissions.json"), manifest, Files())


@pytest.mark.parametrize("given", [1, 3])
def test_a_file_of_scores_has_those_of_every_utterance(tmp_path: Path, given: int) -> None:
    with pytest.raises(ValueError, match="zip"):
        write_scores(tmp_path / SCORES, ["a", "b"], 5, [toy.random_emissions(5, n) for n in range(given)])
    assert not list(tmp_path.iterdir())


def test_what_ends_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[LogProbs]:
        yield toy.random_emissions(5, 0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scores(tmp_path / DEV, ["a", "b"], 5, broken())
    assert not list(tmp_path.iterdir())


def test_a_file_of_many_frames_and_odd_ids(tmp_path: Path) -> None:
    """The header is written before the frames are counted: whatever their number, it must fit."""
    ids = [f'ä"\\{number}' for number in range(3)]
    scores = [np.full((count, 2), count, np.float32) for count in (0, 1, 123_456)]
    write_scores(tmp_path / SCORES, ids, 2, scores)
    tensors = load_file(tmp_path / SCORES)
    assert tensors["frames"].tolist() == [0, 1, 123_456]
    assert tensors["scores"][0].tolist() == [1.0, 1.0]
    assert (tensors["scores"][1:] == 123_456).all()


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2, 4, 9])
def test_results_come_in_the_order_of_the_items(processes: int) -> None:
    assert spread(lambda item: item * item, range(5), processes) == [0, 1, 4, 9, 16]
    assert spread(lambda item: item, [], processes) == []


def test_mistakes_and_deaths_in_a_process_are_told() -> None:
    def wrong(item: int) -> int:
        if item == 3:
            raise UserError("three")
        return item

    with pytest.raises(UserError, match=r"^three$"):
        spread(wrong, range(5), 2)
    with pytest.raises(UserError, match="a process that searches died"):
        spread(lambda item: os._exit(9) if item == 3 else item, range(5), 2)
    assert json.dumps(spread(wrong, range(3), 2)) == "[0, 1, 2]"
