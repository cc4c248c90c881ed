"""Uploads that were begun and never ended, found and aborted on a real server."""

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from crown_exp.errors import StoreError
from crown_exp.storage.unfinished import abort_uploads, unfinished_uploads
from tests.s3.buckets import Bucket
from tests.s3.faults import Fault
from tests.s3.servers import Proxy

pytestmark = pytest.mark.anyio
LATER = datetime.now(UTC) + timedelta(days=2)
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def begin(bucket: Bucket, key: str) -> None:
    made = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    bucket.client.upload_part(
        Bucket=bucket.name, Key=key, UploadId=made["UploadId"], PartNumber=1, Body=b"1"
    )


def left(bucket: Bucket) -> list[str]:
    listed = bucket.client.list_multipart_uploads(Bucket=bucket.name)
    return sorted(item["Key"] for item in listed.get("Uploads", ()))


async def aborts(bucket: Bucket) -> None:
    for key in ("p/runs/a/packs/x%20 y", "p/runs/a/ü", "p/runs/b/packs/1", "q/runs/a/packs/1"):
        begin(bucket, key)
    url = f"{bucket.url}/p"
    assert await abort_uploads(url, bucket.access, "runs/a/", LONG_AGO) == []
    found = await unfinished_uploads(url, bucket.access, "runs/a/", LATER)
    assert sorted(one.path for one in found) == ["runs/a/packs/x%20 y", "runs/a/ü"]
    assert await abort_uploads(url, bucket.access, "runs/a/", LATER) == found
    assert left(bucket) == ["p/runs/b/packs/1", "q/runs/a/packs/1"]


async def test_aborts_what_was_left_behind(bucket: Bucket) -> None:
    await aborts(bucket)


@pytest.mark.full
async def test_aborts_what_was_left_behind_on_ceph(ceph_bucket: Bucket) -> None:
    await aborts(ceph_bucket)


async def test_a_store_without_parts_has_none_left(tmp_path: object) -> None:
    assert await abort_uploads(f"file://{tmp_path}", {}, "", LATER) == []


async def test_no_bucket(bucket: Bucket) -> None:
    with pytest.raises(StoreError, match=r"cannot list s3://no-such-bucket/p: there is no bucket"):
        await abort_uploads("s3://no-such-bucket/p", bucket.access, "", LATER)


async def test_a_server_that_hangs_does_not_outlive_the_deadline(
    bucket: Bucket, proxy: Proxy
) -> None:
    access = bucket.behind(proxy).access | {"DEADLINE": "2"}
    with proxy.armed(Fault("hang", path="uploads")):
        with pytest.raises(StoreError, match="timed out"):
            await unfinished_uploads(bucket.url, access, "", LATER)
        with anyio.move_on_after(0.1) as scope:
            await unfinished_uploads(bucket.url, access | {"DEADLINE": "600"}, "", LATER)
        assert scope.cancelled_caught
