"""What a person wrote reaches a command as one word, whatever is in it, and is never run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.workflow.conftest import REPOSITORY, TOY, Workspace
from tests.workflow.dry_runs import snakemake_here
from thaw.config.load import merged

HOSTILE = '$(touch RAN) `touch RAN` ; touch RAN {LibriSpeech} {input} "two" it\'s'
TABLE = f"data/{HOSTILE}.tsv".replace("{", "").replace("}", "")  # Snakemake has no names of files with braces
COMMAND = re.compile(r"^Shell command: *(.*?)(?=\n\[\w{3} \w{3}|\nJob stats:|\Z)", re.MULTILINE | re.DOTALL)
# Stands in for what a rule calls: \0 after a word, \1 after a command.
STUB = "#!/bin/sh\nprintf '%s\\0' \"$@\" >>seen\nprintf '\\1' >>seen\n"
RULES = ("fetch", "audio", "manifest", "lm", "checkpoint", "train", "emit", "search", "score", "exhibit", "report")


def hostile_config() -> dict[str, Any]:
    """The toy with texts of a person's that mean something to a shell and to Snakemake, and a study from a checkpoint.

    The alphabet begins with a dash, as an option does.
    """
    raw = yaml.safe_load(TOY.read_text())
    study = raw["studies"]["freezing"]
    over = {
        "languages": {"en": {"alphabet": "-'\"$(){} abcdefghijklmnopqrstuvwxyz", "to_space": "_"}},
        "corpora": {
            "english": {"label": HOSTILE, "citation": HOSTILE, "licence": HOSTILE},
            "german": {"citation": HOSTILE, "source": {"kind": "table", "path": TABLE}},
        },
        "checkpoints": {"released": {"kind": "deepspeech-tf", "path": TABLE, "language": "en"}},
        "treatments": {"frozen-0": {"label": HOSTILE}},
        "decoders": {"lm": {"label": HOSTILE, "language_model": {"extra_text": TABLE}}},
        "studies": {"released": {**study, "source": {"model": "deepspeech", "checkpoint": "released"}}},
        "execution": {"state": HOSTILE, "features": f"-{HOSTILE}", "mirror": f"-{HOSTILE}", "tensorboard": True},
    }
    del raw["corpora"]["german"]["source"]
    return merged(raw, over)


@pytest.fixture
def commands(workspace: Workspace) -> Iterator[list[list[str]]]:
    """The words of every command of a dry run, as a shell gives them to `thaw`."""
    table = workspace.root / TABLE
    table.parent.mkdir()
    table.write_text("path\ttext\n")
    workspace.config.write_text(yaml.safe_dump(hostile_config()))
    shown = snakemake_here(workspace, ["-n", "-p"])
    lines = [line for line in COMMAND.findall(shown) if line.strip() != "None"]  # the rule `all` has none
    stub = workspace.root / "bin" / "thaw"
    stub.parent.mkdir()
    stub.write_text(STUB)
    stub.chmod(0o755)
    script = f"PATH={stub.parent}:$PATH\n" + "\n".join(f"({line})" for line in lines)
    done = subprocess.run(["bash", "-c", script], cwd=workspace.root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    seen = (workspace.root / "seen").read_text().split("\1")[:-1]
    assert len(seen) == len(lines)
    words = [command.split("\0")[:-1] for command in seen]
    assert all(one[0] == "--log" for one in words)
    yield [one[2:] for one in words]  # the verb first
    assert not list(workspace.root.rglob("RAN"))


def values(commands: list[list[str]], verb: str, option: str) -> list[str]:
    """The values of an option in all commands of a verb."""
    found = []
    for words in (words for words in commands if words[0] == verb):
        for place, word in enumerate(words):
            if word == option:
                found.append(words[place + 1])
            elif word.startswith(f"{option}="):
                found.append(word.partition("=")[2])
    return found


def test_every_command_gets_what_the_config_says(commands: list[list[str]]) -> None:
    assert {words[0] for words in commands} == set(RULES)
    assert {json.loads(one).get("path") for one in values(commands, "fetch", "--source")} == {
        None,
        TABLE,
    }
    assert set(values(commands, "fetch", "--mirror")) == {f"-{HOSTILE}"}
    assert all(one.startswith(f"{HOSTILE}/") for one in values(commands, "train", "--state"))
    assert values(commands, "checkpoint", "--path") == [TABLE]
    assert values(commands, "checkpoint", "--alphabet") == [hostile_config()["languages"]["en"]["alphabet"]]
    for verb, option in (("audio", "--audio"), ("train", "--recipe"), ("lm", "--lm"), ("search", "--decoder")):
        assert all(isinstance(json.loads(one), dict) for one in values(commands, verb, option))


def test_every_name_in_a_shell_command_is_quoted() -> None:
    for file in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk")):
        for shell in re.findall(r"^    shell:\n((?:        .*\n)+)", file.read_text(), re.MULTILINE):
            names = re.findall(r"\{([^{}]+)\}", shell)
            assert names
            assert [name for name in names if not name.endswith(":q")] == [], file.name
