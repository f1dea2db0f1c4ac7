from __future__ import annotations

from pathlib import Path

import pytest

from tests.exhibits.fakes import Fakes


@pytest.fixture(scope="session")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Fakes:
    """A small study: two targets, four treatments, one seed. Tests do not change its files."""
    folder: Path = tmp_path_factory.mktemp("fakes")
    return Fakes(folder, treatments=("scratch", "frozen-0", "frozen-1", "frozen-4"))
