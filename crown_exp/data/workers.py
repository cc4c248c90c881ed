"""Processes that build ahead, each on a pipe of its own, so that one that dies or hangs has a name.

torch's DataLoader has one queue for all its workers: who dies while writing to it stops the others,
what was being built is not known, and a worker that does not listen outlives the loop.
"""

from __future__ import annotations

import atexit
import pickle
import signal
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from functools import partial
from itertools import cycle, islice
from multiprocessing.connection import wait
from typing import Any

import torch.multiprocessing

from crown_exp.data.worker_process import Build, work
from crown_exp.errors import TaskError

AHEAD = 2
"""What each worker has to build at once."""

GRACE_SECONDS = 5.0
"""What workers that were asked to end have for what they are at, together."""

KILLED_SECONDS = 30.0
"""What the system has to be done with one that was killed: on a machine that stands still it takes its time."""

WHY = {
    signal.SIGKILL: "out of memory?",
    signal.SIGBUS: "no room left in shared memory, /dev/shm?",
    signal.SIGSEGV: "a crash in native code",
    signal.SIGABRT: "native code gave up",
}


class WorkerTraceback(Exception):
    """Where an error came from: the cause of one that a worker handed over."""


def from_workers(
    build: Build,
    tasks: Iterator[Any],
    *,
    workers: int,
    name: str,
    timeout: float | None,
) -> Generator[Any]:
    """`map(build, tasks)`, in that order, built by `workers` processes that are AHEAD tasks ahead.

    Task k goes to worker k modulo `workers`. An error of `build` is raised here as it is, with its
    traceback as its cause. However the loop is left, the workers are gone then.
    timeout: seconds that a result is waited for; None: for ever.
    Raises TaskError for a worker that died or gave no answer in time, and for what cannot be sent.
    """
    team: list[_Worker] = []
    leave = partial(_end, team)
    atexit.register(leave)  # before multiprocessing, which asks by a signal and waits for ever
    try:
        for number in range(workers):
            team.append(_Worker(number, build, name))
        asked: deque[_Worker] = deque()
        for worker, task in zip(islice(cycle(team), AHEAD * workers), tasks, strict=False):
            worker.send(task)
            asked.append(worker)
        while asked:
            worker = asked.popleft()
            for task in islice(tasks, 1):
                worker.send(task)
                asked.append(worker)
            yield worker.answer(timeout)
    finally:
        leave()
        atexit.unregister(leave)


def _end(team: list[_Worker]) -> None:
    """Asks all to end, and kills who does not: one that hangs may ignore every other signal."""
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in team:
        worker.send(None)
    for worker in team:
        worker.end(max(0.0, deadline - time.monotonic()))
    team.clear()


class _Worker:
    """One process, seen from here."""

    def __init__(self, number: int, build: Build, name: str) -> None:
        self._name, self._build = name, build
        self._asked: deque[Any] = deque()
        self._answered = 0
        context = torch.multiprocessing.get_context()
        # Shared memory: what is in a pipe, or on its way there, is lost with the worker.
        self._begun = context.RawValue("q", 0)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=work, args=(theirs, build, name, self._begun), daemon=True
        )
        try:
            self._process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TaskError(
                f"{name}: the dataset or its collate cannot be sent to workers ({error}); define them "
                "at the top of a module, or use workers=0"
            ) from error
        finally:
            theirs.close()
        self._who = f"worker {number} (pid {self._process.pid})"

    def send(self, task: Any) -> None:
        self._asked.append(task)
        with suppress(OSError):  # it is dead, which `answer` will tell
            self._pipe.send(task)

    def answer(self, timeout: float | None) -> Any:
        """What it built of the oldest task it was sent."""
        ready = wait([self._pipe, self._process.sentinel], timeout)
        if not ready:
            self._process.kill()
            raise TaskError(
                f"{self._name}: {self._who} gave no answer for {timeout:g} s while building {self._at()}; "
                "it was ended (device.worker_timeout is how long is waited)"
            )
        if self._pipe not in ready:
            raise self._died()
        try:
            failure, result = self._pipe.recv()
        except (EOFError, ConnectionError, FileNotFoundError) as error:
            raise self._died() from error
        except (OSError, RuntimeError) as error:
            if "ancdata" not in str(error) and "Too many open files" not in str(error):
                raise
            raise TaskError(
                f"{self._name}: too many open files: each tensor that comes from workers is one while it "
                "is kept; keep clones, or raise the limit (ulimit -n)"
            ) from error
        self._asked.popleft()
        self._answered += 1
        if failure is not None:
            raise failure.error() from WorkerTraceback(f"in {self._who}\n{failure.trace}")
        return result

    def _died(self) -> TaskError:
        self._process.join(GRACE_SECONDS)
        cause = _cause(self._process.exitcode)
        return TaskError(f"{self._name}: {self._who} died ({cause}) while building {self._at()}")

    def _at(self) -> str:
        """The task it began last; batches before that may have been lost with it."""
        return self._build.describe(self._asked[max(0, self._begun.value - self._answered - 1)])

    def end(self, seconds: float) -> None:
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(KILLED_SECONDS)
        self._pipe.close()


def _cause(code: int | None) -> str:
    if code is None:
        return "its pipe is closed"
    if code >= 0:
        return f"exit code {code}"
    why = WHY.get(-code)  # type: ignore[call-overload]
    return f"killed by signal {-code}: {why}" if why else f"killed by signal {-code}"
