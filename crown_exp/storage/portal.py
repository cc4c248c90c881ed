"""Where code without an event loop meets storage, which has one."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    contextmanager,
)
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

    from anyio.from_thread import BlockingPortal

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Hold signals back: interrupted while it starts its thread, anyio would wait for it for ever."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Portal:
    """One thread with one event loop, for as long as the `with` block lasts.

    The loop is its own, so a caller whose thread runs another (a notebook) is served as well.
    """

    def __init__(self) -> None:
        self._open = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Portal:
        from anyio.from_thread import start_blocking_portal

        with interrupts_later():
            self._portal = self._open.enter_context(start_blocking_portal())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal = None
        self._open.__exit__(kind, error, traceback)

    def enter(self, manager: AbstractAsyncContextManager[T]) -> AbstractContextManager[T]:
        """An asynchronous context manager as a plain one; it lives in the loop."""
        if self._portal is None:
            raise RuntimeError("a Portal works within its `with` block")
        return self._portal.wrap_async_context_manager(manager)

    def call(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `await work(*args, **kwargs)` in the loop and wait for it; what it raises is raised.

        If the wait is interrupted (Ctrl-C), the work is cancelled.
        Any thread may call but the loop's own. Raises RuntimeError outside the `with` block.
        """
        if self._portal is None:
            raise RuntimeError("a Portal works within its `with` block")
        future = self._portal.start_task_soon(partial(work, *args, **kwargs))
        try:
            return future.result()
        except BaseException:
            future.cancel()  # nothing, if it is the work's own error
            raise

    def start(
        self, work: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Run `await work(*args, **kwargs)` in the loop behind the caller: what it returns or raises.

        The end of the `with` block waits for it. Raises RuntimeError outside the `with` block.
        """
        if self._portal is None:
            raise RuntimeError("a Portal works within its `with` block")
        return self._portal.start_task_soon(partial(work, *args, **kwargs))
