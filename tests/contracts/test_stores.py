"""Every store keeps the contract of stores."""

from pathlib import Path
from uuid import uuid4

import pytest
from fsspec import AbstractFileSystem

from crown_exp.storage import BlobStore, open_blobs
from crown_exp.storage.file import FileStore
from crown_exp.storage.objects import ObjectStore
from crown_exp.storage.through_fsspec import FsspecStore
from crown_exp.testing import StoreContract
from tests.s3.buckets import Bucket
from tests.s3.servers import Moto


@pytest.fixture(scope="module")
def s3fs_of_moto(moto: Moto) -> AbstractFileSystem:
    """One for all tests: to make its client takes longer than most of them."""
    return FsspecStore("s3://any", moto.access()).filesystem().system


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


class TestObjectStore(StoreContract):
    """S3 by obstore, with an empty prefix."""

    @pytest.fixture
    def store(self, bucket: Bucket) -> BlobStore:
        return ObjectStore(bucket.url, bucket.access)


@pytest.mark.full
class TestObjectStoreOnCeph(StoreContract):
    @pytest.fixture
    def store(self, ceph_bucket: Bucket) -> BlobStore:
        return ObjectStore(f"{ceph_bucket.url}/a prefix/ü", ceph_bucket.access)


class TestFsspecStoreByS3fs(StoreContract):
    @pytest.fixture
    def store(self, bucket: Bucket, s3fs_of_moto: AbstractFileSystem) -> BlobStore:
        return FsspecStore(f"{bucket.url}/a prefix/ü", bucket.access, s3fs_of_moto)


@pytest.mark.full
class TestFsspecStoreByS3fsOnCeph(StoreContract):
    @pytest.fixture
    def store(self, ceph_bucket: Bucket) -> BlobStore:
        return FsspecStore(ceph_bucket.url, ceph_bucket.access)


class TestFsspecStoreInMemory(StoreContract):
    """A file system that is synchronous, and has no server."""

    @pytest.fixture
    def store(self) -> BlobStore:
        return FsspecStore(f"memory://{uuid4().hex}")
