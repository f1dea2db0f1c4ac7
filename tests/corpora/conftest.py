"""A server that misbehaves, and no proxy between it and the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.corpora.badserver import BadServer


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as running:
        yield running
