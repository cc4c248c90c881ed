"""A registry and a store of a test's own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from crown_exp.registry import Registry, default_url, open_registry
from crown_exp.storage import BlobStore, open_blobs
from crown_exp.storage.database.base import path_of


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return default_url(tmp_path / "home")


@pytest.fixture
def store() -> BlobStore:
    return open_blobs(f"memory://{uuid4().hex}")


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a registry without runs: making one takes longer than most tests."""
    home = tmp_path_factory.mktemp("registry")

    async def make() -> None:
        async with open_registry(default_url(home)):
            pass

    anyio.run(make)
    return home / "registry.db"


@pytest.fixture
async def registry(url: str, empty_registry: Path) -> AsyncIterator[Registry]:
    path_of(url).parent.mkdir()
    shutil.copy(empty_registry, path_of(url))
    async with open_registry(url) as opened:
        yield opened
