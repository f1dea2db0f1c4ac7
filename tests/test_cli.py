"""The command line: every verb explains itself, and mistakes are one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import thaw.commands
from thaw.cli import PEOPLE, RULES, main


@pytest.mark.parametrize("verb", [*RULES, *PEOPLE])
def test_help_shows_an_example_of_the_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "example:" in shown
    assert f"thaw {verb} " in shown.split("example:")[1]


def test_what_a_user_can_mend_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "absent.yaml"
    assert main(["runs", "--config", str(missing)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "absent.yaml: no such config file" in said


def test_a_mistake_in_a_spec_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--hypotheses", "h", "--scores", "s", "--counts", "c"]
    assert main(["score", "--scoring", '{"level":1}', *files]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "level" in said


def test_the_help_of_all_verbs_needs_no_heavy_import() -> None:
    """A person who asks for help, and the workflow's many small jobs, must not wait for torch."""
    code = "import sys; from thaw.cli import build_parser as b; b(); print({'torch', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


MODEL = '"model":{"kind":"deepspeech","hidden":8},"alphabet":"\\u0020a"'
RECIPE = f'{{"version":2,{MODEL},"corpora":["x"],"seed":1,"recipe":{{"epochs":1}}}}'
USERS_OF_A_MODEL = {  # and words that such a verb needs before it begins; "here" is a file
    "train": f"--recipe {RECIPE} --train t --dev d --state s --model m --digest g --optimizer o --record r --metrics x",
    "emit": "--model m --manifest t --record r",
    "decode": "--model m --manifest t --hypotheses h --record r",
    "probe": '--probes {"operations":{"none":[]}} --model m --manifest t --rows r --counts c --record r',
    "evidence": "--model m --source s --target t --out o",
    "transcribe": "run clip.wav",
    "layers": "here --target here --source here",
}
WATCH = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            print(*(os.environ.get(f"{library}_NUM_THREADS") for library in ("OMP", "OPENBLAS", "MKL")), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Watch())
from thaw.cli import main
main(sys.argv[1:])
"""


def test_who_computes_with_a_model_is_listed() -> None:
    paths = Path(thaw.commands.__file__).parent.glob("*.py")
    users = {path.stem for path in paths if '"--device"' in path.read_text(encoding="utf-8")}
    assert users == {*USERS_OF_A_MODEL, "plan"}  # which measures what time things take


@pytest.mark.parametrize("verb", USERS_OF_A_MODEL)
def test_libraries_compute_in_as_many_threads_as_were_asked_for(verb: str, tmp_path: Path) -> None:
    """numpy looks once, as it is loaded, and takes all cores where nobody said how many: sums have other bits then."""
    (tmp_path / "here").touch()
    words = [sys.executable, "-c", WATCH, verb, *USERS_OF_A_MODEL[verb].split(), "--threads", "3"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.split() == ["3", "3", "3"], done.stderr
