"""What a save and a load take at their peak, of a state of 300 MiB, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.s3.buckets import Bucket

ROOT = Path(__file__).parents[3]
SIZE = 300 * 2**20
MOST = 1.05

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak of a span"),
]


def measured(url: str, environment: dict[str, str]) -> dict[str, float]:
    run = [sys.executable, "-m", "tests.checkpoint_memory", url, str(SIZE)]
    done = subprocess.run(
        run,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def assert_one_copy(found: dict[str, float]) -> None:
    """The buffer, and no more: in the first save and in a load; nothing in a save after either."""
    assert found["save"] <= MOST and found["load"] <= MOST, found
    assert found["again"] <= MOST - 1 and found["after"] <= MOST - 1, found


def test_in_files(tmp_path: Path) -> None:
    assert_one_copy(measured(str(tmp_path), {}))


def test_in_a_bucket(bucket: Bucket) -> None:
    assert_one_copy(measured(f"{bucket.url}/a", bucket.environment()))


def test_in_a_bucket_of_ceph(ceph_bucket: Bucket) -> None:
    assert_one_copy(measured(f"{ceph_bucket.url}/a", ceph_bucket.environment()))
