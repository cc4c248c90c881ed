"""Saves that are cut short at every call, disks that fill, writers that are killed, two writers of one run."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
import torch

from crown_exp.checkpoints import Keep, Saved, Superseded, Unsaved
from crown_exp.checkpoints.base import GRACE
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.checkpoints.mirror import Mirror
from crown_exp.errors import StoreError
from crown_exp.storage import BlobStore, Portal
from crown_exp.storage.file import FileStore
from tests.checkpoint_states import (
    PATHS,
    FailingStore,
    Moved,
    attempt,
    begin,
    contents,
    listed,
    memory_store,
    same,
    saved,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture(autouse=True)
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a state of kilobytes has several."""
    monkeypatch.setattr("crown_exp.checkpoints.layout.PACK", 4096)


def state(step: int) -> Any:
    seeded = torch.Generator().manual_seed(step)
    return {"w": torch.randn(2500, generator=seeded), "step": step, "frozen": torch.arange(2000)}


def save_four(checkpoints: Checkpoints) -> list[int]:
    """Steps 1 to 4; those that were told to be saved."""
    outcomes = [
        saved(checkpoints, step, now := state(step), frozen={id(now["frozen"])})
        for step in (1, 2, 3, 4)
    ]
    assert all(isinstance(outcome, Saved | Unsaved) for outcome in outcomes)
    return [outcome.step for outcome in outcomes if isinstance(outcome, Saved)]


def restored_step(portal: Portal, blobs: BlobStore, number: int) -> int:
    """The step that an attempt restores: to the bit, and with nothing damaged. 0: from the start."""
    restored = attempt(portal, blobs, number).restore()
    if restored is None:
        return 0
    assert restored.damaged == ()
    assert same(state(restored.step), restored.state)
    return restored.step


@pytest.mark.parametrize("last", [1, 2])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_death_at_any_call_loses_nothing_that_was_saved(
    portal: Portal, last: int, late: bool
) -> None:
    """Between packs and manifest, in retention, anywhere; and the next attempt sweeps what was left."""
    counting = FailingStore(memory_store(), at=10**9)
    assert save_four(attempt(portal, counting, keep=Keep(last=last))) == [1, 2, 3, 4]  # type: ignore[arg-type]
    assert counting.calls > 20
    for at in range(1, counting.calls + 1):
        clock = Moved()
        blobs = memory_store(clock)
        dying = FailingStore(blobs, at, late)
        told = save_four(attempt(portal, dying, keep=Keep(last=last)))  # type: ignore[arg-type]
        step = restored_step(portal, blobs, 2)
        assert step in (max(told, default=0), max(told, default=0) + 1), at
        clock.by += 1.1 * GRACE
        checkpoints = attempt(portal, blobs, 2, keep=Keep(last=last))
        checkpoints.restore()
        assert isinstance(saved(checkpoints, 9, state(9)), Saved)
        assert_no_litter(portal, blobs)
        assert restored_step(portal, blobs, 3) == 9


def assert_no_litter(portal: Portal, blobs: BlobStore) -> None:
    found = contents(portal, blobs)
    manifests = b"".join(data for path, data in found.items() if path.endswith(".json"))
    for path in found:
        assert path.endswith(".json") or path.rpartition("/")[2].encode() in manifests, path


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_call_that_fails_once_costs_one_save_at_most(portal: Portal, late: bool) -> None:
    for at in range(1, 30):
        blobs = memory_store()
        hiccup = FailingStore(blobs, at, late, once=True)
        hiccup.error = StoreError("cannot write: no space left on device")
        told = save_four(attempt(portal, hiccup))  # type: ignore[arg-type]
        assert len(told) >= 3
        assert restored_step(portal, blobs, 2) >= max(told)


def test_any_error_of_a_store_is_an_outcome(portal: Portal) -> None:
    dying = FailingStore(memory_store(), at=1)
    dying.error = OSError(errno.EIO, "Input/output error\nand more")
    checkpoints = attempt(portal, dying)  # type: ignore[arg-type]
    outcome = saved(checkpoints, 1, state(1))
    assert outcome == Unsaved(1, "OSError: [Errno 5] Input/output error")
    assert checkpoints.saved is None


def test_a_full_disk_leaves_the_checkpoint_before(portal: Portal, small_disk: Path) -> None:
    """A file system of a mebibyte: the third save does not fit, later ones do again."""
    blobs = FileStore(small_disk)
    checkpoints = attempt(portal, blobs, keep=Keep(last=9))

    def big(step: int) -> Any:
        torch.manual_seed(step)
        return {"w": torch.randn(80_000)}

    outcomes = [saved(checkpoints, step, big(step)) for step in (1, 2, 3, 4, 5)]
    full = [outcome for outcome in outcomes if isinstance(outcome, Unsaved)]
    assert [type(outcome) for outcome in outcomes[:2]] == [Saved, Saved] and len(full) >= 2
    assert "no space left on device; free some space there" in full[0].why
    kept = checkpoints.saved
    restored = attempt(portal, blobs, 2).restore()
    assert kept is not None and restored is not None and restored.step == kept
    assert same(big(kept), restored.state)
    again = attempt(portal, blobs, 2, keep=Keep(last=9))
    again.restore()
    portal.call(blobs.delete, PATHS.checkpoint(1, 1))
    portal.call(blobs.delete, PATHS.checkpoint(1, 2))
    for entry in portal.call(blobs.list, PATHS.packs):
        long_ago = time.time() - 1.1 * GRACE.total_seconds()
        os.utime(blobs.local_path(entry.path), (long_ago, long_ago))
    assert isinstance(
        saved(again, 6, {"w": torch.ones(100)}), Saved
    )  # and sweeps what is not named
    assert isinstance(saved(again, 7, {"w": torch.randn(50_000)}), Saved)


def test_a_full_disk_for_the_mirror_is_left_empty(
    portal: Portal, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs a line, and no checkpoint."""
    monkeypatch.setattr("crown_exp.checkpoints.mirror.SPARE", -(2**30))
    said: list[str] = []
    mirror = Mirror(small_disk, PATHS.run_id, said.append)
    checkpoints = attempt(portal, memory_store(), mirror=mirror)
    for step in (1, 2):
        assert isinstance(saved(checkpoints, step, {"w": torch.rand(600_000)}), Saved)
    assert len(said) == 1 and "no space left on device" in said[0]
    assert not list(small_disk.iterdir())


# --- two writers ------------------------------------------------------------------------------------------


def test_a_superseded_attempt_writes_nothing(portal: Portal) -> None:
    blobs = memory_store()
    checkpoints = attempt(portal, blobs)
    saved(checkpoints, 1, state(1))
    begin(portal, blobs, 2)
    before = contents(portal, blobs)
    assert saved(checkpoints, 2, state(2)) == Superseded(2)
    assert contents(portal, blobs) == before
    assert checkpoints.saved == 1


def test_one_superseded_between_packs_and_manifest_commits_nothing(portal: Portal) -> None:
    blobs = memory_store()
    checkpoints = attempt(portal, blobs, before_commit=lambda: begin(portal, blobs, 2))
    assert saved(checkpoints, 1, state(1)) == Superseded(1)
    assert not [name for name in listed(portal, blobs) if name.startswith("checkpoints/")]


def test_a_zombie_that_slips_through_shadows_nothing(portal: Portal) -> None:
    """Its last look at the fence was before the new attempt; its manifest lands later, with more steps."""
    blobs = memory_store()
    zombie = attempt(portal, blobs, keep=Keep(last=1))
    saved(zombie, 10, state(10))
    new = attempt(portal, blobs, 2)
    new.restore()
    saved(zombie, 20, state(20))  # the fence of attempt 2 is not seen yet
    begin(portal, blobs, 2)
    assert isinstance(saved(new, 12, state(12)), Saved)
    assert restored_step(portal, blobs, 3) == 12
    assert saved(zombie, 30, state(30)) == Superseded(30)


def test_a_superseded_attempt_removes_nothing(portal: Portal) -> None:
    """It was superseded right after its commit: what the new one restores from must stay."""
    blobs = memory_store()

    class Late(FailingStore):
        async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
            await self.blobs.put(path, data, create=create)
            if path == PATHS.checkpoint(1, 2):
                await self.blobs.put(PATHS.attempt(2), b"{}")

    checkpoints = attempt(portal, Late(blobs, at=10**9), keep=Keep(last=1))  # type: ignore[arg-type]
    for step in (1, 2):
        assert isinstance(saved(checkpoints, step, state(step)), Saved)
    assert {name for name in listed(portal, blobs) if name.endswith(".json")} == {
        "attempts/000002.json", "checkpoints/000001-000000000001.json", "checkpoints/000001-000000000002.json",
    }  # fmt: skip


def test_two_writers_raced(portal: Portal) -> None:
    """Whatever the order, the later attempt goes on, and what it saved last is restored."""
    for round_ in range(25):
        blobs = memory_store()
        saved(attempt(portal, blobs), 1, state(1))
        old = attempt(portal, blobs, 1, keep=Keep(last=1))
        old.restore()
        started = threading.Event()
        outcomes: list[Any] = []

        def go_on(
            old: Checkpoints = old, started: threading.Event = started, told: list[Any] = outcomes
        ) -> None:
            for step in range(2, 10_000):  # until it is told, however late the other begins
                told.append(saved(old, step, state(step)))
                started.set()
                if isinstance(told[-1], Superseded):
                    break

        thread = threading.Thread(target=go_on)
        thread.start()
        if round_ % 2:
            started.wait()
        begin(portal, blobs, 2)
        new = attempt(portal, blobs, 2, keep=Keep(last=2))
        restored = new.restore()
        assert restored is not None and same(state(restored.step), restored.state)
        mine = [
            saved(new, step, state(step)) for step in range(restored.step + 1, restored.step + 3)
        ]
        thread.join()
        assert all(isinstance(outcome, Saved) for outcome in mine)
        assert isinstance(outcomes[-1], Superseded)
        assert restored_step(portal, blobs, 3) == restored.step + 2


def test_what_vanishes_while_it_is_read_is_not_damaged(portal: Portal) -> None:
    """A zombie past its last look at the fence removes the checkpoint that is restored, for a newer one."""
    blobs = memory_store()
    zombie = attempt(portal, blobs, keep=Keep(last=1))
    saved(zombie, 10, state(10))

    class Racing(FailingStore):
        async def get_into(
            self, path: str, buffer: memoryview, *, start: int | None = None
        ) -> None:
            if not self.calls:
                self.calls = 1
                await anyio.to_thread.run_sync(saved, zombie, 20, state(20))
            await self.blobs.get_into(path, buffer, start=start)

    restored = attempt(portal, Racing(blobs, at=10**9), 2).restore()  # type: ignore[arg-type]
    assert restored is not None and (restored.step, restored.damaged) == (20, ())
    assert same(state(20), restored.state)


# --- killed -----------------------------------------------------------------------------------------------

ZYGOTE = """
import os, random, signal, sys, time
import crown_exp.checkpoints.layout as layout
layout.PACK = 4096
from crown_exp.checkpoints import Keep
from crown_exp.storage import Portal
from crown_exp.storage.file import FileStore
from tests.checkpoint_states import attempt, begin, same
from tests.faults.test_checkpoint_faults import state

def write(number, folder, told, ready):
    blobs = FileStore(folder)
    with Portal() as portal:
        begin(portal, blobs, number)
        checkpoints = attempt(portal, blobs, number, keep=Keep(last=2, every=50))
        restored = checkpoints.restore()
        if restored is not None:
            assert restored.damaged == () and same(state(restored.step), restored.state)
        step = restored.step if restored else 0
        os.write(told, f"{number} restored {step}\\n".encode())
        left = 6 if number % 4 == 1 else 0  # saves before it may be killed, however busy the machine is
        while True:
            if left == 0:
                os.close(ready)
            left -= 1
            step += 1
            checkpoints.save(step, state(step))
            if checkpoints.saved is not None:
                os.write(told, f"{number} saved {checkpoints.saved}\\n".encode())

folder, kills = sys.argv[1], int(sys.argv[2])
chance = random.Random(4)
for number in range(1, kills + 1):
    reads, ready = os.pipe()
    child = os.fork()
    if not child:
        try:
            write(number, folder, 1, ready)
        finally:
            os._exit(1)
    os.close(ready)
    if number % 2:
        os.read(reads, 1)  # until it has restored, or saved as well
    os.close(reads)
    time.sleep(chance.uniform(0, 0.25))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


@pytest.mark.parametrize("kills", [25, pytest.param(400, marks=pytest.mark.full)])
def test_killed_again_and_again(portal: Portal, tmp_path: Path, kills: int) -> None:
    """SIGKILL while it saves and removes without pause: nothing that was told as saved is lost or damaged."""
    run = [sys.executable, "-c", ZYGOTE, str(tmp_path), str(kills)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    safe, restored = 0, 0
    for _, what, step in map(str.split, done.stdout.splitlines()):
        assert int(step) >= safe, f"restored {step}, though {safe} was saved"
        restored += what == "restored" and int(step) > 0
        safe = int(step)
    assert restored > kills / 4 and safe > kills
    assert restored_step(portal, FileStore(tmp_path), kills + 1) >= safe
