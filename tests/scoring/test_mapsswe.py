"""MAPSSWE through NIST's sctk: its report as ours, and, where it is installed, the test itself."""

from __future__ import annotations

import random
from typing import Any

import pytest

from thaw.errors import UserError
from thaw.scoring import mapsswe as module
from thaw.scoring.mapsswe import Mapsswe, mapsswe, parse, program

REPORT = """\
        in favor of the Alternate Hypothesis.  Further, b.trn is the
        better System.
MTCH_PR_RESULTS (systems: a.trn b.trn) (# segs: 55) (Seg per Sent: 1.146) (% Error: 27.94 12.15) (mean: 0.709) \
(std dev: 1.197) (Z Stat: 4.394) (Stat Diff: Yes)
"""
WORDS = ["eins", "zwei", "drei", "vier", "fünf", "süß"]
SCTK = pytest.mark.skipif(
    program("sc_stats") is None or program("sclite") is None,
    reason="sctk is not installed (Debian: apt-get install sctk)",
)


def decoded(seed: int, wrong: float, utterances: int = 60) -> list[dict[str, Any]]:
    spoken, noise = random.Random(1), random.Random(seed)
    rows = []
    for number in range(utterances):
        words = [spoken.choice(WORDS) for _ in range(6)]
        heard = [word if noise.random() > wrong else noise.choice(WORDS) for word in words]
        row = {"id": f"clip ({number})", "speaker": f"sp-{number % 5}", "reference": " ".join(words)}
        rows.append(row | {"hypothesis": " ".join(heard)})
    return rows


def test_the_report_is_read() -> None:
    found = parse(REPORT)
    assert found == Mapsswe(55, -0.709, 1.197, -4.394)
    assert found.p == pytest.approx(1.1e-5, rel=0.02)
    with pytest.raises(UserError, match="said nothing"):
        parse("Successful Completion")


def test_without_sctk_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "program", lambda name: None)
    with pytest.raises(UserError, match="apt-get install sctk"):
        mapsswe(decoded(1, 0.1), decoded(2, 0.1))


@SCTK
def test_sctk_agrees_on_which_is_better() -> None:
    worse, better = decoded(1, 0.3), decoded(2, 0.1)
    found = mapsswe(worse, better[::-1])
    assert found.segments > 40
    assert found.z < -3
    assert found.mean * found.segments == pytest.approx(_errors(better) - _errors(worse), abs=1)
    back = mapsswe(better, worse)
    assert (back.z, back.mean) == (-found.z, -found.mean)
    assert mapsswe(decoded(3, 0.2), decoded(4, 0.2)).p > 0.05


@SCTK
def test_systems_that_hear_the_same_do_not_differ() -> None:
    assert mapsswe(decoded(1, 0.2), decoded(1, 0.2)).p == 1.0


@SCTK
def test_silence_and_other_utterances() -> None:
    rows = decoded(1, 0.2)
    silent = [row | {"hypothesis": ""} for row in rows]
    assert mapsswe(silent, rows).z < 0
    with pytest.raises(UserError, match="same utterances"):
        mapsswe(rows, rows[:-1])


def _errors(rows: list[dict[str, Any]]) -> int:
    pairs = ((row["reference"].split(), row["hypothesis"].split()) for row in rows)
    return sum(a != b for reference, heard in pairs for a, b in zip(reference, heard, strict=True))
