"""Every store keeps the contract of stores."""

from pathlib import Path
from uuid import uuid4

import pytest
from fsspec import AbstractFileSystem

from crown_exp.errors import SettingsError
from crown_exp.storage import BlobStore, open_blobs
from crown_exp.storage.file import FileStore
from crown_exp.storage.objects import ObjectStore
from crown_exp.storage.through_fsspec import FsspecStore
from crown_exp.testing import StoreContract
from tests.s3.buckets import Bucket
from tests.s3.faults import Fault
from tests.s3.servers import Moto, Proxy


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [ObjectStore, FsspecStore])
async def test_a_server_that_ignores_create_only_is_refused(
    kind: type[ObjectStore | FsspecStore], bucket: Bucket, proxy: Proxy, anyio_backend: str
) -> None:
    """As rclone and others do: every writer would believe it was the first."""
    through = bucket.behind(proxy)
    store = kind(f"{through.url}/a", through.access)
    with proxy.armed(Fault("strip", headers={"If-None-Match": ""})):
        with pytest.raises(SettingsError, match=r"does not keep create-only writes") as caught:
            await store.prepare()
        assert "\n" not in str(caught.value)
    await store.prepare()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [ObjectStore, FsspecStore])
async def test_a_prefix_of_others_is_refused(
    kind: type[ObjectStore | FsspecStore], bucket: Bucket, anyio_backend: str
) -> None:
    """And not written to; a prefix in it, or beside it, is fine."""
    bucket.write("photos/2026/a.jpg", b"")
    for url in (bucket.url, f"{bucket.url}/photos"):
        with pytest.raises(SettingsError, match=r"holds other things \(first: .*a\.jpg\)"):
            await kind(url, bucket.access).prepare()
    assert bucket.keys() == ["photos/2026/a.jpg"]
    for url in (f"{bucket.url}/pho", f"{bucket.url}/photos/crown"):
        await kind(url, bucket.access).prepare()
