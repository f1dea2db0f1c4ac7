"""What Snakemake itself costs: seconds per job beside the same commands without it, and of a run with nothing to do.

Run: python -m bench.overhead [--jobs N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench._verdict import verdict

SNAKEFILE = """
rule all:
    input: expand("out/{{n}}", n=range({jobs}))
rule one:
    output: "out/{{n}}"
    log: "logs/{{n}}"
    shell: "echo {{wildcards.n}} > {{output}} 2> {{log}}"
"""


def seconds(command: list[str], folder: Path) -> float:
    """Wall seconds of one command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    jobs = parser.parse_args().jobs
    snakemake = [sys.executable, "-m", "snakemake", "--cores", "2"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs))
        (folder / "plain").mkdir()
        plain = seconds(["bash", "-c", f'for n in $(seq {jobs}); do bash -c "echo $n > plain/$n"; done'], folder)
        run = seconds(snakemake, folder)
        nothing = seconds(snakemake, folder)
    print(f"{jobs} jobs: {run:.1f} s with Snakemake, {plain:.2f} s without")
    print(f"per job   {1000 * (run - nothing) / jobs:.0f} ms with Snakemake, {1000 * plain / jobs:.1f} ms without")
    verdict("milliseconds of Snakemake for each job", 1000 * (run - nothing) / jobs, most=100)
    print(f"no-op     {nothing:.1f} s: start, DAG, nothing to be done")


if __name__ == "__main__":
    main()
