"""The user's own corpus as Kaldi data folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.corpora.wavs import recording
from thaw.audio.convert import convert
from thaw.audio.listing import read_listing
from thaw.audio.shards import ShardFiles, write_shard
from thaw.config.schema import AudioSpec
from thaw.config.sources import KaldiSource
from thaw.corpora.fetch import fetch
from thaw.corpora.kaldi import read
from thaw.corpora.listing import Listing
from thaw.errors import UserError
from thaw.planning import contents

NONE = {"dev": 0.0, "test": 0.0}


def folder(path: Path, **files: str) -> Path:
    """A data folder; `wav` stands for wav.scp."""
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / {"wav": "wav.scp"}.get(name, name)).write_text(text)
    return path


def source(path: Path, **more: object) -> KaldiSource:
    return KaldiSource.model_validate({"kind": "kaldi", "path": str(path), "held_out": NONE, **more})


def listed(path: Path, **more: object) -> Listing:
    return read(source(path, **more))


def test_recordings_that_are_utterances(tmp_path: Path) -> None:
    recording(tmp_path / "wav" / "a.wav")
    away = recording(tmp_path / "b.flac")
    data = folder(
        tmp_path / "data",
        wav=f"ann-a ../wav/a.wav\nbob-b\t{away}\n",
        text="ann-a <NOISE> HELLO  WORLD\nbob-b\n",
        utt2spk="ann-a ann\nbob-b bob\n",
    )
    found = {u.id: (u.text, u.speaker, Path(u.file).resolve(), u.end, u.channel) for u in listed(data).utterances}
    assert found == {
        "ann-a": ("<NOISE> HELLO  WORLD", "ann", tmp_path / "wav" / "a.wav", -1.0, 0),
        "bob-b": ("", "bob", away, -1.0, 0),
    }


def test_segments_of_recordings(tmp_path: Path) -> None:
    recording(tmp_path / "call.wav", seconds=3.0)
    data = folder(
        tmp_path / "data",
        wav=f"call sph2pipe -f wav -p -c 1 {tmp_path}/call.wav |\n",
        segments="call-1 call 0.5 1.25\ncall-2 call 1.5 2 1\ncall-3 call 2 2\ncall-4 other 0 1\ncall-5 call 0 1\n",
        text="call-1 YES\ncall-2 NO\ncall-3 X\ncall-4 Y\ncall-6 Z\n",
    )
    listing = listed(data)
    assert [(u.id, u.start, u.end, u.channel, u.speaker) for u in listing.utterances] == [
        ("call-1", 0.5, 1.25, 1, "unknown"),
        ("call-2", 1.5, 2.0, 1, "unknown"),
    ]
    assert [(r.id, r.reason) for r in listing.rejects] == [
        ("call-3", "malformed row"),
        ("call-4", "no recording"),
        ("call-6", "no segment"),
        ("call-5", "no transcript"),
    ]


def test_segments_that_are_missing_are_told_in_one_line(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", wav="call call.wav\n", text="call-1 YES\ncall-2 NO\n")
    with pytest.raises(UserError) as caught:
        listed(data)
    [line] = str(caught.value).splitlines()
    assert (
        "none of the 2 utterances of text (call-1, …) is a recording of wav.scp, and there is no file segments" in line
    )


def test_one_that_is_no_recording_is_rejected_alone(tmp_path: Path) -> None:
    recording(tmp_path / "data" / "a.wav")
    data = folder(tmp_path / "data", wav="a a.wav\n", text="a YES\nb NO\n")
    assert [(r.id, r.reason) for r in listed(data).rejects] == [("b", "no recording")]


KNOWN = {
    "sph2pipe -f wav X |": 0,
    "/opt/kaldi/tools/sph2pipe_v2.5/sph2pipe -f wav -p -c 2 X |": 2,
    "flac -c -d -s X|": 0,
    "sox X -t wav -r 16000 -b 16 - remix 2 |": 2,
    "sph2pipe -f wav -p -c 1 X | sox -R -t wav - -t wav - rate 16000 dither |": 1,
    "X": 0,
}
UNKNOWN = [
    "python convert.py X |",
    "sph2pipe -f wav -t 0:5 X |",  # cuts
    "sph2pipe -f wav X | tee /tmp/copy |",
    "sox X -t wav - speed 1.1 |",  # sounds otherwise
    "sox X -t wav - remix 1,2 |",
    "sph2pipe -f wav $(rm -rf .) X |",
    "sph2pipe -f wav X; rm -rf . |",
    "sox -t wav - -t wav - |",
    "flac -c 'X |",
]


@pytest.mark.parametrize("command", KNOWN)
def test_commands_that_are_known_are_read_without_them(command: str, tmp_path: Path) -> None:
    clip = recording(tmp_path / "x.wav")
    data = folder(tmp_path / "data", wav=f"a {command.replace('X', str(clip))}\n", text="a YES\n")
    [utterance] = listed(data).utterances
    assert (utterance.file, utterance.channel) == (str(clip), KNOWN[command])


@pytest.mark.parametrize("command", UNKNOWN)
def test_any_other_command_is_refused_and_not_run(command: str, tmp_path: Path) -> None:
    data = folder(tmp_path / "data", wav=f"b x.wav\na {command}\n", text="a YES\n")
    with pytest.raises(UserError) as caught:
        listed(data)
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"{data}/wav.scp:2: a command that thaw does not run: {command}; it knows")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"text": "a YES\n"}, "wav.scp: No such file or directory; a Kaldi data folder has wav.scp and text"),
        ({"wav": "a x.wav\na y.wav\n", "text": "a YES\n"}, "wav.scp:2: a is there twice"),
        ({"wav": "a\n", "text": "a YES\n"}, "wav.scp:1: nothing behind a"),
    ],
)
def test_folders_that_are_none(files: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        listed(folder(tmp_path / "data", **files))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_from_a_folder_to_clips(tmp_path: Path) -> None:
    """Two channels of one SPHERE file, cut by segments; one ends beyond the audio, by more than Kaldi allows."""
    rate = 8000
    both = np.zeros((4 * rate, 2), np.float32)
    both[:, 0], both[:, 1] = 0.25, -0.5
    soundfile.write(tmp_path / "call.sph", both, rate, format="NIST", subtype="PCM_16")
    data = folder(
        tmp_path / "data",
        wav="A sph2pipe -f wav -p -c 1 ../call.sph |\nB sph2pipe -f wav -p -c 2 ../call.sph |\n",
        segments="A-1 A 1.0 2.5\nB-1 B 3.0 4.2\nB-2 B 3.0 4.8\nB-3 B 9.0 9.5\n",
        text="A-1 ONE\nB-1 TWO\nB-2 THREE\nB-3 FOUR\n",
    )
    out = [tmp_path / name for name in ("utterances.jsonl", "rejects.tsv", "record.json")]
    fetch(source(data), "en", tmp_path / "files", *out)
    clips = read_listing(out[0])
    files = ShardFiles(*(tmp_path / name for name in ("0.wav", "0.jsonl", "0.rejects.tsv")))
    write_shard(clips, AudioSpec(), files)
    rows = [json.loads(line) for line in files.index.read_text().splitlines()]
    assert [(row["id"], row["samples"]) for row in rows] == [("A-1", 24000), ("B-1", 16000)]
    samples, _ = soundfile.read(files.wav)
    assert np.allclose(samples[2000:20000], 0.25, atol=0.01)
    assert np.allclose(samples[26000:38000], -0.5, atol=0.01)
    rejects = files.rejects.read_text()
    assert "B-2\ttrain\taudio\tsegment beyond its recording\t3 to 4.8 s: 1.00 s of it are there" in rejects
    assert "B-3\ttrain\taudio\tsegment beyond its recording\t9 to 9.5 s: 0.00 s of it are there" in rejects


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    from thaw.audio.convert import Span, Unusable

    clip = recording(tmp_path / "x.wav")
    with pytest.raises(Unusable, match="no such channel"):
        convert(clip, AudioSpec(), Span(channel=2))


def test_an_edit_of_any_of_its_files_is_another_corpus(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", wav="a x.wav\n", text="a YES\n")
    found = [contents.of_source(source(data), "en")]
    for name, text in (("text", "a NO\n"), ("utt2spk", "a ann\n"), ("segments", "a a 0 1\n"), ("wav.scp", "a y.wav\n")):
        (data / name).write_text(text)
        found.append(contents.of_source(source(data), "en"))
    assert len(set(found)) == 5
