"""The run's own log: everything that was logged is in the segment, in order, whatever sinks and disks do."""

from __future__ import annotations

import errno
import math
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from crown_exp.folder import decode_segment
from crown_exp.tracking import Point, segment_file
from crown_exp.tracking.run_log import QUEUE_LIMIT, RunLog


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.threads: set[str] = set()
        self.closed = False

    def take(self, points: Sequence[Point]) -> None:
        self.points += points
        self.threads.add(threading.current_thread().name)

    def close(self) -> None:
        self.closed = True


class Broken(Kept):
    def take(self, points: Sequence[Point]) -> None:
        raise OSError("the dashboard is gone")


def read(path: Path) -> list[Any]:
    segment = decode_segment(path.read_bytes())
    assert not segment.torn
    return [record for batch in segment.batches for record in batch]


@pytest.fixture
def log(tmp_path: Path) -> Callable[..., RunLog]:
    def make(*sinks: Any, **options: Any) -> RunLog:
        return RunLog(tmp_path / "log" / "000001-000001.seg", "r1", 1, sinks, **options)

    return make


def test_every_point_in_order_with_its_value(log: Callable[..., RunLog]) -> None:
    sink = Kept()
    run_log = log(sink, drain_seconds=0.001)
    values = [1.5, -0.0, math.inf, -math.inf, 5e-324, 1e308, 0.1 + 0.2, math.nan]
    for step in range(2000):
        run_log.put(step, {"loss": values[step % len(values)], "step": float(step)})
        if step % 500 == 0:
            run_log.event("mark", at=step)
    run_log.close()
    records = read(run_log.segment.path)
    points = [record for record in records if record[0] == "m"]
    assert [record[1] for record in points] == list(range(2000))
    assert [repr(record[3]["loss"]) for record in points] == [
        repr(values[step % len(values)]) for step in range(2000)
    ]
    assert [record[3] for record in records if record[0] == "e"] == [
        {"at": 0}, {"at": 500}, {"at": 1000}, {"at": 1500},
    ]  # fmt: skip
    assert [record[2] for record in points] == sorted(record[2] for record in points)
    assert [point.step for point in sink.points] == list(range(2000))
    assert sink.closed
    header = decode_segment(run_log.segment.path.read_bytes()).header
    assert header is not None
    assert (header.run, header.attempt, header.segment) == ("r1", 1, 1)


def test_more_than_the_queue_holds_is_written_by_who_logs(log: Callable[..., RunLog]) -> None:
    run_log = log(drain_seconds=3600)
    for step in range(QUEUE_LIMIT + 5):
        run_log.put(step, {"x": 1.0})
    assert len(run_log.queue) < 3 * 10
    run_log.close()
    assert [record[1] for record in read(run_log.segment.path)] == list(range(QUEUE_LIMIT + 5))


def test_a_sink_that_fails_is_said_once_and_left_out(log: Callable[..., RunLog]) -> None:
    said: list[str] = []
    good = Kept()
    run_log = log(Broken(), good, warn=said.append, drain_seconds=3600)
    for step in range(3):
        run_log.put(step, {"x": 1.0})
        run_log.drain()
    run_log.close()
    assert said == ["Broken failed and is left out from now on: the dashboard is gone"]
    assert len(good.points) == len(read(run_log.segment.path)) == 3


def test_a_value_that_cannot_be_read_costs_its_turn_alone(log: Callable[..., RunLog]) -> None:
    class Lost:
        def __float__(self) -> float:
            raise RuntimeError("CUDA error: device-side assert triggered")

    said: list[str] = []
    run_log = log(warn=said.append, drain_seconds=3600)
    for step, value in enumerate([1.0, Lost(), 2.0]):
        run_log.put(step, {"x": value})
    run_log.close()
    assert [record[1] for record in read(run_log.segment.path)] == [0, 2]
    assert said == [
        "what was logged in turn 1 is lost: RuntimeError: CUDA error: device-side assert triggered"
    ]


def test_an_idle_run_beats(log: Callable[..., RunLog]) -> None:
    now = 0.0
    run_log = log(drain_seconds=3600, beat_seconds=15, clock=lambda: now)
    for moment in (5, 10, 15, 20, 25, 30, 44):
        now = moment
        run_log.drain()
    run_log.put(1, {"x": 1.0})
    now = 50
    run_log.drain()
    now = 64
    run_log.drain()
    now = 65
    run_log.drain()
    run_log.close()
    kinds = ["x" if record[0] == "m" else record[2] for record in read(run_log.segment.path)]
    assert kinds == ["beat", "beat", "x", "beat"]


# --- the disk ---------------------------------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A disk that takes so many bytes more; None left: ENOSPC, after a part was written."""
    state = {"left": 1 << 30}
    write = os.write

    def limited(descriptor: int, data: Any) -> int:
        if not state["left"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, bytes(data[: state["left"]]))
        state["left"] -= written
        return written

    monkeypatch.setattr(segment_file.os, "write", limited)
    return state


def test_a_full_disk_is_said_once_and_leaves_whole_frames(
    log: Callable[..., RunLog], disk: dict[str, int]
) -> None:
    said: list[str] = []
    run_log = log(warn=said.append, drain_seconds=3600)
    run_log.put(1, {"x": 1.0})
    run_log.drain()
    disk["left"] = 10
    for step in (2, 3):
        run_log.put(step, {"x": 1.0})
        run_log.drain()
    run_log.close()
    assert [record[1] for record in read(run_log.segment.path)] == [1]
    assert not run_log.segment.complete
    (line,) = said
    assert "cannot write the log" in line
    assert "no space left on device; training goes on" in line


def test_a_disk_that_has_room_again_gets_everything(
    log: Callable[..., RunLog], disk: dict[str, int]
) -> None:
    said: list[str] = []
    disk["left"] = 0
    run_log = log(warn=said.append, drain_seconds=3600)
    run_log.put(1, {"x": 1.0})
    run_log.drain()
    disk["left"] = 90
    run_log.put(2, {"x": 1.0})
    run_log.drain()
    disk["left"] = 1 << 20
    run_log.put(3, {"x": 1.0})
    run_log.close()
    assert [record[1] for record in read(run_log.segment.path)] == [1, 2, 3]
    assert run_log.segment.complete
    assert len(said) == 2
    assert "is written again; nothing of it is lost" in said[1]


def test_what_waits_in_memory_is_bounded(
    log: Callable[..., RunLog], disk: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_file, "KEEP_BYTES", 400)
    said: list[str] = []
    disk["left"] = 0
    run_log = log(warn=said.append, drain_seconds=3600)
    for step in range(100):
        run_log.put(step, {"x": 1.0})
        run_log.drain()
    assert len(run_log.segment.pending) <= 400
    disk["left"] = 1 << 20
    run_log.close()
    kept = [record[1] for record in read(run_log.segment.path)]
    assert kept == list(range(len(kept)))
    assert 1 < len(kept) < 100
    assert not run_log.segment.complete
    assert "some of what was logged is lost" in said[1]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    said: list[str] = []
    run_log = RunLog(tmp_path / "log" / "x.seg", "r1", 1, warn=said.append)
    run_log.put(1, {"x": 1.0})
    run_log.close()
    assert len(said) == 1
    assert not run_log.segment.complete
    assert (tmp_path / "log").read_text() == "a file"


LOGGING = """
import sys, pathlib
from crown_exp.tracking.run_log import RunLog
log = RunLog(pathlib.Path(sys.argv[1]), "r1", 1, drain_seconds=0.01)
step = 0
while True:
    step += 1
    log.put(step, {"x": float(step)})
    if step % 1000 == 0:
        print(step, flush=True)
"""


def test_kill_9_leaves_a_prefix_and_a_readable_tail(tmp_path: Path) -> None:
    path = tmp_path / "x.seg"
    child = subprocess.Popen(
        [sys.executable, "-c", LOGGING, str(path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert child.stdout is not None
    try:
        while child.stdout.readline():  # a line is a thousand points that were put
            if len(decode_segment(path.read_bytes()).batches) > 2:
                break
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    data = path.read_bytes()
    for length in [len(data), *(random.Random(0).randrange(100, len(data)) for _ in range(20))]:
        segment = decode_segment(data[:length])
        steps = [record[1] for batch in segment.batches for record in batch]
        assert steps == list(range(1, len(steps) + 1))
    assert len(decode_segment(data).batches) > 1
