"""The command line: every verb explains itself, and mistakes are one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
