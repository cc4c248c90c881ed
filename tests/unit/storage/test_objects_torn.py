"""A body that is changed on its way: Ceph, as AWS, refuses what does not fit the signature.

moto does not look.
"""

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import pytest

from crown_exp.errors import StoreError
from crown_exp.storage.objects import ObjectStore
from tests.s3.buckets import Bucket

pytestmark = [pytest.mark.anyio, pytest.mark.full]
MARK = b"a mark in a body"
MARKS = MARK * 2**16


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Tearing:
    """A relay before a server: `times` packets of a body of MARKS reach it with another byte in them."""

    def __init__(self, upstream: str, times: int) -> None:
        parts = urlsplit(upstream)
        self._upstream, self.left = (str(parts.hostname), int(parts.port or 80)), times
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                server = socket.create_connection(self._upstream)
                for ends in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._relay, args=ends, daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket, tears: bool) -> None:
        with source, suppress(OSError):
            try:
                while data := bytearray(source.recv(65536)):
                    if tears and self.left and (at := data.find(MARK)) >= 0:
                        data[at] ^= 1
                        self.left -= 1
                    target.sendall(data)
            finally:
                for end in (source, target):
                    end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("create", [False, True])
async def test_a_torn_body_is_refused_and_sent_again(ceph_bucket: Bucket, create: bool) -> None:
    tearing = Tearing(ceph_bucket.endpoint, times=1)
    store = ObjectStore(ceph_bucket.url, ceph_bucket.access | {"AWS_ENDPOINT_URL": tearing.url})
    await store.put("x", MARKS, create=create)
    tearing.close()
    assert tearing.left == 0
    assert ceph_bucket.read("x") == MARKS


@pytest.mark.parametrize("create", [False, True])
async def test_what_is_always_torn_is_never_there(ceph_bucket: Bucket, create: bool) -> None:
    tearing = Tearing(ceph_bucket.endpoint, times=10_000)
    access = ceph_bucket.access | {"AWS_ENDPOINT_URL": tearing.url, "DEADLINE": "0.5"}
    with pytest.raises(StoreError, match=r"did not reach .* as they were sent \(XAmzContentSHA256"):
        await ObjectStore(ceph_bucket.url, access).put("x", MARKS, create=create)
    tearing.close()
    assert tearing.left < 10_000
    assert ceph_bucket.keys() == []
