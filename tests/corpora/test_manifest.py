"""Manifests: every listed utterance ends in exactly one place, and rows find their audio."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio.clips import listing, tone, write
from thaw.audio.listing import Clip
from thaw.audio.shards import ShardFiles, write_shard
from thaw.audio.wav import wav_header
from thaw.commands import manifest as verb
from thaw.config.conformer import ConformerSpec
from thaw.config.models import DeepSpeechSpec, ModelSpec
from thaw.config.schema import AudioSpec, TextSpec
from thaw.corpora.manifest import SHARED_SPEAKERS, Built, Shard, build, manifest_sha256, read_manifest
from thaw.errors import UserError
from thaw.files import Reject, read_json, read_rejects, seal_of, write_jsonl, write_rejects

TEXT = TextSpec(alphabet=" abcdefghijklmnopqrstuvwxyz")
MODEL = DeepSpeechSpec(kind="deepspeech")


class Corpus:
    """Rows of a listing and the audio made from them, without sound files: only lengths matter here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, str]] = []
        self.index: list[dict[str, Any]] = []
        self.rejects: list[Reject] = []
        self.samples = 0

    def add(
        self, id: str, split: str, text: str = "ja", samples: int = 16000, speaker: str = "s", digest: str = ""
    ) -> None:
        self.rows.append({"id": id, "split": split, "text_raw": text, "path": f"{id}.mp3", "speaker": speaker})
        row = {"id": id, "offset": self.samples, "samples": samples, "digest": digest or f"{len(self.rows):016x}"}
        self.index.append(row | {"source_rate": 48000, "source_channels": 1})
        self.samples += samples

    def add_reject(self, id: str, split: str, reason: str = "too long") -> None:
        self.rows.append({"id": id, "split": split, "path": f"{id}.mp3"})
        self.rejects.append(Reject(id, split, "audio", reason))

    def fill(self) -> None:
        """One good utterance per split, so that no split is empty."""
        for split in ("train", "dev", "test"):
            self.add(f"good-{split}", split)

    def build(self, models: Sequence[ModelSpec] = (), text: TextSpec = TEXT) -> Built:
        utterances = listing(self.folder / "utterances.jsonl", self.rows)
        shard = Shard(self.folder / "0.jsonl", self.folder / "0.wav")
        write_jsonl(shard.index, self.index)
        shard.wav.write_bytes(wav_header(2 * self.samples) + bytes(2 * self.samples))
        write_rejects(self.folder / "0.tsv", self.rejects)
        folders = dict.fromkeys(("train", "dev", "test"), self.folder / "manifests")
        return build(utterances, [shard], [self.folder / "0.tsv"], text, models or [MODEL], folders)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


def made_reasons(built: Built) -> dict[str, tuple[str, str]]:
    return {reject.id: (reject.reason, reject.detail) for reject in built.rejects}


def test_rows_are_what_the_format_says(corpus: Corpus) -> None:
    corpus.fill()
    corpus.add("x", "train", "Hallo, Welt!", samples=12345, speaker="anna")
    row = corpus.build().rows["train"][-1]
    assert row == {
        "audio_filepath": "../0.wav",
        "offset": 3.0,
        "duration": 12345 / 16000,
        "offset_samples": 48000,
        "samples": 12345,
        "sampling_rate": 16000,
        "id": "x",
        "lang": "de",
        "speaker": "anna",
        "text": "hallo welt",
        "text_raw": "Hallo, Welt!",
        "digest": "0" * 15 + "4",
    }


def test_rejects_of_text(corpus: Corpus) -> None:
    corpus.fill()
    corpus.add("empty", "test", "...")
    corpus.add("digits", "train", "2 × 3")
    corpus.add_reject("broken", "dev", "unreadable audio")
    built = corpus.build()
    assert made_reasons(built) == {
        "empty": ("empty transcript", ""),
        "digits": ("character outside the alphabet", "U+0032 '2', U+0033 '3', U+00D7 '×'"),
        "broken": ("unreadable audio", ""),
    }
    assert {reject.id: reject.room for reject in built.rejects} == {
        "empty": "manifest",
        "digits": "manifest",
        "broken": "audio",
    }


def samples_of(frames: int) -> int:
    """Fewest samples that give DeepSpeech so many frames."""
    return 512 + 320 * (frames - 1)


def test_the_ctc_rule_at_its_boundary(corpus: Corpus) -> None:
    """ "schnell" has seven letters and one repeat: eight frames are enough, seven are not, test keeps all."""
    corpus.fill()
    corpus.add("fits", "train", "schnell", samples_of(8))
    corpus.add("tight", "train", "schnell", samples_of(8) - 1)
    corpus.add("dev", "dev", "schnell", samples_of(7))
    corpus.add("test", "test", "schnell", samples_of(7))
    corpus.add("no-repeat", "train", "schneld", samples_of(7))
    built = corpus.build()
    assert made_reasons(built) == dict.fromkeys(
        ("tight", "dev"), ("transcript longer than its audio", "required 8 frames, available 7")
    )
    assert [row["id"] for row in built.rows["test"]] == ["good-test", "test"]


def test_every_model_must_be_able_to_align(corpus: Corpus) -> None:
    class Slow(DeepSpeechSpec):
        def frames(self, samples: int) -> int:
            return super().frames(samples) // 2

    corpus.fill()
    corpus.add("x", "train", "schnell", samples_of(15))
    assert not corpus.build([MODEL]).rejects
    assert made_reasons(corpus.build([MODEL, Slow(kind="deepspeech")]))["x"][1] == "required 8 frames, available 7"


def test_a_transducer_has_room_for_any_text_in_one_frame(corpus: Corpus) -> None:
    """80 ms a frame, and seven letters a frame: CTC could align none of it."""
    stacking = {"kind": "conformer", "variant": "mini-S", "causal": True, "stack": 2}
    ctc, transducer = (ConformerSpec.model_validate({**stacking, "head": head}) for head in ("ctc", "rnnt"))
    corpus.fill()
    corpus.add("fast", "train", "schnell", 1280)
    corpus.add("nothing", "train", "schnell", 256)
    assert made_reasons(corpus.build([ctc]))["fast"][1] == "required 8 frames, available 1"
    assert made_reasons(corpus.build([transducer])) == {
        "nothing": ("transcript longer than its audio", "required 8 frames, available 0")
    }
    assert {"head"} < {*ConformerSpec.frame_fields}  # or the two would share a manifest


def test_counts(corpus: Corpus) -> None:
    corpus.fill()
    corpus.add("a", "train", "ja  nein", samples=16000 * 36, speaker="t")
    corpus.add("b", "train", "...")
    corpus.add_reject("c", "train")
    corpus.add_reject("d", "train")
    corpus.rejects.append(Reject("e", "train", "fetch", "no transcript"))  # never listed by fetch
    counts = corpus.build().counts
    assert counts["train"] == {
        "utterances": 2,
        "hours": 0.010278,
        "speakers": 2,
        "characters": 9,
        "words": 3,
        "listed": 6,
        "rejected": {"empty transcript": 1, "no transcript": 1, "too long": 2},
    }
    assert counts["dev"]["rejected"] == {}


def test_an_empty_split_says_the_commonest_reason(corpus: Corpus) -> None:
    corpus.fill()
    corpus.rows = [row for row in corpus.rows if row["split"] != "dev"]
    corpus.index = [row for row in corpus.index if row["id"] != "good-dev"]
    with pytest.raises(UserError, match="lists no utterance of split 'dev'"):
        corpus.build()
    corpus.add_reject("a", "dev")
    corpus.add("b", "dev", "ß")
    corpus.add("c", "dev", "ß")
    with pytest.raises(UserError, match=r"split 'dev' is left of 3; .* character outside the alphabet \(2\)"):
        corpus.build()


# --- inputs that do not belong together -------------------------------------------------------------------------------


def test_an_utterance_that_the_audio_room_never_saw(corpus: Corpus) -> None:
    corpus.fill()
    corpus.rows.append({"id": "new", "split": "train", "path": "new.mp3"})
    with pytest.raises(UserError, match=r"do not match \(1 utterances, e\.g\. 'new'\).*`audio` rule"):
        corpus.build()


def test_audio_of_another_listing(corpus: Corpus) -> None:
    corpus.fill()
    corpus.add("old", "train")
    corpus.rows.pop()
    with pytest.raises(UserError, match=r"do not match .*'old'"):
        corpus.build()


def test_an_utterance_both_converted_and_rejected(corpus: Corpus) -> None:
    corpus.fill()
    corpus.rejects.append(Reject("good-dev", "dev", "audio", "too long"))
    with pytest.raises(UserError, match=r"do not match .*'good-dev'"):
        corpus.build()


def test_a_shard_given_twice(corpus: Corpus) -> None:
    corpus.fill()
    corpus.build()
    shard = Shard(corpus.folder / "0.jsonl", corpus.folder / "0.wav")
    folders = dict.fromkeys(("train", "dev", "test"), corpus.folder)
    with pytest.raises(UserError, match="give each shard once"):
        build(corpus.folder / "utterances.jsonl", [shard, shard], [], TEXT, [MODEL], folders)


def test_a_shard_shorter_than_its_index_is_found_before_training(corpus: Corpus) -> None:
    corpus.fill()
    corpus.build()
    shard = Shard(corpus.folder / "0.jsonl", corpus.folder / "0.wav")
    folders = dict.fromkeys(("train", "dev", "test"), corpus.folder)
    shard.wav.write_bytes(shard.wav.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"0\.wav: holds 47999 samples .*`audio` rule"):
        build(corpus.folder / "utterances.jsonl", [shard], [], TEXT, [MODEL], folders)


# --- properties -------------------------------------------------------------------------------------------------------

ENDS = st.sampled_from(["ja", "...", "ß", "x" * 60, "audio reject"])


@given(ends=st.lists(st.tuples(ENDS, st.sampled_from(["train", "dev", "test"])), max_size=12))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_listed_is_kept_plus_rejected(tmp_path_factory: pytest.TempPathFactory, ends: list[tuple[str, str]]) -> None:
    corpus = Corpus(tmp_path_factory.mktemp("corpus"))
    corpus.fill()
    for number, (text, split) in enumerate(ends):
        if text == "audio reject":
            corpus.add_reject(f"{number:02}", split)
        else:
            corpus.add(f"{number:02}", split, text)
    built = corpus.build()
    kept = [row["id"] for rows in built.rows.values() for row in rows]
    assert sorted(kept + [reject.id for reject in built.rejects]) == sorted(row["id"] for row in corpus.rows)
    for split in ("train", "dev", "test"):
        assert built.counts[split]["listed"] == sum(row["split"] == split for row in corpus.rows)
        count = built.counts[split]
        assert count["listed"] == count["utterances"] + sum(count["rejected"].values())
        assert [row["id"] for row in built.rows[split]] == sorted(row["id"] for row in built.rows[split])


# --- with real sound, through the verb --------------------------------------------------------------------------------


def run_verb(folder: Path, shards: int) -> Path:
    """Six clips in `shards` shards, then `thaw manifest`; returns the folder of the manifests."""
    clips = []
    for number in range(6):
        path = write(folder / "clips" / f"{number}.wav", tone(0.5 + 0.1 * number, hertz=200.0 + 100 * number))
        clips.append(Clip(f"u{number}", path, "Hallo!", f"s{number % 2}", ("train", "dev", "test")[number % 3], "de"))
    rows = [
        {"id": c.id, "path": str(c.path), "text_raw": c.text_raw, "speaker": c.speaker, "split": c.split} for c in clips
    ]
    utterances = listing(folder / "utterances.jsonl", rows)
    arguments = ["--text", TEXT.model_dump_json(), "--utterances", str(utterances)]
    arguments += ["--frames", '{"kind":"deepspeech"}', '[{"kind":"deepspeech","hidden":64}]']
    names: dict[str, list[str]] = {"--index": [], "--wav": [], "--rejects-in": []}
    for shard in range(shards):
        files = [folder / "audio" / f"{shard}.{kind}" for kind in ("jsonl", "wav", "tsv")]
        part = clips[len(clips) * shard // shards : len(clips) * (shard + 1) // shards]
        write_shard(part, AudioSpec(), ShardFiles(wav=files[1], index=files[0], rejects=files[2]))
        for option, file in zip(names, files, strict=True):
            names[option].append(str(file))
    for option, values in names.items():
        arguments += [option, *values]
    out = folder / "manifests"
    for split in ("train", "dev", "test"):
        arguments += [f"--{split}", str(out / f"{split}.jsonl")]
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    verb.run(
        parser.parse_args([*arguments, "--rejects", str(out / "rejects.tsv"), "--counts", str(out / "counts.json")])
    )
    return out


@pytest.mark.parametrize("shards", [1, 2])
def test_the_verb_and_reading_back(tmp_path: Path, shards: int) -> None:
    out = run_verb(tmp_path, shards)
    assert read_json(out / "counts.json")["dev"]["utterances"] == 2
    assert read_rejects(out / "rejects.tsv") == []
    for split, numbers in {"train": (0, 3), "dev": (1, 4), "test": (2, 5)}.items():
        utterances = read_manifest(out / f"{split}.jsonl")
        assert [utterance.id for utterance in utterances] == [f"u{number}" for number in numbers]
        for utterance, number in zip(utterances, numbers, strict=True):
            expected = np.rint(tone(0.5 + 0.1 * number, hertz=200.0 + 100 * number) * 32767)
            assert utterance.seconds == pytest.approx(0.5 + 0.1 * number)
            assert np.abs(utterance.pcm() - expected).max() <= 1
            assert utterance.pcm().dtype == np.int16


def test_what_a_manifest_says_is_the_same_however_its_audio_is_cut(tmp_path: Path) -> None:
    one, two = (run_verb(tmp_path / str(shards), shards) / "dev.jsonl" for shards in (1, 2))
    assert one.read_bytes() != two.read_bytes()
    assert manifest_sha256(one) == manifest_sha256(two)
    for old, new in (('"text": "hallo"', '"text": "halo"'), ('"digest": "', '"digest": "0'), ("\n", "\n{}\n")):
        assert old in one.read_text()
        seal_of(two).unlink(missing_ok=True)  # an edit on purpose
        two.write_text(one.read_text().replace(old, new, 1))
        assert manifest_sha256(two) != manifest_sha256(one)


def test_a_manifest_is_read_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run_verb(tmp_path, 1)
    row = json.loads((out / "train.jsonl").read_text().splitlines()[0])
    assert row["audio_filepath"] == "../audio/0.wav"
    for folder in (tmp_path, out):
        monkeypatch.chdir(folder)
        (utterance, _) = read_manifest(Path(os.path.relpath(out / "train.jsonl")))
        assert len(utterance.pcm()) == 8000


def test_a_shard_that_went_missing_is_named(tmp_path: Path) -> None:
    out = run_verb(tmp_path, 1)
    (utterance, _) = read_manifest(out / "train.jsonl")
    (tmp_path / "audio" / "0.wav").unlink()
    with pytest.raises(UserError, match=r"audio/0\.wav.*missing.*`audio` rule"):
        utterance.pcm()


def test_another_programs_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "nemo.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 1.0, "text": "a"}\n')
    with pytest.raises(UserError, match=r"nemo\.jsonl: None is no row of thaw's manifests"):
        read_manifest(tmp_path / "nemo.jsonl")


def test_the_same_audio_is_in_one_split_only(corpus: Corpus) -> None:
    """Under whatever ids: what is tested on is neither learnt from nor chosen by."""
    corpus.fill()
    for name, split, digest in [
        ("a", "test", "1"),
        ("b", "dev", "1"),
        ("c", "train", "1"),
        ("d", "dev", "2"),
        ("e", "train", "2"),
        ("f", "train", "3"),
        ("g", "train", "3"),  # twice in one split is no leak
    ]:
        corpus.add(name, split, digest=digest * 16)
    built = corpus.build()
    assert made_reasons(built) == {
        "b": ("same audio in test", "a"),
        "c": ("same audio in test", "a"),
        "e": ("same audio in dev", "d"),
    }
    assert built.counts["train"]["rejected"] == {"same audio in dev": 1, "same audio in test": 1}
    assert [row["id"] for row in built.rows["train"]] == ["f", "g", "good-train"]
    assert built.counts["dev"]["listed"] == 3


def test_a_test_utterance_that_is_left_out_frees_its_audio(corpus: Corpus) -> None:
    corpus.fill()
    corpus.add("a", "test", "ж", digest="1" * 16)
    corpus.add("b", "train", digest="1" * 16)
    assert "b" in {row["id"] for row in corpus.build().rows["train"]}


def test_speakers_in_several_splits_are_counted(corpus: Corpus) -> None:
    for name, speakers in {"train": "pqr", "dev": "rq", "test": "rst"}.items():
        for speaker in speakers:
            corpus.add(f"{name}-{speaker}", name, speaker=speaker)
        for nameless in ("unknown", "part/unknown"):
            corpus.add(f"{name}-{nameless}", name, speaker=nameless)
    built = corpus.build()
    assert built.counts[SHARED_SPEAKERS] == {"train+dev": 2, "train+test": 1, "dev+test": 1}


def test_the_verb_warns_of_speakers_in_several_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_verb(tmp_path, 1)
    assert read_json(out / "counts.json")[SHARED_SPEAKERS]["train+test"] == 2
    assert "warning: 2 of the speakers of test are in train too" in capsys.readouterr().err


def test_splits_without_common_speakers_have_nothing_to_say(corpus: Corpus) -> None:
    for split in ("train", "dev", "test"):
        corpus.add(split, split, speaker=split)
    assert list(corpus.build().counts) == ["train", "dev", "test"]


DAMAGES: list[tuple[str, Any]] = [
    ("samples", -1),
    ("samples", 0),
    ("samples", "9"),
    ("samples", 1.5),
    ("samples", True),
    ("offset_samples", -1),
    ("text", None),
    ("text", ["a"]),
    ("text", "\ud800"),
    ("audio_filepath", None),
    ("audio_filepath", "a\0b"),
    ("digest", 7),
    ("sampling_rate", float("nan")),
]


@pytest.mark.parametrize(("key", "value"), DAMAGES)
def test_a_manifest_edited_by_hand_is_one_line(corpus: Corpus, key: str, value: Any) -> None:
    corpus.fill()
    path = corpus.folder / "train.jsonl"
    path.write_text(json.dumps({**corpus.build().rows["train"][0], key: value}) + "\n")
    with pytest.raises(UserError, match=r"train\.jsonl: "):
        read_manifest(path)


@pytest.mark.parametrize("text", ['["a"]', '{"text": "\\ud800"}', '{"text": NaN}', "7"])
def test_a_manifest_that_cannot_be_hashed_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(text + "\n")
    for read in (manifest_sha256, read_manifest):
        with pytest.raises(UserError, match=r"train\.jsonl(:1)?: "):
            read(path)


@pytest.mark.parametrize(("key", "value"), [("samples", None), ("offset", -1), ("digest", 5), ("id", None)])
def test_an_index_edited_by_hand_is_one_line(corpus: Corpus, key: str, value: Any) -> None:
    corpus.fill()
    corpus.index[0][key] = value
    with pytest.raises(UserError, match=r"0\.jsonl: a row is not of an index"):
        corpus.build()


def test_rejects_edited_by_hand_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "0.tsv").write_text("id\tsplit\n" + "a\tb\n")
    with pytest.raises(UserError, match=r"0\.tsv:2: not a row of a rejects table"):
        read_rejects(tmp_path / "0.tsv")
