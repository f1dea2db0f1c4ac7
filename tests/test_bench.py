"""Benches run, at toy size, and one that fails hides no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.__main__ import BENCHES

REPOSITORY = Path(__file__).resolve().parents[1]
QUICK = ("audio", "augment", "converters", "decoding", "freezing", "overhead", "probing", "throughput")


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_every_bench_is_run() -> None:
    assert set(BENCHES) == {path.stem for path in (REPOSITORY / "bench").glob("[!_]*.py")}


def test_each_says_what_it_found_beside_its_aim(tmp_path: Path) -> None:
    done = bench(*QUICK, "--toy", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = done.stdout.split("== what they found, at toy size\n")[1].splitlines()
    assert {line.split()[0] for line in found} == set(QUICK)
    assert all("(aim: at " in line for line in found), found
    assert {path.stem for path in tmp_path.iterdir()} == set(QUICK)


@pytest.mark.e2e
@pytest.mark.parametrize("name", sorted(set(BENCHES) - set(QUICK)))
def test_long_ones_run_too(name: str, tmp_path: Path) -> None:
    done = bench(name, "--toy", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(aim: at " in done.stdout.split("== what they found, at toy size\n")[1]


def test_one_that_fails_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    for name in ("__main__", "_verdict"):
        text = (REPOSITORY / "bench" / f"{name}.py").read_text()
        (tmp_path / "bench" / f"{name}.py").write_text(text)
    (tmp_path / "bench" / "audio.py").write_text("raise SystemExit(3)")
    verdict = "from bench._verdict import verdict\nverdict('a ratio', 2.5, most=2)"
    (tmp_path / "bench" / "augment.py").write_text(verdict)
    command = [sys.executable, "-m", "bench", "audio", "augment"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={"PATH": ""})
    assert done.returncode == 1
    assert done.stdout.split("== what they found\n")[1].splitlines() == [
        "audio       FAILED with status 3: see results/bench/audio.txt",
        "augment     a ratio: 2.5 (aim: at most 2; MISSED)",
    ]
