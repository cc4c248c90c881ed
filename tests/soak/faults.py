"""A server that fails now and then, in some way or other."""

from __future__ import annotations

import random
from typing import Any

from tests.s3.faults import CONFLICT, INTERNAL_ERROR, SLOW_DOWN, UNAVAILABLE, Fault
from tests.s3.servers import Proxy

KINDS: tuple[dict[str, Any], ...] = (
    SLOW_DOWN, UNAVAILABLE, INTERNAL_ERROR, CONFLICT | {"method": "PUT"},
    {"kind": "delay", "seconds": 0.2}, {"kind": "refuse"}, {"kind": "cut_request", "method": "PUT"},
    {"kind": "cut_response", "method": "GET"}, {"kind": "drop_answer"}, {"kind": "hang"},
    {"kind": "hang_answer"},
)  # fmt: skip


class Weather:
    """Arms a few faults, drawn anew at each turn. befallen: requests that one befell so far."""

    def __init__(self, proxy: Proxy, seed: int, kinds: int = 3) -> None:
        self.proxy, self.kinds = proxy, kinds
        self.chance = random.Random(seed)
        self.befallen = 0

    def turn(self) -> None:
        """Let other faults befall what comes from now on: each about one request of forty."""
        self.befallen += self.proxy.fired()
        self.proxy.clear()
        for kind in self.chance.sample(KINDS, self.kinds):
            first, every = self.chance.randint(1, 40), self.chance.randint(25, 60)
            self.proxy.arm(Fault(**kind, first=first, every=every))
