"""Time and memory of `snakemake -n` on this workflow, for configs of about 1,000, 10,000 and 50,000 jobs.

    python -m bench.dag [JOBS ...]

The configs are the toy study's with more targets, treatments and seeds; nothing is made. "ms/job" and "kB/job" are
what each job beyond the row above costs (processor time, peak memory), and the ratio compares that cost to the row
above: about 1 is linear, as many times more as there are jobs is quadratic.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from bench._verdict import verdict

REPOSITORY = Path(__file__).resolve().parents[1]
TARGETS, TREATMENTS, JOBS_PER_RUN = 10, 5, 5  # a run is one training, two decodes, two scores
SIZES = (250, 1_000, 10_000, 50_000)  # the first one only for the second one's costs


def config(jobs: int) -> dict[str, Any]:
    """The toy config, grown by seeds to about so many jobs."""
    grown: dict[str, Any] = yaml.safe_load((REPOSITORY / "tests" / "workflow" / "toy.yaml").read_text())
    study = grown["studies"]["freezing"]
    study["targets"] = [f"target-{number}" for number in range(TARGETS)]
    grown["corpora"] |= dict.fromkeys(study["targets"], grown["corpora"]["german"])
    freeze = ["layer_1", "layer_2", "layer_3"]
    for number in (1, 3):
        grown["treatments"][f"frozen-{number}"] = {"start": "source", "reset": ["layer_6"], "freeze": freeze[:number]}
    study["treatments"] = ["scratch", "frozen-0", "frozen-1", "frozen-2", "frozen-3"]
    study["seeds"] = list(range(1, 1 + max(1, round(jobs / (TARGETS * TREATMENTS * JOBS_PER_RUN)))))
    return grown


def dry_run(folder: Path) -> tuple[int, float, float, float]:
    """Jobs of a dry run, its seconds (wall clock; CPU), and its peak memory in MB."""
    shown = folder / "shown.txt"
    began = time.monotonic()
    child = os.fork()  # for the child's own peak of memory, which subprocess does not tell
    if child == 0:
        os.chdir(folder)
        out = os.open(shown, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "1"]
        os.execv(sys.executable, [*command, "--configfile", "grown.yaml"])
    _, status, used = os.wait4(child, 0)
    if status:
        sys.exit(f"snakemake failed:\n{shown.read_text()[-2000:]}")
    counts = [line.split() for line in shown.read_text().splitlines() if line.startswith("total ")]
    return int(counts[0][1]), time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000


def plan_seconds(grown: dict[str, Any]) -> tuple[float, float]:
    """Seconds for what the Snakefile does itself: the plan; what is shown of it."""
    from thaw.config.load import validate
    from thaw.planning import showing
    from thaw.planning.plan import resolve

    began = time.monotonic()
    plan = resolve(validate(grown))
    middle = time.monotonic()
    showing.exhibits(plan)
    showing.report_spec(plan).files()
    return middle - began, time.monotonic() - middle


def measure(size: int) -> tuple[int, tuple[float, ...]]:
    """The jobs of a config of about `size`; seconds of plan and exhibits, wall clock, CPU; MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for link in ("Snakefile", "workflow", "config"):
            (folder / link).symlink_to(REPOSITORY / link)
        os.chdir(folder)  # the includes of a config are relative to it
        (folder / "grown.yaml").write_text(yaml.safe_dump(config(size)))
        planned, drawn = plan_seconds(config(size))
        jobs, wall, cpu, peak = dry_run(folder)
        os.chdir(REPOSITORY)
    return jobs, (planned, drawn, wall, cpu, peak)


def main(sizes: list[int]) -> None:
    """Print a table."""
    columns = ("jobs", "plan s", "exhibits s", "wall s", "CPU s", "MB", "ms/job", "ratio", "kB/job")
    print("".join(f"{column:>12}" for column in columns))
    before: tuple[int, float, float] | None = None
    earlier = growth = 0.0
    for size in sizes:
        jobs, (planned, drawn, wall, cpu, peak) = measure(size)
        cells = [f"{jobs:,}", f"{planned:.2f}", f"{drawn:.2f}", f"{wall:.1f}", f"{cpu:.1f}", f"{peak:.0f}"]
        if before:
            more = jobs - before[0]
            each = 1000 * (cpu - before[1]) / more
            cells += [
                f"{each:.2f}",
                f"{each / earlier:.2f}" if earlier else "-",
                f"{1000 * (peak - before[2]) / more:.0f}",
            ]
            growth, earlier = each / earlier if earlier else growth, each
        before = jobs, cpu, peak
        print("".join(f"{cell:>12}" for cell in cells), flush=True)
    verdict("time of one more job, at the most jobs over at fewer", growth, most=1.3)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or list(SIZES))
