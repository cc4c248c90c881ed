"""Batches in page-locked memory, from which copies to a GPU need no wait."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import torch

from crown_exp.data.move import pin


def pinned(batches: Generator[Any], copy: Callable[[Any], Any] = pin) -> Generator[Any]:
    """The same batches, each copied by a thread while the one before it is in use.

    An error of the source is raised after the batch before it was handed over, as without the thread.
    """
    ahead: Future[Any] | None = None
    with closing(batches), _thread() as thread:
        try:
            for batch in batches:
                following = thread.submit(copy, batch)
                del batch  # or two would be held
                if ahead is not None:
                    yield ahead.result()
                ahead = following
        except Exception:
            if ahead is not None:
                yield ahead.result()
            raise
        if ahead is not None:
            yield ahead.result()


def _thread() -> ThreadPoolExecutor:
    if not torch.cuda.is_available():
        return ThreadPoolExecutor(1)
    # A thread begins on the first GPU, and would open a context there.
    return ThreadPoolExecutor(
        1, initializer=torch.cuda.set_device, initargs=(torch.cuda.current_device(),)
    )
