"""What a job costs on SLURM that does nothing: alone, and as a part of an array. Not a test; it prints a table.

python -m tests.cluster.overhead [JOBS]
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.cluster.cluster import Cluster, running, why_not
from tests.cluster.disturbed import FASTER, REPOSITORY

SNAKEFILE = """\
rule all:
    input: [f"out/{{i}}" for i in range({jobs})]
rule one:
    output: "out/{{i}}"
    resources: runtime=5, mem_mb=500
    shell: "touch {{output}}"
"""
MINUTES = 30  # after which a measurement is given up


def measure(cluster: Cluster, jobs: int, *arguments: str) -> str:
    """Run so many empty jobs; gives one row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Snakefile").write_text(SNAKEFILE.format(jobs=jobs))
        before = job_ids(cluster)
        began, cpu = time.monotonic(), children()
        # Its standard output is empty; its messages are shown where it fails.
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--profile", str(REPOSITORY / "slurm"), *FASTER, *arguments],
            cwd=folder,
            env=cluster.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60 * MINUTES,
            check=False,
        )
        wall, cpu = time.monotonic() - began, children() - cpu
        if done.returncode or len(list(Path(folder, "out").iterdir())) != jobs:
            raise RuntimeError(f"snakemake: {done.returncode}\n{done.stderr[-4000:]}{cluster.queue()}")
    new = job_ids(cluster) - before
    while len(spent := job_seconds(cluster, new)) < len(new):  # the last numbers arrive in the database a little later
        time.sleep(1)
    submissions = len({job.partition("_")[0] for job in new})
    return f"{jobs:4} {submissions:11} {sum(spent) / jobs:11.2f} {cpu / jobs:17.2f} {wall / jobs:7.2f}"


def children() -> float:
    """CPU seconds of this process's ended children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def job_ids(cluster: Cluster) -> set[str]:
    """All jobs that ever were; the parts of an array are jobs."""
    return set(cluster.run("sacct", "-X", "-n", "-P", "--format=JobID").split())


def job_seconds(cluster: Cluster, jobs: set[str]) -> list[float]:
    """CPU seconds of each of these jobs that has ended, all its steps together."""
    total: dict[str, float] = {}
    for row in cluster.run("sacct", "-n", "-P", "--format=JobID,State,TotalCPU").splitlines():
        step, state, cpu = row.split("|")
        job, _, name = step.partition(".")
        if job in jobs and name and state == "COMPLETED":
            total[job] = total.get(job, 0.0) + seconds(cpu)
    return list(total.values())


def seconds(text: str) -> float:
    """Seconds of "01:02:03" or "02:03.456"."""
    total = 0.0
    for part in re.split("[-:]", text):
        total = total * 60 + float(part or 0)
    return total


def main(jobs: int) -> int:
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 1
    print(f"Empty jobs, {os.cpu_count()} cores; seconds per job")
    print("           jobs submissions   CPU in it  CPU of Snakemake    wall")
    with running() as cluster:
        print("each alone", measure(cluster, jobs))
        print("one array ", measure(cluster, jobs, "--slurm-array-jobs", "one"))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 24))
