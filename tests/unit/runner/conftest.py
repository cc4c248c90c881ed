from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.storage import Portal, open_blobs
from tests.running import Lab


@pytest.fixture(scope="session")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture
def lab(portal: Portal, tmp_path: Path) -> Lab:
    return Lab(portal, open_blobs(str(tmp_path / "store")), tmp_path / "home")
