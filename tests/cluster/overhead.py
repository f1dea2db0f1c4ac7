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

# An array waits until all its jobs are ready, so --jobs must let them all in at once.
SNAKEMAKE = (sys.executable, "-m", "snakemake", "--profile", str(REPOSITORY / "slurm"), *FASTER)
SNAKEFILE = """\
rule all:
    input: [f"out/{{i}}" for i in range({jobs})]
rule one:
    output: "out/{{i}}"
    resources: runtime=5, mem_mb=500
    shell: "touch {{output}}"
"""


def measure(cluster: Cluster, jobs: int, *arguments: str) -> str:
    """Run so many empty jobs; gives one row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Snakefile").write_text(SNAKEFILE.format(jobs=jobs))
        before = cluster.run("sacct", "-X", "-n", "-P", "--format=JobID").split()
        began, cpu = time.monotonic(), children()
        subprocess.run(
            [
                *(sys.executable, "-m", "snakemake", "--profile", str(REPOSITORY / "slurm")),
                *(*FASTER, "--jobs", "4", *arguments),
            ],
            cwd=folder,
            env=cluster.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        wall, cpu = time.monotonic() - began, children() - cpu
    time.sleep(3)  # the last numbers arrive in the database
    spent = sum(job_seconds(cluster, before))
    return f"{wall / jobs:8.2f} {spent / jobs:10.2f} {cpu / jobs:14.2f}"


def children() -> float:
    """CPU seconds of this process's ended children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def job_seconds(cluster: Cluster, before: list[str]) -> list[float]:
    """CPU seconds of all jobs that are not among `before`, all their steps included."""
    found = []
    for row in cluster.run("sacct", "-X", "-n", "-P", "--format=JobID,TotalCPU").splitlines():
        job, _ = row.split("|")
        if job not in before:
            total = cluster.run("sacct", "-n", "-P", f"--jobs={job}", "--format=JobID,TotalCPU").splitlines()
            found += [seconds(line.split("|")[1]) for line in total if "." in line.split("|")[0]]
    return found


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
    print(f"{jobs} empty jobs, {os.cpu_count()} cores; seconds per job")
    print("                  wall   CPU in it   CPU of Snakemake")
    with running() as cluster:
        print("each alone   ", measure(cluster, jobs))
        print("one array    ", measure(cluster, jobs, "--slurm-array-jobs", "one"))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 24))
