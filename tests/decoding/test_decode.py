"""From a model and a manifest to hypotheses: batches, records, warnings, the two verbs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from tests.decoding import toy
from thaw.audio.wav import clip_digest
from thaw.commands import decode as decode_verb
from thaw.commands import transcribe as transcribe_verb
from thaw.config.decoders import BeamSpec, GreedySpec, TuningSpec
from thaw.config.models import DeepSpeechSpec
from thaw.corpora.manifest import read_manifest
from thaw.decoding import emissions as emissions_module
from thaw.decoding.decode import decode
from thaw.decoding.emissions import batches, emissions, load_recogniser, read_features
from thaw.decoding.greedy import greedy
from thaw.decoding.rows import check_references
from thaw.decoding.searching import Files
from thaw.errors import UserError
from thaw.files import read_json, read_jsonl, write_jsonl
from thaw.models import build, save_model

SPEC = DeepSpeechSpec(kind="deepspeech", hidden=12, context=2)
SECONDS = (0.9, 0.01, 0.5, 1.3, 0.5, 0.7)
TEXTS = ("a ab", "c", "bb c", "ä ab", "a", "d a")


def write_shard(folder: Path) -> Path:
    """One shard of noise and a manifest of it, ids not in the order of durations."""
    random = np.random.default_rng(0)
    rows, clips, offset = [], [], 0
    for number, (seconds, text) in enumerate(zip(SECONDS, TEXTS, strict=True)):
        samples = int(seconds * 16000)
        clips.append(random.integers(-8000, 8000, samples).astype(np.int16))
        row = {"id": f"u{number}", "audio_filepath": "0.wav", "offset_samples": offset, "samples": samples}
        row |= {"sampling_rate": 16000, "lang": "xx", "speaker": f"s{number % 2}", "text": text, "text_raw": text}
        rows.append(row | {"offset": offset / 16000, "duration": samples / 16000, "digest": clip_digest(clips[-1])})
        offset += samples
    soundfile.write(folder / "0.wav", np.concatenate(clips), 16000, subtype="PCM_16")
    write_jsonl(folder / "test.jsonl", rows)
    return folder / "test.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest, a language model, a lexicon, and an untrained model in results/runs/toy-1."""
    path = tmp_path_factory.mktemp("decode")
    write_shard(path)
    toy.write_arpa(path / "lm.arpa", toy.make_grams())
    toy.write_lexicon(path / "lexicon.txt")
    model = build(SPEC, len(toy.CHARACTERS) + 1)
    model.initialise(1)
    meta = {"model": SPEC.model_dump(mode="json"), "alphabet": toy.CHARACTERS, "run": "toy-1"}
    save_model(path / "results" / "runs" / "toy-1" / "model.safetensors", model, meta)
    return path


def model_of(folder: Path) -> Path:
    return folder / "results" / "runs" / "toy-1" / "model.safetensors"


def call(verb: ModuleType, *options: object) -> None:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    verb.run(parser.parse_args([str(option) for option in options]))


def test_batches_hold_every_utterance_once_and_few_frames(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emissions_module, "BATCH_FRAMES", 80)
    utterances = read_manifest(folder / "test.jsonl")
    made = list(batches(utterances))
    assert [u.id for batch in made for u in batch] == ["u1", "u2", "u4", "u5", "u0", "u3"]
    assert all(len(batch) * (batch[-1].samples // 320 + 1) <= 80 for batch in made)
    assert len(made) == 4


def test_emissions_are_log_probabilities_and_do_not_depend_on_the_batch(folder: Path) -> None:
    recogniser = load_recogniser(model_of(folder), "cpu")
    utterances = read_manifest(folder / "test.jsonl")
    together = {u.id: scores for u, scores in emissions(recogniser, read_features(recogniser, utterances))}
    for utterance in utterances:
        (alone,) = recogniser.log_probs([utterance.pcm()])
        scores = together[utterance.id]
        assert scores.shape == (SPEC.frames(utterance.samples), 5)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, alone, atol=1e-5)
        np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-5)
    assert len(together["u1"]) == 0  # shorter than one window


def test_every_utterance_has_its_own_hypothesis_in_the_order_of_ids(folder: Path) -> None:
    rows, record = decode(GreedySpec(kind="greedy"), model_of(folder), folder / "test.jsonl", device="cpu")
    recogniser = load_recogniser(model_of(folder), "cpu")
    expected = {
        u.id: greedy(recogniser.log_probs([u.pcm()])[0], recogniser.alphabet)
        for u in read_manifest(folder / "test.jsonl")
    }
    assert [(r["id"], r["hypothesis"]) for r in rows] == sorted(expected.items())
    assert [(r["speaker"], r["reference"]) for r in rows] == [(f"s{i % 2}", text) for i, text in enumerate(TEXTS)]
    assert record["decoder"] == {"kind": "greedy", "label": "greedy", "leave_out": ""}
    assert record["audio_seconds"] == pytest.approx(sum(SECONDS), abs=1e-3)
    assert record["references"]["outside_alphabet"] == 2
    assert any("emit: dä" in warning for warning in record["warnings"])


def test_verb_with_tuned_beam_writes_the_same_bytes_twice(folder: Path, tmp_path: Path) -> None:
    spec = BeamSpec(kind="beam", beam=20, tune=TuningSpec(steps=4, nbest=10))
    written = []
    for name in ("one", "two"):
        out, record = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.json"
        files = ["--model", model_of(folder), "--manifest", folder / "test.jsonl", "--tune-on", folder / "test.jsonl"]
        files += ["--lm", folder / "lm.arpa", "--lexicon", folder / "lexicon.txt", "--hypotheses", out]
        call(decode_verb, "--decoder", spec.model_dump_json(), *files, "--record", record, "--device", "cpu")
        written.append((out.read_bytes(), {k: v for k, v in read_json(record).items() if k != "cost"}))
    assert written[0] == written[1]
    record = written[0][1]
    assert (record["alpha"], record["beta"]) == (record["tuning"]["alpha"], record["tuning"]["beta"])
    assert np.array(record["tuning"]["wer"]).shape == (4, 4)
    assert record["references"]["oov_rate"] == pytest.approx(2 / 10)  # ä and d
    words = {word for row in read_jsonl(tmp_path / "one.jsonl") for word in row["hypothesis"].split()}
    assert words <= set(toy.WORDS)


def test_options_of_beam_decoders_may_stand_empty(folder: Path, tmp_path: Path) -> None:
    """The workflow's one rule for all decoders writes them so."""
    files = ["--model", model_of(folder), "--manifest", folder / "test.jsonl", "--hypotheses", tmp_path / "h.jsonl"]
    call(decode_verb, *files, "--tune-on", "--lm", "--lexicon", "--record", tmp_path / "r.json", "--device", "cpu")
    assert len(read_jsonl(tmp_path / "h.jsonl")) == len(TEXTS)


def test_what_a_beam_decoder_lacks_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="--lm"):
        decode(BeamSpec(kind="beam"), model_of(folder), folder / "test.jsonl", device="cpu")
    with pytest.raises(UserError, match="--tune-on"):
        decode(
            BeamSpec(kind="beam", tune=TuningSpec()),
            model_of(folder),
            folder / "test.jsonl",
            files=Files(folder / "lm.arpa", folder / "lexicon.txt"),
            device="cpu",
        )
    (folder / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="no utterances"):
        decode(GreedySpec(kind="greedy"), model_of(folder), folder / "empty.jsonl", device="cpu")


def test_references_beyond_the_decoder() -> None:
    facts, warnings = check_references(["ab x", "ab"], " ab", frozenset({"ab"}))
    assert facts == {"outside_alphabet": 1, "oov_words": 1, "oov_rate": pytest.approx(1 / 3)}
    assert len(warnings) == 1
    facts, warnings = check_references(["ab"], " ab", None)
    assert facts["oov_rate"] is None
    assert warnings == []


def test_transcribe_goes_on_after_a_bad_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    sound = np.random.default_rng(1).uniform(-0.2, 0.2, (44100, 2))
    for name in ("first.flac", "last.wav"):
        soundfile.write(tmp_path / name, sound, 44100)
    (tmp_path / "broken.mp3").write_bytes(b"no sound")
    files = [tmp_path / name for name in ("first.flac", "broken.mp3", "missing.wav", "last.wav")]
    with pytest.raises(UserError) as raised:
        call(transcribe_verb, "toy", *files)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(files[0]), str(files[3])]
    assert lines[0].split("\t")[1] == lines[1].split("\t")[1]
    complaints = str(raised.value).splitlines()
    assert len(complaints) == 2
    assert complaints[0].startswith(f"{files[1]}: ")
    assert complaints[1].startswith(f"{files[2]}: ")


def test_transcribe_with_a_language_model_gives_words_of_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    soundfile.write(tmp_path / "x.wav", np.random.default_rng(1).uniform(-0.2, 0.2, 16000), 16000)
    tuned = json.dumps({"kind": "beam", "tune": {}, "beam": 10})
    call(transcribe_verb, model_of(folder), tmp_path / "x.wav", "--lm", "lm.arpa", "--decoder", tuned)
    text = capsys.readouterr().out.rstrip("\n").split("\t")[1]
    assert set(text.split()) <= set(toy.WORDS)


def test_runs_are_found_by_the_start_of_their_name(tmp_path: Path) -> None:
    for name in ("german-1", "german-10", "spanish-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"")
    find = transcribe_verb.find_model
    assert find("spanish", tmp_path) == tmp_path / "spanish-1" / "model.safetensors"
    assert find("german-1", tmp_path) == tmp_path / "german-1" / "model.safetensors"  # exact before prefix
    assert find(str(tmp_path / "german-10"), tmp_path) == tmp_path / "german-10" / "model.safetensors"
    with pytest.raises(UserError, match="german-1, german-10"):
        find("ger", tmp_path)
    with pytest.raises(UserError, match="german-1, german-10, spanish-1"):
        find("french", tmp_path)
    with pytest.raises(UserError, match="no finished run"):
        find("french", tmp_path / "none")
