"""Where and how long MP3 clips come out of soundfile, sox and ffmpeg, against the sound that was encoded.

    python -m bench.converters

Speaks sentences with espeak-ng, encodes them at the sample rates of Common Voice with every MP3 encoder that is here
(libsndfile's LAME, and the programs lame and ffmpeg), and takes the first frame, LAME's header, off copies. Prints a
Markdown table: by how many 16 kHz samples the sound is late (the peak of its cross-correlation with the original), and
how many samples the clip is longer than the original. soundfile and sox are thaw's own backends.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import soxr
from bench._verdict import verdict
from numpy.typing import NDArray
from scipy.signal import correlate, correlation_lags

from thaw.audio.convert import convert
from thaw.audio.wav import SAMPLE_RATE, Pcm
from thaw.config.schema import AudioSpec
from thaw.corpora.espeak import SAMPLE_RATE as SPOKEN_RATE
from thaw.corpora.espeak import Espeak, Manner
from thaw.corpora.voices import find_voice

SENTENCES = ("Wo ist das Wasser?", "Die Stadt liegt an einem großen Fluss.", "Heute ist Montag, der dritte Mai.")
RATES = (48000, 32000, 22050)
SEARCH = 8000  # samples to either side within which the offset is looked for
BITRATES = {  # kbit/s, by the two bits of version and the four of the bit rate in a frame's head (ISO 11172-3, 13818-3)
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}

Sound = NDArray[np.float32]
Encoder = Callable[[Path, Path], None]
Decoder = Callable[[Path], Pcm]


# --- encoders ---------------------------------------------------------------------------------------------------------


def by_libsndfile(wav: Path, mp3: Path) -> None:
    sound, rate = soundfile.read(wav, dtype="float32")
    soundfile.write(mp3, sound, rate, format="MP3")


def by_lame(wav: Path, mp3: Path) -> None:
    subprocess.run(["lame", "--quiet", "-m", "m", "-b", "64", wav, mp3], check=True)


def by_ffmpeg(wav: Path, mp3: Path) -> None:
    _ffmpeg("-i", str(wav), "-c:a", "libmp3lame", "-b:a", "64k", "-y", str(mp3))


def without_header(mp3: Path) -> Path:
    """A copy without ID3 tag and first frame: the sound as a streaming encoder would have left it."""
    data = mp3.read_bytes()
    start = 0
    if data[:3] == b"ID3":
        start = 10 + sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    length = frame_bytes(data[start : start + 4])
    assert any(name in data[start : start + length] for name in (b"Xing", b"Info")), f"{mp3}: no LAME header"
    stripped = mp3.with_name(f"{mp3.stem}-bare.mp3")
    stripped.write_bytes(data[start + length :])
    return stripped


def frame_bytes(head: bytes) -> int:
    """The length of a Layer III frame from its first four bytes."""
    assert head[0] == 0xFF, "no frame of MP3"
    assert head[1] & 0xE6 == 0xE2, "no frame of Layer III"
    version = head[1] >> 3 & 3  # 3: MPEG-1, 2: MPEG-2
    rate = (44100, 48000, 32000)[head[2] >> 2 & 3] // (1 if version == 3 else 2)
    per_frame = 144 if version == 3 else 72
    return per_frame * BITRATES[version][head[2] >> 4] * 1000 // rate + (head[2] >> 1 & 1)


# --- decoders ---------------------------------------------------------------------------------------------------------


def to_soundfile(mp3: Path) -> Pcm:
    return convert(mp3, AudioSpec()).pcm


def to_sox(mp3: Path) -> Pcm:
    return convert(mp3, AudioSpec(backend="sox")).pcm


def to_ffmpeg(mp3: Path) -> Pcm:
    raw = _ffmpeg("-i", str(mp3), "-f", "s16le", "-ac", "1", "-ar", str(SAMPLE_RATE), "-")
    return np.frombuffer(raw, dtype="<i2").astype(np.int16)


def _ffmpeg(*arguments: str) -> bytes:
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


# --- measuring --------------------------------------------------------------------------------------------------------


def speak(folder: Path, rate: int) -> list[Path]:
    """WAV files (int16) of the sentences at a sample rate."""
    espeak = Espeak(find_voice("de"))
    paths: list[Path] = []
    for number, sentence in enumerate(SENTENCES):
        said = espeak.say(sentence, Manner("f2", 150, 50, 50)).astype(np.float32) / 32768
        paths.append(folder / f"{number}-{rate}.wav")
        soundfile.write(paths[-1], 0.7 * soxr.resample(said, SPOKEN_RATE, rate), rate, subtype="PCM_16")
    return paths


def at_16k(wav: Path) -> Sound:
    """The original as a perfect converter would give it."""
    sound, rate = soundfile.read(wav, dtype="float32")
    resampled: Sound = soxr.resample(sound, rate, SAMPLE_RATE, quality="HQ")
    return resampled


def late(original: Sound, converted: Pcm) -> int:
    """By how many samples `converted` is behind `original`."""
    both = correlate(converted.astype(np.float64), original.astype(np.float64), mode="full")
    lags = correlation_lags(len(converted), len(original), mode="full")
    near = np.abs(lags) <= SEARCH
    return int(lags[near][np.argmax(both[near])])


def cell(decoder: Decoder, clips: list[tuple[Sound, Path]]) -> str:
    """What one decoder does to the clips of one encoder: offset (also in ms), added length; or their ranges."""
    offsets, longer = [], []
    for original, mp3 in clips:
        converted = decoder(mp3)
        offsets.append(late(original, converted))
        longer.append(len(converted) - len(original))
    milliseconds = 1000 * float(np.mean(offsets)) / SAMPLE_RATE
    return f"{_span(offsets)} ({milliseconds:+.1f} ms), {_span(longer)}"


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:+d}" if low == high else f"{low:+d} to {high:+d}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="where and how long MP3 clips come out")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, help="Hz (default: %(default)s)")
    arguments = parser.parse_args()
    worst = 0
    encoders: dict[str, Encoder] = {"libsndfile": by_libsndfile, "lame": by_lame, "ffmpeg": by_ffmpeg}
    decoders: dict[str, Decoder] = {"soundfile": to_soundfile, "sox": to_sox, "ffmpeg": to_ffmpeg}
    for name in ("lame", "ffmpeg", "sox"):
        if shutil.which(name) is None:
            print(f"({name} is not installed: left out)\n")
            encoders.pop(name, None)
            decoders.pop(name, None)
    print(f"| encoder | Hz | LAME header | {' | '.join(decoders)} |")
    print("|---" * (3 + len(decoders)) + "|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for rate in arguments.rates:
            wavs = speak(folder, rate)
            originals = [at_16k(wav) for wav in wavs]
            for encoder, encode in encoders.items():
                whole = [wav.with_name(f"{wav.stem}-{encoder}.mp3") for wav in wavs]
                for wav, mp3 in zip(wavs, whole, strict=True):
                    encode(wav, mp3)
                for header, files in (("yes", whole), ("no", [without_header(mp3) for mp3 in whole])):
                    clips = list(zip(originals, files, strict=True))
                    cells = " | ".join(cell(decode, clips) for decode in decoders.values())
                    if encoder == "libsndfile" and header == "yes":
                        worst = max(worst, *(abs(late(sound, to_soundfile(mp3))) for sound, mp3 in clips))
                    print(f"| {encoder} | {rate} | {header} | {cells} |", flush=True)
    verdict("16 kHz samples that soundfile is late, where the file says where its sound begins", worst, most=0)


if __name__ == "__main__":
    main()
