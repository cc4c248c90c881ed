"""The same on a server as it is used in earnest, and by the other transport."""

from __future__ import annotations

from typing import Any

import pytest

from tests.s3.operations import OPERATIONS
from tests.s3.sweeps import FAULTS, nothing_lost, requests_of, sweep

pytestmark = pytest.mark.full


@pytest.mark.parametrize(
    "worlds", [("ceph", "obstore"), ("moto", "s3fs")], indirect=True, ids=["ceph", "s3fs"]
)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_on_a_server_as_in_earnest_and_by_the_other_way(worlds: Any, name: str, fault: str) -> None:
    """At every fourth request, beginning with another for each fault."""
    operation = OPERATIONS[name]
    count = requests_of(worlds, operation)
    places = range(1 + list(FAULTS).index(fault) % min(4, count), count + 1, 4)
    nothing_lost(sweep(worlds, operation, FAULTS[fault], places))
