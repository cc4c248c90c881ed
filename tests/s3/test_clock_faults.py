"""A machine whose clock is a day off, either way, beside a store whose clock is right."""

from __future__ import annotations

import io
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crown_exp.checkpoints import Keep, Saved
from crown_exp.clock import SystemClock
from crown_exp.errors import Superseded
from crown_exp.folder import Here
from crown_exp.runner import Run, run_attempt
from crown_exp.storage import Portal, open_blobs
from crown_exp.storage.runs import claim_attempt
from tests.checkpoint_states import PATHS, attempt
from tests.running import Lab
from tests.s3.buckets import Bucket
from tests.s3.operations import LITTER, attempt_record, save, saves, what_is_wrong
from tests.s3.servers import Proxy
from tests.s3.sweeps import World, world

DAY = timedelta(days=1)
OFF = pytest.mark.parametrize("off", [-DAY, DAY], ids=["behind", "ahead"])


class Off(SystemClock):
    """As a machine's whose clock is wrong."""

    def __init__(self, by: timedelta) -> None:
        self.by = by

    def now(self) -> datetime:
        return super().now() + self.by


@pytest.fixture
def fresh(proxy: Proxy, bucket: Bucket) -> Any:
    with Portal() as portal, world(portal, proxy, bucket) as made:
        yield made


@OFF
def test_packs_of_a_save_that_goes_on_elsewhere_stay(fresh: World, off: timedelta) -> None:
    """The age of what nothing names is told by the store's clock alone."""
    saves(fresh, fresh.direct, 1)
    fresh.portal.call(fresh.direct.put, LITTER, b"of another writer, just now")
    off_one = attempt(fresh.portal, fresh.direct, 2, keep=Keep(last=1), clock=Off(off))
    off_one.restore()
    assert [type(save(off_one, step)) for step in (2, 3)] == [Saved, Saved]
    assert fresh.portal.call(fresh.direct.get, LITTER)
    assert what_is_wrong(fresh, 3) == ""


@OFF
def test_which_is_newer_is_told_by_no_clock(fresh: World, off: timedelta) -> None:
    """Of two attempts, and of two checkpoints, the later has the greater number."""
    off_one = attempt(fresh.portal, fresh.direct, 1, clock=Off(off))
    assert isinstance(save(off_one, 1), Saved)
    saves(fresh, fresh.direct, 2, number=2)
    off_again = attempt(fresh.portal, fresh.direct, 3, clock=Off(-off))
    restored = off_again.restore()
    assert restored is not None and restored.step == 2
    assert isinstance(save(off_again, 3), Saved)
    assert what_is_wrong(fresh, 3) == ""


@OFF
def test_a_living_attempt_is_not_taken_for_dead(fresh: World, off: timedelta) -> None:
    """Its record says a time that is a day off; the store knows when it was written."""

    def build(number: int) -> Any:
        return replace(attempt_record(number), started=datetime.now(UTC) + off)

    here = Here("here", "this boot", lambda pid, started: True)
    fresh.portal.call(claim_attempt, fresh.direct, PATHS.run_id, build, here)
    with pytest.raises(Superseded, match="is held by attempt 1 on elsewhere") as refused:
        fresh.portal.call(claim_attempt, fresh.direct, PATHS.run_id, build, here)
    assert "last heard of" in str(refused.value)
    age = float(str(refused.value).partition("last heard of ")[2].partition(" s ago")[0])
    assert 0 <= age < 120


@OFF
def test_a_run_with_a_clock_that_is_off(
    fresh: World, bucket: Bucket, tmp_path: Path, off: timedelta
) -> None:
    """It saves, is continued by a machine whose clock is right, and completes."""
    lab = Lab(fresh.portal, open_blobs(f"{bucket.url}/runs-off", bucket.access), tmp_path)

    def task(run: Run) -> int:
        for turn in run.steps(4):
            run.log(turn=turn)
            if turn == 2 and run.attempt == 1:
                os.kill(os.getpid(), signal.SIGTERM)
        return run.attempt

    run = lab.make(task, {"checkpoint": {"every": "1 steps"}})
    first = run_attempt(
        lab.portal,
        lab.blobs,
        run,
        home=tmp_path,
        root=tmp_path,
        stream=io.StringIO(),
        clock=Off(off),
    )
    assert first.exit_code == 75
    second = lab.attempt(run)
    assert (second.code, second.ending.result) == (0, 2), second.said
    assert "goes on after step" in second.said
