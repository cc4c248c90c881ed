"""Fixtures for all tests that need an S3 server. The root conftest makes them known.

moto      the server, one a process of tests; so is `ceph`, for tests marked `full`
bucket    a fresh bucket on moto; `ceph_bucket` one on Ceph
proxy     the fault proxy before moto, without faults; `ceph_proxy` the one before Ceph

    def test_x(bucket, proxy):
        behind = bucket.behind(proxy)
        store = open_blobs(f"{behind.url}/a", behind.access)
        proxy.arm_at(3, "hang", method="PUT")
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.s3.buckets import Bucket, fresh_bucket
from tests.s3.servers import Ceph, Moto, Proxy

GIVEN_CEPH = os.environ.get("CROWN_TEST_CEPH", "")  # before tests have their environment cleaned


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    """moto as a process of its own."""
    with Moto() as server:
        yield server


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    """Ceph's gateway: the one that CROWN_TEST_CEPH names, or one of its own."""
    if not GIVEN_CEPH and (missing := Ceph.missing()):
        pytest.skip(missing)
    with Ceph(GIVEN_CEPH) as server:
        yield server


@pytest.fixture(scope="session")
def _moto_proxy(moto: Moto) -> Iterator[Proxy]:
    with Proxy(moto.url) as running:
        yield running


@pytest.fixture(scope="session")
def _ceph_proxy(ceph: Ceph) -> Iterator[Proxy]:
    with Proxy(ceph.url) as running:
        yield running


@pytest.fixture
def proxy(_moto_proxy: Proxy) -> Iterator[Proxy]:
    """The fault proxy before moto, without faults."""
    _moto_proxy.clear()
    yield _moto_proxy
    _moto_proxy.clear()


@pytest.fixture
def ceph_proxy(_ceph_proxy: Proxy) -> Iterator[Proxy]:
    """The fault proxy before Ceph, without faults."""
    _ceph_proxy.clear()
    yield _ceph_proxy
    _ceph_proxy.clear()


@pytest.fixture
def bucket(moto: Moto) -> Iterator[Bucket]:
    """A fresh bucket on moto."""
    with fresh_bucket(moto) as made:
        yield made


@pytest.fixture
def ceph_bucket(ceph: Ceph) -> Iterator[Bucket]:
    """A fresh bucket on Ceph."""
    with fresh_bucket(ceph) as made:
        yield made
