"""Whatever the system throws at a verb ends as one line with a cure, never as a traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.commands.project import config_file
from thaw.cli import main
from thaw.corpora.manifest import read_manifest
from thaw.errors import UserError, cure, on_one_line
from thaw.files import read_json, read_jsonl

SPACE = OSError(errno.ENOSPC, "No space left on device")


def call(*arguments: str, out: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`thaw` as its own process, its standard output in a file where one is given."""
    command = [sys.executable, "-m", "thaw.cli", *arguments]
    with (out or Path(os.devnull)).open("w") as file:
        stdout: Any = file if out else subprocess.PIPE
        env = {**os.environ, **environment}
        return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, env=env)


@pytest.fixture
def config(tmp_path: Path) -> str:
    return str(config_file(tmp_path / "config.yaml", {"corpora": {"german": {"label": "日本語"}}}))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("arguments", [["runs", "--config", "CONFIG"], ["--help"], ["runs", "--help"]])
def test_a_full_disk_under_standard_output(arguments: list[str], config: str) -> None:
    done = call(*(config if word == "CONFIG" else word for word in arguments), out=Path("/dev/full"))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("cannot write to standard output: No space left on device")


def test_a_reader_that_leaves_is_no_mistake(config: str) -> None:
    """`thaw runs | head -0`."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "thaw.cli", "runs", "--config", config]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_that_knows_ascii_only(config: str) -> None:
    done = call("runs", "--json", "--config", config, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xdf" in done.stdout  # ß, of the alphabet
    done = call("why", "ß", "--config", config, PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr.startswith("thaw why: '\\xdf' is nothing of this config")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["transcribe", "run", "a.wav", "--threads", "0"], "--threads: a whole number from 1"),
        (["plan", "--threads", "-3"], "--threads: a whole number from 1"),
        (["plan", "--threads", "1e9"], "--threads: a whole number from 1"),
        (["fetch", "--threads", "-1"], "--threads: a whole number from 0"),
        (["audio", "--shards", "0"], "--shards: a whole number from 1"),
        (["train", "--budget", "nan"], "--budget: a number from 0, not 'nan'"),
        (["train", "--wait=-1"], "--wait: a number from 0"),
        (["melt"], "invalid choice: 'melt'"),
        ([], "VERB"),
    ],
)
def test_a_wrong_option_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert "--help" in line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "results/x"), "results/x: No space left on device; free"),
        (PermissionError(errno.EACCES, "Permission denied", "y"), "y: Permission denied; look at its permissions"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "z"), "z: Is a directory; name a file"),
        (MemoryError(), "out of memory; "),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "not a UTF-8 text"),
        (UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed"), "half of a character"),
        (RecursionError(), "nested too deeply"),
    ],
)
def test_what_a_verb_throws_is_one_line(
    error: BaseException, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("thaw.commands.runs.run", fail)
    assert main(["runs"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert said in cure(error)


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("thaw.commands.runs.run", fail)
    with pytest.raises(ZeroDivisionError):
        main(["runs"])


def test_one_line_is_one_line() -> None:
    assert on_one_line("a\nb\x1b[31mc") == "a\\nb\\x1b[31mc"
    assert len(on_one_line("x" * 10**6)) < 1100


# --- files by hand --------------------------------------------------------------------------------

ROW = {
    "id": "a",
    "audio_filepath": "0.wav",
    "sampling_rate": 16000,
    "offset_samples": 0,
    "samples": 5,
    "lang": "de",
    "speaker": "s",
    "text": "t",
    "text_raw": "T",
    "digest": "0" * 16,
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"samples": -5}, "samples is not a whole number from 1"),
        ({"samples": True}, "samples is not a whole number from 1"),
        ({"samples": "5"}, "samples is not a whole number from 1"),
        ({"offset_samples": -1}, "offset_samples is not a whole number from 0"),
        ({"text": None}, "text is not a text"),
        ({"id": 7, "speaker": None}, "id is not a text"),
        ({"audio_filepath": ["x"]}, "audio_filepath is not a text"),
    ],
)
def test_a_manifest_edited_by_hand(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({**ROW, **change}) + "\n")
    with pytest.raises(UserError, match=said) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe{}", b"[1]\n", b"null\n", b"{", b"[" * 100_000, b'{"a": 1}\n\xe4\n'])
def test_json_lines_by_hand(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"rows\.jsonl") as caught:
        read_jsonl(path)
    assert len(str(caught.value).splitlines()) == 1


def test_halves_of_characters_in_json_become_what_files_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    path.write_text('{"text": "a\\ud83d b\\ud83d\\ude00", "\\udc00": ["\\uDFFF"]}\n')
    assert read_json(path) == {"text": "a\ufffd b😀", "\ufffd": ["\ufffd"]}


def test_a_manifest_that_names_another_file_does_not_have_it_deleted(tmp_path: Path) -> None:
    secret = tmp_path / "passwd"
    secret.write_text("root:x:0:0:root:/root:/bin/bash\n" * 100)
    path = tmp_path / "train.jsonl"
    for samples in (1, 10, 10**6):
        path.write_text(json.dumps({**ROW, "audio_filepath": "passwd", "samples": samples}) + "\n")
        (utterance,) = read_manifest(path)
        with pytest.raises(UserError, match="no audio of thaw's") as caught:
            utterance.pcm()
        assert "delete" not in str(caught.value)


def test_features_do_not_overwrite_what_is_no_array(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio, other, array = (tmp_path / name for name in ("a.wav", "other.wav", "a.npy"))
    for path in (audio, other):
        soundfile.write(path, np.zeros(16000, np.int16), 16000)
    before = other.read_bytes()
    for out in (audio, other, tmp_path):
        assert main(["features", str(audio), "--out", str(out)]) == 2
        assert "is there and is no .npy file" in capsys.readouterr().err
    assert other.read_bytes() == audio.read_bytes() == before
    for _ in range(2):  # one of its own is written anew
        assert main(["features", str(audio), "--out", str(array)]) == 0
    assert np.load(array).shape[1] == 26


def test_a_recipe_of_another_version_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = {"version": 999, "model": {"kind": "deepspeech"}, "alphabet": " a", "corpora": ["x"], "seed": 1}
    recipe["recipe"] = {"epochs": 1}
    files = [f"--{name}={tmp_path}/{name}" for name in ("train", "dev", "state", "model", "optimizer", "record")]
    assert main(["train", "--recipe", json.dumps(recipe), *files, f"--metrics={tmp_path}/metrics"]) == 2
    assert "version: 999 is not what this thaw trains" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
