"""Several things at once in the loop, and work in its threads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from typing import TypeVar

from crown_exp.checkpoints.base import PARALLEL

T = TypeVar("T")


async def each(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    """`await work(item)` for every item, a few at once. Raises what the first that failed raised."""
    from anyio import CapacityLimiter, create_task_group

    places = CapacityLimiter(PARALLEL)

    async def one(item: T) -> None:
        async with places:
            await work(item)

    try:
        async with create_task_group() as group:
            for item in items:
                group.start_soon(one, item)
    except ExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work()` in a worker thread."""
    from anyio import to_thread

    return await to_thread.run_sync(work)


async def digest(data: memoryview | bytes) -> str:
    """The sha256 of some bytes, hexadecimal."""
    return await in_thread(lambda: sha256(data).hexdigest())
