"""What a worker does: takes tasks from its pipe, and sends back results, or errors with their traceback."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Protocol

import torch
import torch.multiprocessing  # teaches ForkingPickler to share tensors

from crown_exp.errors import TaskError

LINGER_SECONDS = 60
"""What is left to a worker after SIGTERM."""

LOOK_SECONDS = 5.0
"""How often it looks whether its run is still there."""


class Build(Protocol):
    """What workers do. It travels to them."""

    def __call__(self, task: Any, /) -> Any:
        """The result of a task."""

    def describe(self, task: Any, /) -> str:
        """What a task is, in the words of an error."""


class Failure:
    """An error on its way: itself if it can be pickled, else its words."""

    def __init__(self, error: BaseException) -> None:
        told = traceback.TracebackException.from_exception(error)
        told.__notes__ = None  # they travel with the error
        self.trace = "".join(told.format())
        self.kind, self.words = type(error).__qualname__, str(error)
        self.notes: list[str] = getattr(error, "__notes__", [])
        self.pickled: bytes | None = None
        with suppress(Exception):
            pickled = pickle.dumps(error)
            if type(pickle.loads(pickled)) is type(error):
                self.pickled = pickled

    def error(self) -> BaseException:
        """The error itself, or a RuntimeError with its words and notes."""
        if self.pickled is not None:
            found: BaseException = pickle.loads(self.pickled)
            return found
        error = RuntimeError(f"{self.kind}: {self.words}")
        for note in self.notes:
            error.add_note(note)
        return error


def work(pipe: Connection, build: Build, name: str, begun: Any) -> None:
    """Builds until it is sent None. `begun.value` counts the tasks that were begun, in shared memory."""
    _outlive_stop_signals()
    torch.set_num_threads(1)
    inbox: SimpleQueue[Any] = SimpleQueue()
    outbox: SimpleQueue[Any] = SimpleQueue()
    over = Event()
    Thread(target=_listen, args=(pipe, inbox, over), daemon=True).start()
    Thread(target=_speak, args=(pipe, outbox), daemon=True).start()
    while (task := inbox.get()) is not None and not over.is_set():
        begun.value += 1
        outbox.put(_answer(build, task, name))


def _answer(build: Build, task: Any, name: str) -> Any:
    try:
        result = build(task)
    except BaseException as error:
        return ForkingPickler.dumps((Failure(error), None))
    try:
        return ForkingPickler.dumps((None, result))
    except Exception as error:
        refusal = TaskError(f"{name}: {build.describe(task)} cannot be sent from a worker: {error}")
        return ForkingPickler.dumps((Failure(refusal), None))


def _listen(pipe: Connection, inbox: SimpleQueue[Any], over: Event) -> None:
    """Takes tasks, so that a run which sends never waits; ends what hangs when the run is gone."""
    run, born_to = parent_process(), os.getppid()
    while True:
        try:
            while not pipe.poll(LOOK_SECONDS):
                # Workers started later may hold the first open, and a fork server is the second.
                if os.getppid() != born_to or not (run and run.is_alive()):
                    os._exit(1)
            task = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        if task is None:
            over.set()
        inbox.put(task)


def _speak(pipe: Connection, outbox: SimpleQueue[Any]) -> None:
    """Sends results, so that a worker builds on while a large one is not yet taken."""
    with suppress(OSError):  # nobody listens any more
        while True:
            pipe.send_bytes(outbox.get())


def _outlive_stop_signals() -> None:
    """Terminals, Slurm and others signal every process of a job; the run still ends its turn.

    Ctrl-C and what Slurm sends are the run's alone. The first SIGTERM leaves the run a minute, a second one
    ends the worker at once; a worker whose run is gone ends by itself.
    """
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)


def _end_soon(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LINGER_SECONDS)
