"""How long the machine stood still under a test that says how long something may take.

with late() as stalls:
    began = time.monotonic()
    ...
    took = time.monotonic() - began
assert took <= 20 + sum(stalls)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def late() -> Iterator[list[float]]:
    """By how much this machine was late, in seconds, whenever that was more than a tenth."""
    over, found = threading.Event(), list[float]()

    def watch() -> None:
        before, ended = time.monotonic(), False
        while not ended:
            ended = over.wait(0.05)
            now = time.monotonic()
            found.extend([now - before] if now - before > 0.15 else [])
            before = now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
