"""Every store keeps the contract of stores."""

from pathlib import Path
from uuid import uuid4

import pytest

from crown_exp.storage import BlobStore, open_blobs
from crown_exp.storage.file import FileStore
from crown_exp.testing import StoreContract


class TestFileStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> BlobStore:
        return FileStore(tmp_path / "not made yet")


class TestFileStoreWithoutLinks(StoreContract):
    """As on exFAT, SMB or a FUSE mount, where link(2) is refused."""

    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("os.link", refuse)
        return FileStore(tmp_path)


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> BlobStore:
        return open_blobs(f"memory://{uuid4().hex}")
