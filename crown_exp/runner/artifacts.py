"""Files that a task stores in its run's folder."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from crown_exp.errors import StoreError, TaskError
from crown_exp.folder import RunPaths
from crown_exp.folder.files import file_path, kind_of
from crown_exp.runner.contents import contents
from crown_exp.storage import BlobStore, Portal, open_blobs
from crown_exp.tracking import Artifact
from crown_exp.tracking.run_log import to_stderr

LONGEST_PART, LONGEST_NAME = 255, 800
"""Bytes of a part of a name, which file systems limit, and of a whole one, as stores of objects do."""
TOLD = 10
"""Files that are named at the end, of those that could not be stored."""


class Event(Protocol):
    """What notes an event in the run's log."""

    def __call__(self, kind: str, **data: Any) -> None:
        """Note something that happened."""


class Artifacts:
    """Stores what `run.artifact` is given: whole or not at all, and again what the store did not take.

    A store with files of this machine has the file when `keep` returns. For any other it lies in the spool
    by then, and a thread of its own sends it: the loop does not wait for a network.

    spool: a folder of this machine, laid out as the store. event: the log's. tell: hands a file to the
    tracker, if there is one.
    """

    def __init__(
        self,
        portal: Portal,
        blobs: BlobStore,
        paths: RunPaths,
        spool: Path,
        *,
        event: Event,
        tell: Callable[[Artifact], None] | None = None,
        warn: Callable[[str], None] = to_stderr,
    ) -> None:
        self.portal, self.blobs, self.paths = portal, blobs, paths
        self.event, self.tell, self.warn = event, tell, warn
        self.spool = open_blobs(str(spool))
        self.sender: ThreadPoolExecutor | None = None
        self.unsent: dict[str, str] = {}  # what lies in the spool alone, and why
        self.spooled: set[str] = set()
        self.lost: dict[str, str] = {}  # what lies nowhere, and why
        self.failing = False
        self.step, self.names, self.said = -1, set[str](), set[str]()
        self.stored: dict[str, str] | None = None  # the newest path by name, once asked for
        self.up_to = 0  # the turn from which the attempt goes on: what came later is done again

    # --- the task's side ------------------------------------------------------------------------------

    def keep(self, name: str, value: Any, step: int) -> None:
        """Store a value as a file of turn `step`, in place of one of the same name.

        Raises TaskError if name or value are none for a file.
        """
        path = self.path_of(name, step)
        data = contents(name, value, lambda line: self.say_of(name, line))
        local = self.put(path, data)
        if local is None:
            return
        if self.stored is not None:
            self.stored[name] = path
        self.event("artifact", file=path.removeprefix(self.paths.files), bytes=len(data))
        if self.tell:
            self.tell(Artifact(name, step, local, kind_of(name)))

    def kept(self, name: str) -> Path | None:
        """Where the newest file of a name lies on this machine; None if there is none.

        Of earlier attempts, what was stored after the state that this one goes on from is done again, and is
        not there. Raises StoreError if the store cannot be read.
        """
        if self.stored is None:
            entries = self.portal.call(self.blobs.list, self.paths.files)
            before = [it.path for it in entries if self.step_of(it.path) <= self.up_to]
            newest_last = sorted(before, key=self.step_of)
            self.stored = {self.name_of(path): path for path in newest_last}
        path = self.stored.get(name)
        if path is None:
            return None
        there = self.blobs.local_path(path)
        if there is not None and there.exists():
            return there
        if path not in self.spooled:
            self.portal.call(self.spool.put, path, self.portal.call(self.blobs.get, path))
            self.spooled.add(path)
        return self.spool.local_path(path)

    def step_of(self, path: str) -> int:
        """The turn that a path's file was stored in."""
        return int(path.removeprefix(self.paths.files).partition("/")[0])

    def name_of(self, path: str) -> str:
        """The name that a path's file was stored under."""
        return path.removeprefix(self.paths.files).partition("/")[2]

    def path_of(self, name: Any, step: int) -> str:
        """The path of a file. Raises TaskError for a name that is none, or clashes with one of its turn."""
        if not isinstance(name, str):
            raise TaskError(f"run.artifact: a name is text, not a {type(name).__name__}")
        path = file_path(self.paths, step, name)
        try:
            self.blobs.local_path(path)
            self.spool.local_path(path)
        except StoreError:
            raise no_name(name) from None
        if max(map(size, name.split("/"))) > LONGEST_PART or size(name) > LONGEST_NAME:
            raise no_name(name)
        if step != self.step:
            self.step, self.names = step, set()
        for other in self.names:
            file, below = sorted((name, other), key=len)
            if below.startswith(f"{file}/"):
                raise TaskError(f"run.artifact: {file} is a file, so {below} cannot lie below it")
        self.names.add(name)
        return path

    def say_of(self, name: str, line: str) -> None:
        """Tell what had to be changed of a file, once for each name."""
        if name not in self.said:
            self.warn(line)
        self.said.add(name)

    def put(self, path: str, data: bytes) -> Path | None:
        """Where the data lies now: in the store or in the spool; None if neither takes it."""
        there = self.blobs.local_path(path)
        self.lost.pop(path, None)
        if there is not None:
            try:
                self.portal.call(self.blobs.put, path, data)
            except StoreError as error:
                self.say_once(str(error))
            else:
                self.unsent.pop(path, None)
                self.send()
                return there
        try:
            self.portal.call(self.spool.put, path, data)
        except StoreError as error:
            self.lost[path] = str(error)
            self.say_once(str(error))
            return None
        self.spooled.add(path)
        self.unsent[path] = f"{path} is not in {self.blobs.url}"
        if there is None:
            self.send_soon()
        return self.spool.local_path(path)

    # --- from the spool to the store ------------------------------------------------------------------

    def send_soon(self) -> None:
        """Send what waits, in the sender's thread."""
        if self.sender is None:
            self.sender = ThreadPoolExecutor(1, "crown-files")
        self.sender.submit(self.send)

    def send(self) -> None:
        """Send what waits, as far as the store takes it."""
        for path in list(self.unsent):
            # Taken out before it is read: replaced meanwhile, it waits again.
            if self.unsent.pop(path, None) is None:
                continue
            try:
                self.portal.call(self.blobs.put, path, self.portal.call(self.spool.get, path))
                self.failing = False
            except StoreError as error:
                self.unsent.setdefault(path, str(error))
                self.say_once(str(error))
                return

    def flush(self) -> None:
        """Until all that was stored is in the store. Raises StoreError if it does not take it."""
        if self.sender is not None:
            self.sender.submit(self.send).result()
        else:
            self.send()
        for why in self.unsent.values():
            raise StoreError(f"a file of the task is not stored: {why}")

    def say_once(self, why: str) -> None:
        """Tell that the store is away, unless that is known."""
        if not self.failing:
            self.warn(f"{why}; training goes on, and it is tried again")
        self.failing = True

    def finish(self) -> tuple[str, ...]:
        """Send what is left; a line for each file that the store did not take. Called once, at the end."""
        if self.sender is not None:
            self.sender.shutdown(cancel_futures=True)
        self.send()
        spool, unsent = self.spool, sorted(self.unsent.items())
        kept = [f"{why}; it is in {spool.local_path(path)}" for path, why in unsent]
        told = [*kept, *self.lost.values()]
        more = len(told) - TOLD
        return (*told[:TOLD], *([f"{more:,} more files"] if more > 0 else []))

    def clear(self) -> None:
        """Clear the spool of what was sent: when the tracker, too, needs the files no more."""
        for path in self.spooled - self.unsent.keys():
            with suppress(StoreError):
                self.portal.call(self.spool.delete, path)


def size(name: str) -> int:
    """Bytes of a name."""
    return len(name.encode())


def no_name(name: str) -> TaskError:
    """The error of a name that no file can have."""
    return TaskError(
        f"run.artifact: {name[:80]!r} cannot be a file's name; expected one like samples.png or grids/a.png"
    )
