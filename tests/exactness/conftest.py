"""Zygotes and straight runs, one set for each process of pytest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.exactness.cases import Cases, Zygotes


@pytest.fixture(scope="session")
def zygotes(request: pytest.FixtureRequest) -> Iterator[Zygotes]:
    quick = request.config.getoption("-m") == "not full"  # each takes seconds to start
    found = Zygotes(pairs=not quick)
    yield found
    found.close()


@pytest.fixture(scope="session")
def cases(zygotes: Zygotes, tmp_path_factory: pytest.TempPathFactory) -> Cases:
    return Cases(tmp_path_factory.mktemp("exactness"), zygotes)
