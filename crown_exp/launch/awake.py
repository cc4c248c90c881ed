"""Keeps a Mac from falling asleep while nobody types, for as long as something runs here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

GRACE_SECONDS = 1.0


@contextmanager
def awake(platform: str = sys.platform) -> Iterator[None]:
    """Inside, a Mac does not sleep by itself; a closed lid still puts it to sleep. Elsewhere nothing is done.

    `caffeinate` watches this process, so that it ends with it however that ends. Without it, or if it cannot
    be started, nothing is done either.
    """
    child = _caffeinate() if platform == "darwin" else None
    try:
        yield
    finally:
        if child is not None:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_SECONDS)


def _caffeinate() -> subprocess.Popen[bytes] | None:
    with suppress(OSError):
        return subprocess.Popen(
            ["caffeinate", "-i", "-w", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the run
        )
    return None
