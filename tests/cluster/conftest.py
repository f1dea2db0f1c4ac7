"""A cluster for the tests of this folder, and a study that ran on it without a disturbance."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.cluster.disturbed")  # before it is imported: failures then show values

from tests.cluster.cluster import Cluster, running, why_not  # noqa: E402
from tests.cluster.disturbed import Study  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """SLURM's daemons. Skips where they cannot run, and where these long tests were not asked for by their path."""
    asked = [Path(argument.split("::")[0]).resolve() for argument in pytestconfig.args]
    if not any(path.is_relative_to(HERE) for path in asked):
        pytest.skip("runs real SLURM daemons for minutes: make test-cluster")
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            started = stack.enter_context(running())
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            # A container may forbid what a daemon needs; that says nothing about this repository.
            pytestconfig.get_terminal_writer().line(f"\n{error}")
            reason = str(error).partition("\n")[0].rstrip(":")
            pytest.skip(f"SLURM's daemons do not start here: {reason}")
        yield started


@pytest.fixture(scope="session")
def calm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study, run on the cluster to its end, undisturbed. Tests leave it as it is."""
    study = Study(tmp_path_factory.mktemp("calm"), cluster)
    study.make_folder()
    study.finish(study.start())
    return study


@pytest.fixture
def study(calm: Study, cluster: Cluster, tmp_path: Path) -> Iterator[Study]:
    """The finished study without its one slow training and all that was made from it."""
    copied = calm.copied_to(tmp_path)
    yield copied
    copied.clean_up()
