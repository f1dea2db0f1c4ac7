"""One clip to 16 kHz mono int16: exact where it can be, and a named reason where it cannot."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.audio.clips import tone, write
from thaw.audio.convert import Converted, Unusable, convert, to_int16
from thaw.config.schema import AudioSpec
from thaw.errors import UserError

SPEC = AudioSpec()
SOX = AudioSpec(backend="sox")
needs_sox = pytest.mark.skipif(shutil.which("sox") is None, reason="no sox on this machine")


def reason(path: Path, spec: AudioSpec = SPEC) -> str:
    with pytest.raises(Unusable) as caught:
        convert(path, spec)
    return caught.value.reason


def peak_hertz(pcm: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(np.argmax(spectrum)) * 16000 / len(pcm)


def level(pcm: np.ndarray) -> float:
    """Peak of a sine from its power, without the ends, where a resampler's filter rings."""
    middle = pcm[len(pcm) // 4 : -len(pcm) // 4].astype(np.float64) / 32768
    return float(np.sqrt(2 * np.mean(middle**2)))


def test_int16_at_16_khz_comes_back_bit_for_bit(tmp_path: Path) -> None:
    pcm = np.array([-32768, -32767, -1, 0, 1, 2, 32767] * 400, dtype=np.int16)
    for suffix in (".wav", ".flac"):
        converted = convert(write(tmp_path / f"a{suffix}", pcm), SPEC)
        assert converted.pcm.dtype == np.int16
        np.testing.assert_array_equal(converted.pcm, pcm)


def test_rounding_and_clipping() -> None:
    values = np.array([1.5, 1.0, -1.0, -1.5, 0.5 / 32768, 1.5 / 32768, -0.6 / 32768], dtype=np.float32)
    assert to_int16(values).tolist() == [32767, 32767, -32768, -32768, 0, 2, -1]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_a_tone_keeps_pitch_level_and_length(tmp_path: Path, rate: int, suffix: str) -> None:
    samples = rate + 123
    converted = convert(write(tmp_path / f"a{suffix}", tone(samples / rate, rate, 1000.0), rate), SPEC)
    assert converted.facts.rate == rate
    assert abs(len(converted.pcm) - samples * 16000 / rate) <= 1
    assert peak_hertz(converted.pcm) == pytest.approx(1000.0, abs=1.0)
    assert level(converted.pcm) == pytest.approx(0.25, rel=0.03 if suffix in (".mp3", ".ogg") else 0.001)


def test_what_lies_above_8_khz_does_not_fold_back(tmp_path: Path) -> None:
    converted = convert(write(tmp_path / "a.wav", tone(1.0, 48000, 11000.0, 0.5), 48000, subtype="FLOAT"), SPEC)
    assert np.abs(converted.pcm[2000:-2000]).max() <= 2


@pytest.mark.parametrize("rate", [16000, 32000, 48000])
def test_mp3_is_sample_exact(tmp_path: Path, rate: int) -> None:
    """The encoder's delay is taken out: an impulse stays where it was, and no sample is added or lost."""
    signal = np.zeros(2 * rate, dtype=np.float32)
    signal[rate // 2] = 0.9
    pcm = convert(write(tmp_path / "a.mp3", signal, rate), SPEC).pcm
    assert len(pcm) == 32000
    assert int(np.argmax(np.abs(pcm.astype(int)))) == 8000


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(0.5, level=0.5), np.zeros(8000, dtype=np.float32)
    converted = convert(write(tmp_path / "a.wav", np.stack([left, right], axis=1)), SPEC)
    mono = convert(write(tmp_path / "b.wav", left / 2), SPEC)
    assert converted.facts.channels == 2
    assert np.abs(converted.pcm.astype(int) - mono.pcm).max() <= 1
    opposite = np.stack([left, -left], axis=1)
    assert not convert(write(tmp_path / "c.wav", opposite, subtype="FLOAT"), SPEC).pcm.any()


# --- clips that cannot be used ----------------------------------------------------------------------------------------


def test_reasons(tmp_path: Path) -> None:
    assert reason(tmp_path / "absent.mp3") == "missing clip"
    (tmp_path / "dangling.mp3").symlink_to(tmp_path / "absent.mp3")
    assert reason(tmp_path / "dangling.mp3") == "missing clip"
    (tmp_path / "zero.mp3").write_bytes(b"")
    assert reason(tmp_path / "zero.mp3") == "unreadable audio"
    assert reason(tmp_path) == "unreadable audio"
    assert reason(write(tmp_path / "header-only.wav", tone(0.0))) == "empty audio"
    assert reason(write(tmp_path / "short.wav", tone(0.09))) == "too short"
    assert reason(write(tmp_path / "long.wav", tone(30.01))) == "too long"
    assert len(convert(write(tmp_path / "limit.wav", tone(30.0)), SPEC).pcm) == 480000
    nan = np.full(8000, np.nan, dtype=np.float32)
    assert reason(write(tmp_path / "nan.wav", nan, subtype="FLOAT")) == "unreadable audio"


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac", "a.ogg", "a.raw", "a"])
def test_garbage_is_unreadable(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(1).bytes(5000))
    assert reason(tmp_path / name) == "unreadable audio"
    (tmp_path / name).write_bytes(b"<html><body>404 Not Found</body></html>\n")
    assert reason(tmp_path / name) == "unreadable audio"


@pytest.mark.parametrize("suffix", [".mp3", ".wav", ".flac"])
def test_half_a_file_is_not_taken_for_a_whole_one(tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / f"a{suffix}", tone(3.0, 48000), 48000).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole[: len(whole) // 2])
    expected = "unreadable audio" if suffix == ".flac" else "truncated audio"  # libsndfile gives up on a cut FLAC
    assert reason(cut) == expected
    cut.write_bytes(whole[:20])
    assert reason(cut) == "unreadable audio"


def test_the_detail_of_a_truncated_mp3_says_how_much_is_left(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mp3", tone(3.0, 48000), 48000).read_bytes()
    (tmp_path / "a.mp3").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unusable, match=r"truncated audio \(1\.\d\d s of the 3\.00 s its header declares\)"):
        convert(tmp_path / "a.mp3", SPEC)


def test_an_mp3_that_lacks_its_last_frame_is_kept(tmp_path: Path) -> None:
    """Some encoders count a frame too many; 0.05 s is not worth an utterance."""
    whole = write(tmp_path / "a.mp3", tone(3.0, 48000), 48000).read_bytes()
    (tmp_path / "a.mp3").write_bytes(whole[:-100])
    assert 47000 < len(convert(tmp_path / "a.mp3", SPEC).pcm) < 48000


def first_frame_end(mp3: bytes) -> int:
    return next(at for at in range(100, len(mp3)) if mp3[at : at + 2] == mp3[:2])


def test_an_mp3_that_declares_no_length_is_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile guesses a length from the first frame: with a variable bit rate that is no sign of truncation."""
    signal = np.concatenate([np.zeros(48000, np.float32), tone(2.0, 48000, 3000.0, 0.9)])
    noise = np.random.default_rng(1).standard_normal(48000).astype(np.float32) / 10
    whole = write(tmp_path / "a.mp3", np.concatenate([signal, noise]), 48000, bitrate_mode="VARIABLE").read_bytes()
    (tmp_path / "b.mp3").write_bytes(whole[first_frame_end(whole) :])
    assert len(convert(tmp_path / "b.mp3", SPEC).pcm) == pytest.approx(4 * 16000, abs=1000)
    with_tag = b"ID3\x03\x00\x00\x00\x00\x02\x00" + bytes(256) + whole  # 2 × 128 bytes of tag
    (tmp_path / "c.mp3").write_bytes(with_tag)
    assert convert(tmp_path / "c.mp3", SPEC).facts.seconds == pytest.approx(4.0)


def test_a_wav_written_into_a_pipe_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(1.0))
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(data)
    assert len(convert(path, SPEC).pcm) == 16000


def test_no_more_than_the_limit_is_read_of_a_long_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone(20.0))
    lengths: list[int] = []
    monkeypatch.setattr("thaw.audio.convert.to_int16", lambda x: lengths.append(len(x)) or to_int16(x))
    with pytest.raises(Unusable, match=r"too long \(20\.00 s, at most 2 s\)"):
        convert(path, AudioSpec(max_seconds=2.0))
    assert lengths == [48000]


# --- sox --------------------------------------------------------------------------------------------------------------


@needs_sox
def test_sox_agrees_but_for_the_mp3_delay(tmp_path: Path) -> None:
    def both(name: str) -> tuple[Converted, Converted]:
        path = write(tmp_path / name, tone(1.0, 48000, 1000.0), 48000)
        return convert(path, SPEC), convert(path, SOX)

    ours, sox = both("a.wav")
    assert sox.facts == ours.facts
    assert len(sox.pcm) == len(ours.pcm)
    assert np.abs(sox.pcm.astype(int) - ours.pcm)[500:-500].max() <= 2
    ours, sox = both("a.mp3")
    assert 300 < len(sox.pcm) - len(ours.pcm) < 800
    assert peak_hertz(sox.pcm) == pytest.approx(1000.0, abs=2.0)


@needs_sox
def test_sox_rejects_for_the_same_reasons(tmp_path: Path) -> None:
    (tmp_path / "zero.mp3").write_bytes(b"")
    (tmp_path / "text.wav").write_bytes(b"no audio at all")
    whole = write(tmp_path / "cut.mp3", tone(3.0, 48000), 48000).read_bytes()
    (tmp_path / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    assert reason(tmp_path / "absent.mp3", SOX) == "missing clip"
    assert reason(tmp_path / "zero.mp3", SOX) == "unreadable audio"
    assert reason(tmp_path / "text.wav", SOX) == "unreadable audio"
    assert reason(tmp_path / "cut.mp3", SOX) == "truncated audio"
    assert reason(write(tmp_path / "long.wav", tone(31.5)), SOX) == "too long"


@needs_sox
def test_sox_takes_no_name_for_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sox runs a file name that begins with | and reads one that begins with - as an option."""
    monkeypatch.chdir(tmp_path)
    for name in ("|touch made;.wav", "-n.wav"):
        write(tmp_path / name, tone(0.5))
        assert len(convert(Path(name), SOX).pcm) == 8000
    assert not (tmp_path / "made").exists()


def test_without_sox_the_command_to_type_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", tone(0.5))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install sox libsox-fmt-mp3"):
        convert(path, SOX)


def test_a_sox_without_mp3_is_not_a_thousand_rejects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sox = tmp_path / "sox"
    sox.write_text('#!/bin/sh\necho "sox FAIL formats: no handler for file extension \\`mp3\'" >&2\nexit 2\n')
    sox.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"cannot read \.mp3 files; type: .*libsox-fmt-mp3"):
        convert(write(tmp_path / "a.mp3", tone(0.5)), SOX)


def without_header(mp3: Path) -> Path:
    """The same MP3 without its first frame, which is the Xing/Info header that tells the length (MPEG-1 layer III)."""
    data = mp3.read_bytes()
    kbit = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[data[2] >> 4]
    rate = (44100, 48000, 32000)[(data[2] >> 2) & 3]
    length = 144000 * kbit // rate + ((data[2] >> 1) & 1)
    assert b"Xing" in data[:length] or b"Info" in data[:length]
    bare = mp3.with_name("bare.mp3")
    bare.write_bytes(data[length:])
    return bare


def test_an_mp3_of_variable_bit_rate_without_a_header_is_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile alone stops where the first frame's bit rate says, here long before the end."""
    quiet, loud = np.zeros(48000, np.float32), 0.3 * np.random.default_rng(1).standard_normal(96000).astype(np.float32)
    whole = write(tmp_path / "whole.mp3", np.concatenate([loud, quiet]), 48000, bitrate_mode="VARIABLE")
    converted = convert(without_header(whole), AudioSpec())
    assert converted.pcm.size / 16000 == pytest.approx(3.0, abs=0.1)
