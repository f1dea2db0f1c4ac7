"""The matched-pairs sentence-segment word error test, as NIST's sctk has it: a second opinion on two trained models.

MAPSSWE (Gillick & Cox, ICASSP 1989) cuts the test set where both systems are right for two words and takes what lies
between as independent. It knows neither speakers nor seeds, so its p speaks of these two trainings and these speakers.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.special import ndtr

from thaw.errors import UserError

DEBIAN = "/usr/lib/sctk/bin"  # where Debian's package keeps its programs
MISSING = "MAPSSWE needs sclite and sc_stats of NIST's sctk (Debian: apt-get install sctk)"
RESULT = re.compile(
    r"MTCH_PR_RESULTS .*\(# segs: (?P<segments>\d+)\).*\(mean: (?P<mean>\S+)\) \(std dev: (?P<sd>\S+)\) "
    r"\(Z Stat: (?P<z>\S+)\)"
)

Rows = Iterable[Mapping[str, Any]]  # of hypotheses.jsonl: id, speaker, reference, hypothesis


@dataclass(frozen=True)
class Mapsswe:
    """Errors in a segment, second system minus first: their mean and standard deviation, its Z, and p (two-sided)."""

    segments: int
    mean: float
    sd: float
    z: float

    @property
    def p(self) -> float:
        """Of Z, normally distributed where there are some fifty segments or more."""
        return float(2 * ndtr(-abs(self.z)))


def program(name: str) -> str | None:
    """Where a program of sctk lies; None where it is not installed."""
    return shutil.which(name) or shutil.which(name, path=DEBIAN)


def mapsswe(first: Rows, second: Rows) -> Mapsswe:
    """Test two systems on the same utterances; UserError where sctk is not installed or refuses."""
    tools = program("sclite"), program("sc_stats")
    if None in tools:
        raise UserError(MISSING)
    one, two = _by_id(first), _by_id(second)
    if {key: row["reference"] for key, row in one.items()} != {key: row["reference"] for key, row in two.items()}:
        raise UserError("the two systems were not decoded on the same utterances")
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder) / "ref", one, "reference")
        alignments = ""
        for name, rows in (("first", one), ("second", two)):
            _write(Path(folder) / name, rows, "hypothesis")
            trn = ["-r", "ref", "trn", "-h", name, "trn", "-i", "spu_id", "-e", "utf-8"]
            alignments += _run([str(tools[0]), *trn, "-o", "sgml", "stdout"], folder)
        return parse(_run([str(tools[1]), "-p", "-t", "mapsswe", "-v", "-n", "-"], folder, alignments))


def parse(report: str) -> Mapsswe:
    """What `sc_stats -t mapsswe -v` says of two systems."""
    found = RESULT.search(report)
    if found is None:
        raise UserError(f"sc_stats said nothing of a matched-pairs test:\n{report[-500:]}")
    mean, sd, z = (float(found[name]) for name in ("mean", "sd", "z"))
    return Mapsswe(int(found["segments"]), 0.0 - mean, sd, 0.0 - z)  # sctk has the first minus the second


def _by_id(rows: Rows) -> dict[str, Mapping[str, Any]]:
    return {row["id"]: row for row in sorted(rows, key=lambda row: str(row["id"]))}


def _write(path: Path, rows: Mapping[str, Mapping[str, Any]], text: str) -> None:
    """NIST's trn format: words, then (speaker-number); names of our own, since sctk would read theirs as syntax."""
    speakers = {name: place for place, name in enumerate(sorted({str(row["speaker"]) for row in rows.values()}))}
    lines = [f"{row[text]} (s{speakers[str(row['speaker'])]}-{n})\n" for n, row in enumerate(rows.values())]
    path.write_text("".join(lines), encoding="utf-8")


def _run(command: list[str], folder: str, given: str = "") -> str:
    done = subprocess.run(command, cwd=folder, input=given, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout
