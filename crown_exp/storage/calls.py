"""Calls to a remote store: each ends by its deadline, and is made again where that is safe.

What is safe: to read, list, delete, copy. A create-only write whose answer did not come may have happened;
so what is there is read before it is made again.

To write a blob over whatever is there is made again as well, and is safe where its bytes are always the same,
as those of a pack. Else a try that was given up may still be on its way, and land after a later write of newer
bytes, over them. Of ours only segments of a log and records of jobs are written over by other bytes; who writes
the last of them for good should look afterwards at what is there.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import anyio

from crown_exp.errors import SettingsError, StoreError
from crown_exp.storage.advice import trouble
from crown_exp.storage.base import AlreadyExists, NotFound
from crown_exp.storage.trouble import PASSING, Answer, Kind, Place, Trouble, Verb

DEADLINE_S = 60.0
BYTES_PER_S = 256 * 1024
"""A call may take its deadline, and a second more for so many bytes that it moves."""

FIRST_TRY = 0.5
"""The share of what is left that one try may take: one that hangs leaves time for others."""

LEAST_TRY_S = 2.0
NO_CREDENTIALS_TRIES = 2
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0

CHANCE = random.SystemRandom()
"""Not `random` itself: a wait would move the task's random numbers on, and a run not be resumed exactly."""

T = TypeVar("T")


class Refused(StoreError):
    """A call that failed for good; `trouble` says of what kind."""

    trouble: Trouble


def deadline_of(access: Mapping[str, str]) -> float:
    """DEADLINE of `access` in seconds, or the default. Raises SettingsError if it is no such number."""
    text = access.get("DEADLINE", str(DEADLINE_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise SettingsError(f"CROWN_STORAGE__DEADLINE: seconds above 0, as 60; got {text!r}")
    return seconds


@dataclass(frozen=True, slots=True)
class Calls:
    """How one remote store is called.

    answer: the transport's own exception as an `Answer`; None for one that is no answer of a server
    (a mistake in our code), which is raised as it is.
    """

    place: Place
    answer: Callable[[Exception], Answer | None]
    deadline_s: float = DEADLINE_S

    async def again(
        self, act: Callable[[], Awaitable[T]], verb: Verb, path: str, *, size: int = 0
    ) -> T:
        """`await act()`, and if that fails in passing, again until the deadline.

        size: bytes that it moves. Raises NotFound, AlreadyExists, Refused.
        """
        tries = _Tries(self, verb, path, size)
        while True:
            try:
                return await tries.one(act)
            except _PassedOver:
                await tries.wait()

    async def create(
        self,
        put: Callable[[], Awaitable[object]],
        get: Callable[[], Awaitable[bytes]],
        path: str,
        data: bytes | memoryview,
    ) -> None:
        """`await put()`, a create-only write of `data`, once: if no answer came, `await get()` tells.

        Raises AlreadyExists if other bytes are there (or any, where no try of ours can have written
        them), Refused.
        """
        tries = _Tries(self, Verb.WRITE, path, len(data))
        unsure = False
        while True:
            try:
                await tries.one(put)
                return
            except AlreadyExists:
                if unsure and await self._holds(get, path, data):
                    return
                raise
            except _PassedOver:
                unsure = True
            await tries.wait()
            try:
                if await tries.one(get, Verb.READ) == data:
                    return
                raise AlreadyExists(f"{path} exists in {self.place.url}")
            except (NotFound, _PassedOver):
                continue

    async def _holds(
        self, get: Callable[[], Awaitable[bytes]], path: str, data: bytes | memoryview
    ) -> bool:
        try:
            return await self.again(get, Verb.READ, path, size=len(data)) == data
        except NotFound:
            return False

    def failed(self, error: Exception, verb: Verb, path: str) -> StoreError | None:
        """The error for the user of what the transport raised; None if it is not the server's."""
        if isinstance(error, StoreError):
            return error
        answer = self.answer(error)
        return (
            None if answer is None else self.refused(trouble(answer, verb, self.place), verb, path)
        )

    def refused(self, why: Trouble, verb: Verb, path: str, tail: str = "") -> StoreError:
        """The error for the user of a trouble with a blob."""
        if why.kind is Kind.MISSING and verb not in (Verb.WRITE, Verb.LIST):
            return NotFound(f"{path} is not in {self.place.url}")
        if why.kind is Kind.EXISTS:
            return AlreadyExists(f"{path} exists in {self.place.url}")
        named = f"{path} in " if path else ""
        error = Refused(f"cannot {verb.value} {named}{self.place.url}: {why}{tail}")
        error.trouble = why
        return error


class _PassedOver(Exception):
    """A try that failed in passing."""


class _Tries:
    """The tries of one call, until its deadline."""

    def __init__(self, calls: Calls, verb: Verb, path: str, size: int) -> None:
        self.calls, self.verb, self.path = calls, verb, path
        self.began = anyio.current_time()
        self.until = self.began + calls.deadline_s + size / BYTES_PER_S
        self.made = 0
        self.last: StoreError | None = None

    async def one(self, act: Callable[[], Awaitable[T]], verb: Verb | None = None) -> T:
        """One try, ended when it takes too long. Raises _PassedOver if another may do better.

        verb: what it does, if that is not what the call does.
        """
        verb = verb or self.verb
        self.made += 1
        left = self.until - anyio.current_time()
        try:
            with anyio.fail_after(max(left * FIRST_TRY, min(left, LEAST_TRY_S))):
                return await act()
        except TimeoutError as error:
            answer = Answer(said="timed out")
            self._note(error, trouble(answer, verb, self.calls.place))
        except Exception as error:
            found = self.calls.failed(error, verb, self.path)
            if found is None:
                raise
            if not isinstance(found, Refused) or not self._may_pass(found.trouble.kind):
                raise found from (None if found is error else error)
            self._note(error, found.trouble)
        raise _PassedOver

    def _may_pass(self, kind: Kind) -> bool:
        # Where credentials come from (an instance's metadata) may stumble once; most often there are none.
        return kind in PASSING or (kind is Kind.NO_CREDENTIALS and self.made < NO_CREDENTIALS_TRIES)

    def _note(self, error: Exception, why: Trouble) -> None:
        took = anyio.current_time() - self.began
        tail = f" (tried {self.made} times in {took:.0f} s)" if self.made > 1 else ""
        self.last = self.calls.refused(why, self.verb, self.path, tail)
        self.last.__cause__ = error

    async def wait(self) -> None:
        """Before the next try: a while that grows, of random length. Raises the last error at the deadline.

        Also where it took longer, as the machine stood still: a try without any time would be timed out, and
        hide why the others failed.
        """
        assert self.last is not None
        longest = min(FIRST_WAIT_S * 2**self.made, LONGEST_WAIT_S)
        pause = CHANCE.uniform(0, longest)
        if anyio.current_time() + pause >= self.until:
            raise self.last
        await anyio.sleep(pause)
        if anyio.current_time() >= self.until:
            raise self.last
