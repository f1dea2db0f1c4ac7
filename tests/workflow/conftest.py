"""A workspace with the workflow in it, and a toy study run to its end once for all tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
TOY = Path(__file__).with_name("toy.yaml")


class Workspace:
    """A folder with the workflow, as a clone would have it, and results of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("Snakefile", "workflow", "config", "envs"):
            (root / name).symlink_to(REPOSITORY / name)
        self.config = root / "toy.yaml"
        shutil.copy(TOY, self.config)

    @classmethod
    def at(cls, root: Path) -> Workspace:
        """A workspace that is there already."""
        made = cls.__new__(cls)
        made.root, made.config = root, root / "toy.yaml"
        return made

    def command(self, *arguments: str) -> list[str]:
        """The snakemake command line of this workspace."""
        return [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", str(self.config), *arguments]

    def environment(self) -> dict[str, str]:
        kenlm = REPOSITORY / "build" / "kenlm" / "bin"
        return {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{kenlm}{os.pathsep}{os.environ['PATH']}"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run snakemake here; fails the test, with its output, where it fails."""
        done = self.attempt(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run snakemake here, whatever comes of it."""
        return subprocess.run(
            self.command(*arguments), cwd=self.root, env=self.environment(), capture_output=True, text=True, check=False
        )

    def edit(self, **over: object) -> None:
        """Replace top-level parts of the config by merged ones."""
        from thaw.config.load import merged

        self.config.write_text(yaml.safe_dump(merged(yaml.safe_load(TOY.read_text()), over), allow_unicode=True))

    def shown(self) -> dict[str, bytes]:
        """Every table and figure, by path; not the report, which also says how long things took."""
        folder = self.root / "results" / "freezing" / "toy"
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if "report.html" not in path.name}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The toy study, run to its end, once for all test processes. Tests must leave it as they found it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root = shared / "finished"
    with (shared / "finished.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (root / "done").exists():
            return Workspace.at(root)
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        workspace = Workspace(root)
        workspace.run()
        (root / "done").touch()
        return workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace of the test's own, with nothing made."""
    yield Workspace(tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)  # a toy study is tens of megabytes


@pytest.fixture
def copy(finished: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    """The finished toy study in a folder of the test's own, times and Snakemake's metadata kept."""
    shutil.copytree(finished.root, tmp_path, symlinks=True, dirs_exist_ok=True)
    yield Workspace.at(tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)
