"""Spot machines are taken at random moments, 30 seconds after notice: what was done is in the bucket."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.exactness.notices import Verdict, machines, take
from tests.s3.buckets import Bucket


def kept(verdicts: list[Verdict], least: float) -> Counter[str]:
    """How many ended how, once some were saved, and all but a few of those that had something to lose."""
    found = Counter(verdict.kind for verdict in verdicts)
    lost = "\n".join(verdict.words for verdict in verdicts if verdict.words)
    assert found["saved"] > 0, found
    assert found["saved"] >= least * (found["saved"] + found["LOST"]), f"{found}\n{lost}"
    return found


def test_a_few_machines_are_taken(bucket: Bucket, tmp_path: Path) -> None:
    with machines("walk", bucket, tmp_path) as found:
        kept(take(found, 6, seed=1, workers=3), least=1.0)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_three_hundred_machines_are_taken(bucket: Bucket, tmp_path: Path) -> None:
    with machines("walk", bucket, tmp_path) as found:
        assert kept(take(found, 300, seed=2, workers=3), least=0.99)["saved"] > 150


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_twenty_machines_with_torch_are_taken(bucket: Bucket, tmp_path: Path) -> None:
    with machines("fit", bucket, tmp_path) as found:
        kept(take(found, 20, seed=3, workers=2), least=1.0)
