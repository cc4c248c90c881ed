"""All checkpoints of one run, as one attempt reads and writes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from crown_exp import errors
from crown_exp.checkpoints.base import GRACE, Keep, Progress, Restored, Saved, Superseded, Unsaved
from crown_exp.checkpoints.buffer import Buffer
from crown_exp.checkpoints.commit import Packs, commit, parts, refuse_superseded, write_packs
from crown_exp.checkpoints.format import Manifest, Pack, Parent
from crown_exp.checkpoints.mirror import Mirror
from crown_exp.checkpoints.restore import restore_newest
from crown_exp.checkpoints.retention import Retention
from crown_exp.checkpoints.skeleton import put_together
from crown_exp.checkpoints.snapshot import Camera, Snapshot, over
from crown_exp.checkpoints.streaming import Meter
from crown_exp.clock import Clock, SystemClock
from crown_exp.errors import CrownError, StoreError
from crown_exp.folder.paths import RunPaths
from crown_exp.folder.records import Damaged
from crown_exp.storage import BlobStore, Portal

Outcome = Saved | Unsaved | Superseded


def nothing() -> None:
    """What has to be done before a commit, if nothing has."""


@dataclass(frozen=True)
class Held:
    """A copy of the state after `step` steps, which took `stall` seconds."""

    step: int
    snapshot: Snapshot
    stall: float


@dataclass(frozen=True)
class Moment:
    """A moment by a clock's two ways to tell: the one stops while the machine sleeps, the other may be set."""

    now: datetime
    monotonic: float

    @classmethod
    def of(cls, clock: Clock) -> Moment:
        """Now."""
        return cls(clock.now(), clock.monotonic())

    def passed(self, clock: Clock) -> timedelta:
        """The time since then: the longer of the two."""
        return max(clock.now() - self.now, timedelta(seconds=clock.monotonic() - self.monotonic))


class Checkpoints:
    """Restores, saves behind the caller, keeps what is to be kept. One thread calls it.

    keep: which stay. pin: whether the state is copied from a CUDA device. before_commit: called in a worker
    thread once the packs are durable; what it raises keeps the checkpoint from being committed. mirror: where
    the newest is kept on this machine, too. progress: told of saves and of a restore.
    """

    def __init__(
        self,
        portal: Portal,
        blobs: BlobStore,
        paths: RunPaths,
        attempt: int,
        *,
        keep: Keep | None = None,
        pin: bool = False,
        before_commit: Callable[[], None] = nothing,
        mirror: Mirror | None = None,
        progress: Progress | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.portal, self.blobs, self.paths, self.attempt = portal, blobs, paths, attempt
        self.before_commit, self.mirror, self.progress = before_commit, mirror, progress
        self.clock = clock or SystemClock()
        self.saved: int | None = None
        self.parent: Parent | None = None
        self.packs = Packs()
        self.retention = Retention(blobs, paths, attempt, keep or Keep(), self.clock)
        self.buffer = Buffer(pin)
        self.camera = Camera(self.buffer)
        self.trouble = ""  # what kept old checkpoints from being removed, once
        self._held: Held | None = None
        self._flight: Future[None] | None = None
        self._ended: list[Outcome] = []

    @property
    def busy(self) -> bool:
        """Whether a save is in flight."""
        return self._flight is not None and not self._flight.done()

    def restore(self) -> Restored | None:
        """The newest checkpoint whose every byte verifies; None if the run has none.

        Those that do not are marked as damaged and named in the answer. Raises Damaged if there are
        checkpoints and none verifies, NewerFormat, StoreError if the store cannot be read.
        """
        self.wait()
        self._held = None
        found = self.portal.call(
            restore_newest, self.blobs, self.paths, self._room,
            mirror=self.mirror, progress=self.progress,
        )  # fmt: skip
        if found is None:
            return None
        manifest = found.manifest
        tensors: list[Any] = []
        if manifest.tensors:
            whole = self.buffer.lend()
            tensors = [over(whole, item) for item in manifest.tensors]
        try:
            state = put_together(manifest.tree, tensors)
        except (ValueError, LookupError, TypeError) as error:
            raise Damaged(
                f"checkpoint {manifest.name} has no tree that can be read: {error}"
            ) from None
        self.saved, self.parent = manifest.step, found.parent
        self._name(manifest)
        return Restored(
            manifest.step, manifest.attempt, manifest.name, manifest.metrics, state, found.damaged
        )

    def save(
        self,
        step: int,
        state: Any,
        *,
        metrics: Mapping[str, float] | None = None,
        frozen: Container[int] = (),
    ) -> float:
        """Copy the state after `step` steps and commit it behind the caller; the seconds this held it up.

        As `hold` and `commit`.
        """
        stall = self.hold(step, state, frozen=frozen)
        self.commit(metrics)
        return stall

    def hold(self, step: int, state: Any, *, frozen: Container[int] = ()) -> float:
        """Copy the state after `step` steps; the seconds this took. The next copy takes its place.

        Waits for the save in flight before. state: a tree of dicts with strings or whole numbers as keys,
        lists, tuples, tensors, bools, numbers, strings and None. frozen: id() or data_ptr() of tensors that
        are not trained, and so need not be written again and again. Raises TaskError naming the path of what
        cannot be stored.
        """
        start = time.perf_counter()
        self.wait()
        self._held = None
        try:
            snapshot = self.camera.take(state, frozen)
        except (MemoryError, OSError) as error:
            self.camera.forget()
            self._ended.append(Unsaved(step, f"no memory for a copy of the state ({line(error)})"))
            return time.perf_counter() - start
        stall = time.perf_counter() - start
        self._held = Held(step, snapshot, stall)
        return stall

    def commit(self, metrics: Mapping[str, float] | None = None) -> None:
        """Commit what is held, behind the caller. metrics: what tells which checkpoint is the best."""
        held, self._held = self._held, None
        if held is not None:
            self._flight = self.portal.start(self._save, held, dict(metrics or {}))

    def outcome(self) -> Outcome | None:
        """How the last save that ended did end, once; None if it was told, or none has ended."""
        told = self.outcomes()
        return told[-1] if told else None

    @property
    def has_ended(self) -> bool:
        """Whether `outcomes` has something to tell."""
        return bool(self._ended)

    def outcomes(self) -> list[Outcome]:
        """How all saves ended that ended since this, or `outcome`, was asked; in their order."""
        told = []
        while self._ended:
            told.append(self._ended.pop(0))
        return told

    def wait(self) -> None:
        """Until nothing is in flight. How it ended is for `outcome` to tell."""
        if self._flight is not None:
            wait([self._flight])

    def _room(self, size: int) -> memoryview:
        self.camera.forget()
        self.buffer.ready(size, to_save=False)
        return self.buffer.bytes(size)

    async def _save(self, held: Held, metrics: dict[str, float]) -> None:
        """Commit a snapshot, and remember how that ended."""
        step, snapshot, start = held.step, held.snapshot, time.perf_counter()
        try:
            packs, written = await self._commit(step, snapshot, metrics)
        except errors.Superseded:
            self._ended.append(Superseded(step))
            return
        except BaseException as error:
            self._ended.append(Unsaved(step, line(error)))
            if not isinstance(error, Exception):  # the loop is being ended
                raise
            return
        seconds = held.stall + time.perf_counter() - start
        self._ended.append(Saved(step, snapshot.layout.bytes, written, seconds, held.stall))
        if self.mirror is not None:
            stream, sizes = self._stream(snapshot), snapshot.layout.packs
            await self.mirror.keep(packs, parts(stream, sizes))
        try:
            await self.retention.retain((self.attempt, step), self.packs)
        except StoreError:
            pass  # what could not be removed now goes after the next save
        except Exception as error:
            self.trouble = line(error)

    async def _commit(
        self, step: int, snapshot: Snapshot, metrics: dict[str, float]
    ) -> tuple[tuple[Pack, ...], int]:
        """The packs, and the bytes of those that had to be written."""
        await refuse_superseded(self.blobs, self.paths.run_id, self.attempt)
        began, layout = Moment.of(self.clock), snapshot.layout
        meter = Meter("saving", layout.bytes, self.progress)
        packs, written = await write_packs(
            self.blobs, self.paths, self._stream(snapshot), layout.packs, self.packs, meter
        )
        manifest = Manifest(
            run=self.paths.run_id,
            attempt=self.attempt,
            step=step,
            created=self.clock.now(),
            parent=self.parent,
            metrics=metrics,
            packs=packs,
            tensors=layout.tensors,
            tree=snapshot.tree,
        )

        async def last_look() -> None:
            nonlocal written
            written += await self._look_again(snapshot, began)

        self.parent = await commit(self.blobs, self.paths, manifest, self.before_commit, last_look)
        self.saved = step
        self._name(manifest)
        return packs, written

    async def _look_again(self, snapshot: Snapshot, began: Moment) -> int:
        """See that the packs are still there, if the save takes long; the bytes of those that were not.

        By a slow line, or as the machine slept, they may have been taken for what a killed save left.
        """
        if began.passed(self.clock) < GRACE / 2:
            return 0
        layout = snapshot.layout
        packs = Packs(self.packs.known, named=frozenset(self.packs.known))
        stream = self._stream(snapshot)
        return (await write_packs(self.blobs, self.paths, stream, layout.packs, packs))[1]

    def _stream(self, snapshot: Snapshot) -> memoryview:
        size = snapshot.layout.bytes
        return self.buffer.bytes(size) if size else memoryview(b"")

    def _name(self, manifest: Manifest) -> None:
        """It is the newest now; its packs are there, and right."""
        self.packs.named = frozenset(pack.sha256 for pack in manifest.packs)
        self.packs.known |= self.packs.named


def line(error: BaseException) -> str:
    """What was wrong, in one line."""
    if isinstance(error, CrownError):
        return str(error)
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
