"""What the tests of this folder share: an event loop for a module, and fresh worlds to sweep over."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from crown_exp.storage import Portal
from tests.s3.sweeps import DEADLINES_S, quick, world

SLOWER = {"s3fs": 4}
"""How much more time a transport is given: its first answer may take over a second on a busy machine."""


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal, quick():
        yield portal


@pytest.fixture
def worlds(portal: Portal, request: pytest.FixtureRequest) -> Any:
    """Makes fresh worlds, on moto unless `request.param` says by which server and transport."""
    server, by = getattr(request, "param", ("moto", "obstore"))
    prefix = "" if server == "moto" else f"{server}_"
    proxy, bucket = (request.getfixturevalue(f"{prefix}{what}") for what in ("proxy", "bucket"))
    return partial(
        world, portal, proxy, bucket, by=by, hurried_s=SLOWER.get(by, 1) * DEADLINES_S[server]
    )
