"""Several things at once in the event loop, and work in its threads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def each(work: Callable[[T], Awaitable[None]], items: Iterable[T], *, at_once: float) -> None:
    """`await work(item)` for every item, `at_once` together. Raises what the first that failed raised."""
    from anyio import CapacityLimiter, create_task_group

    places = CapacityLimiter(at_once)

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


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(*args, **kwargs)`, in a worker thread."""
    from anyio import to_thread

    return await to_thread.run_sync(partial(work, *args, **kwargs))


async def left_behind(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(*args, **kwargs)`, in a thread of its own, which is left to itself when this is cancelled.

    For what may hang: neither a deadline nor the end of the process waits for it.
    """
    import asyncio
    from concurrent.futures import Future
    from threading import Thread

    done: Future[T] = Future()

    def act() -> None:
        try:
            done.set_result(work(*args, **kwargs))
        except BaseException as error:
            done.set_exception(error)

    done.set_running_or_notify_cancel()
    Thread(target=act, name="crown-exp: may hang", daemon=True).start()
    return await asyncio.wrap_future(done)
