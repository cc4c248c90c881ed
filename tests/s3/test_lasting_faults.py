"""Faults that befall several requests in a row, or all from one on: a clear end, and nothing lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.s3.operations import OPERATIONS
from tests.s3.sweeps import FAULTS, nothing_lost, requests_of, sweep

SOME = ["second save", "restore", "retention", "fence"]
LASTING = ["500", "refuse", "409", "hang"]


@pytest.mark.full
@pytest.mark.parametrize("length", [2, 5, None])
@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("name", OPERATIONS)
def test_bursts_and_for_ever(worlds: Any, name: str, fault: str, length: int | None) -> None:
    """From the k-th request on: for ever is past the deadline, and ends in one line."""
    operation = OPERATIONS[name]
    places = range(1, requests_of(worlds, operation) + 1, 3)
    counts = sweep(worlds, operation, FAULTS[fault], places, length=length)
    nothing_lost(counts)
    if (
        length is None and name != "save and retention"
    ):  # whose end is retention, for which nobody waits
        assert set(counts.ended) <= {"StoreError", "Refused"} | (
            {"done"} if "save" in name else set()
        )


@pytest.mark.parametrize("name", SOME)
def test_for_ever_from_the_first_request_on(worlds: Any, name: str) -> None:
    counts = sweep(worlds, OPERATIONS[name], FAULTS["503"], [1], length=None)
    nothing_lost(counts)
    assert "done" not in counts.ended
    (line,) = counts.lines.values()
    assert " answers 503" in line and "; try again later" in line
