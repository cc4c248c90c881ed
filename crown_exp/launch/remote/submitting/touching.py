"""Blobs written anew, again and again, for as long as their writer is at work: so others see that it lives."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from crown_exp.errors import StoreError
from crown_exp.launch.session import Session

TOUCH_SECONDS = 20.0


@contextmanager
def touched(session: Session, blobs: Mapping[str, bytes]) -> Iterator[None]:
    """Inside, these blobs are never older than some seconds by the store's clock. blobs: bytes by path.

    A store that does not answer is no error here: whoever needs it next is told.
    """
    over = threading.Event()

    def work() -> None:
        while not over.wait(TOUCH_SECONDS):
            for path, data in blobs.items():
                with suppress(StoreError):
                    session.portal.call(session.blobs.put, path, data)

    thread = threading.Thread(target=work, name="crown-touching", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
