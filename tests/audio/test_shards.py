"""Shards: every clip once, the same bytes for any thread count, and nothing half-written."""

from __future__ import annotations

import argparse
import errno
import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.clips import listing, tone, write
from thaw.audio.listing import Clip, read_listing, shard_slice
from thaw.audio.shards import ShardFiles, in_order, write_shard
from thaw.audio.wav import HEADER_BYTES, MAX_DATA_BYTES, read_pcm, wav_header
from thaw.commands import audio, features
from thaw.config.schema import AudioSpec
from thaw.errors import UserError
from thaw.files import read_jsonl, read_rejects

SPEC = AudioSpec()


def corpus(folder: Path) -> Path:
    """Seven good clips of different lengths, formats and rates, and three bad ones."""
    rows = []
    for number, (suffix, rate) in enumerate(
        [
            (".wav", 16000),
            (".mp3", 48000),
            (".flac", 8000),
            (".mp3", 32000),
            (".ogg", 44100),
            (".wav", 22050),
            (".mp3", 48000),
        ]
    ):
        path = write(folder / f"clip{number}{suffix}", tone(0.3 + 0.1 * number, rate, 300.0 + 50 * number), rate)
        rows.append({"id": f"clip{number}", "path": str(path)})
    (folder / "zero.mp3").write_bytes(b"")
    write(folder / "long.wav", tone(31.0))
    rows += [{"id": name.split(".")[0], "path": str(folder / name)} for name in ("zero.mp3", "long.wav", "absent.mp3")]
    return listing(folder / "utterances.jsonl", rows[::-1])


def outputs(folder: Path) -> ShardFiles:
    return ShardFiles(folder / "shard.wav", folder / "shard.jsonl", folder / "shard.tsv")


def content(files: ShardFiles) -> tuple[bytes, bytes, bytes]:
    return files.wav.read_bytes(), files.index.read_bytes(), files.rejects.read_bytes()


def test_index_wav_and_rejects_belong_together(tmp_path: Path) -> None:
    files = outputs(tmp_path)
    clips = read_listing(corpus(tmp_path))
    tally = write_shard(clips, SPEC, files)
    rows = read_jsonl(files.index)
    assert [row["id"] for row in rows] == [f"clip{number}" for number in range(7)]
    rejects = read_rejects(files.rejects)
    assert [(reject.id, reject.room, reject.reason) for reject in rejects] == [
        ("absent", "audio", "missing clip"),
        ("long", "audio", "too long"),
        ("zero", "audio", "unreadable audio"),
    ]
    assert tally.done == len(rows) + len(rejects) == len(clips)
    signal, rate = soundfile.read(files.wav, dtype="int16")
    assert rate == 16000
    assert len(signal) == sum(row["samples"] for row in rows) == tally.samples
    at = 0
    for row in rows:
        assert row["offset"] == at
        pcm = read_pcm(files.wav, row["offset"], row["samples"])
        np.testing.assert_array_equal(pcm, signal[at : at + row["samples"]])
        assert row["digest"] == hashlib.blake2b(pcm.tobytes(), digest_size=8).hexdigest()
        at += row["samples"]
    assert (rows[1]["source_rate"], rows[1]["source_channels"], rows[1]["samples"]) == (48000, 1, 6400)


def test_threads_do_not_change_a_byte(tmp_path: Path) -> None:
    clips = read_listing(corpus(tmp_path))
    contents = []
    for threads in (1, 2, 5):
        files = outputs(tmp_path / str(threads))
        write_shard(clips, SPEC, files, threads)
        contents.append(content(files))
    assert contents[0] == contents[1] == contents[2]


def test_results_keep_their_order_and_are_not_made_far_ahead() -> None:
    taken: list[int] = []

    def items() -> object:
        for number in range(100):
            taken.append(number)
            yield number

    results = in_order(lambda number: number * number, items(), threads=3)  # type: ignore[arg-type]
    assert next(results) == 0
    assert len(taken) <= 20
    assert list(results) == [number * number for number in range(1, 100)]


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 10])
def test_slices_hold_every_clip_once(shards: int) -> None:
    clips = [Clip(f"{number}", Path("x"), "", "", "train", "de") for number in range(7)]
    slices = [list(shard_slice(clips, shard, shards)) for shard in range(shards)]
    assert [clip for part in slices for clip in part] == clips
    assert max(map(len, slices)) - min(map(len, slices)) <= 1
    with pytest.raises(UserError, match="no shard"):
        shard_slice(clips, shards, shards)


def test_the_verb_makes_the_same_audio_in_one_shard_or_three(tmp_path: Path) -> None:
    utterances = corpus(tmp_path)
    parser = argparse.ArgumentParser()
    audio.add_arguments(parser)

    def shard(number: int, of: int) -> bytes:
        files = outputs(tmp_path / f"{number}of{of}")
        names = ["--wav", str(files.wav), "--index", str(files.index), "--rejects", str(files.rejects)]
        options = ["--utterances", str(utterances), "--shard", str(number), "--shards", str(of), "--threads", "2"]
        audio.run(parser.parse_args(options + names))
        return files.wav.read_bytes()

    parts = [shard(number, 3)[HEADER_BYTES:] for number in range(3)]
    assert b"".join(parts) == shard(0, 1)[HEADER_BYTES:]


def test_a_shard_without_clips_is_an_empty_wav(tmp_path: Path) -> None:
    files = outputs(tmp_path)
    write_shard([], SPEC, files)
    assert files.wav.read_bytes() == wav_header(0)
    assert read_jsonl(files.index) == []


def test_the_header_is_the_canonical_one() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.arange(100, dtype=np.int16), 16000, format="WAV", subtype="PCM_16")
    assert wav_header(200) == buffer.getvalue()[:HEADER_BYTES]
    assert len(wav_header(0)) == HEADER_BYTES
    wav_header(MAX_DATA_BYTES)
    with pytest.raises(UserError, match="clips_per_job"):
        wav_header(MAX_DATA_BYTES + 1)


def test_too_much_audio_for_one_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.audio.wav.MAX_DATA_BYTES", 20000)
    with pytest.raises(UserError, match="clips_per_job"):
        write_shard(read_listing(corpus(tmp_path)), SPEC, outputs(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_is_printed_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("thaw.audio.shards.PROGRESS_SECONDS", 0.0)
    write_shard(read_listing(corpus(tmp_path)), SPEC, outputs(tmp_path))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert "10 of 10 clips" in lines[-1]
    assert "3 rejected (missing clip 1, too long 1, unreadable audio 1)" in lines[-1]


# --- files that cannot be read or written -----------------------------------------------------------------------------


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = read_listing(corpus(tmp_path))
    files = outputs(tmp_path / "out")
    (tmp_path / "out").mkdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*shard\.wav: No space left on device"):
        write_shard(clips, SPEC, files, threads=2)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_fills_while_clips_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = read_listing(corpus(tmp_path))
    plain_open = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *a, **k: plain_open(Path("/dev/full") if path.suffix == ".part" else path, *a, **k)
    )
    with pytest.raises(UserError, match=r"cannot write .*shard\.wav: No space left on device"):
        write_shard(clips * 4, SPEC, outputs(tmp_path), threads=2)
    assert not (tmp_path / "shard.wav").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, since root may write anywhere."""

    def forbidden(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    clips = read_listing(corpus(tmp_path))
    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(UserError, match=r"cannot write .*shard\.wav: Permission denied"):
        write_shard(clips, SPEC, outputs(tmp_path / "out"))


def test_a_clip_that_may_not_be_read_is_a_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone(0.5))

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(soundfile, "SoundFile", forbidden)
    write_shard([Clip("a", path, "", "", "dev", "de")], SPEC, outputs(tmp_path))
    (reject,) = read_rejects(tmp_path / "shard.tsv")
    assert (reject.split, reject.reason, reject.detail) == ("dev", "unreadable audio", "Permission denied")


def test_a_broken_shard_names_the_rule_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"shard\.wav.* missing.*`audio` rule"):
        read_pcm(tmp_path / "shard.wav", 0, 100)
    (tmp_path / "shard.wav").write_bytes(wav_header(200) + bytes(100))
    with pytest.raises(UserError, match=r"holds 50 samples where its index says 100.*`audio` rule"):
        read_pcm(tmp_path / "shard.wav", 0, 100)


# --- the listing ------------------------------------------------------------------------------------------------------


def test_an_id_listed_twice_is_named(tmp_path: Path) -> None:
    path = listing(tmp_path / "u.jsonl", [{"id": "a", "path": "x/a.mp3"}, {"id": "a", "path": "y/a.mp3"}])
    with pytest.raises(UserError, match=r"'a' is listed twice \(x/a\.mp3, y/a\.mp3\)"):
        read_listing(path)


def test_a_listing_with_a_wrong_row_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text under the key 'path'"):
        read_listing(listing(tmp_path / "u.jsonl", [{"id": "a"}]))
    with pytest.raises(UserError, match="split 'valid'"):
        read_listing(listing(tmp_path / "u.jsonl", [{"id": "a", "path": "x", "split": "valid"}]))


def test_half_a_surrogate_pair_does_not_stop_a_corpus(tmp_path: Path) -> None:
    (clip,) = read_listing(listing(tmp_path / "u.jsonl", [{"id": "a", "path": "x", "text_raw": "a\ud83db"}]))
    assert clip.text_raw == "a\ufffdb"


# --- thaw features ----------------------------------------------------------------------------------------------------


def test_features_of_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    features.add_arguments(parser)
    clip = write(tmp_path / "a.mp3", tone(1.0, 48000), 48000)
    features.run(parser.parse_args([str(clip), "--out", str(tmp_path / "a.npy")]))
    array = np.load(tmp_path / "a.npy")
    assert array.shape == (49, 26)
    assert array.dtype == np.float32
    assert "49 frames × 26 features, 1.000 s" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"absent\.mp3: missing clip"):
        features.run(parser.parse_args([str(tmp_path / "absent.mp3"), "--out", str(tmp_path / "b.npy")]))
