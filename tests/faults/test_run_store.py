"""Stores that are away, and stores whose blobs are no files of this machine."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import torch
from anyio import to_thread

from crown_exp import Run
from crown_exp.errors import StoreError
from crown_exp.folder import RunPaths, decode_segment
from crown_exp.outcome import ExitCode
from crown_exp.runner import run_attempt
from crown_exp.storage import NotFound, Portal
from crown_exp.storage.memory import MemoryStore
from tests.running import Ended, Lab


class Moody(MemoryStore):
    """A store that can be away."""

    away = False
    refused = 0
    put_hangs: Callable[[], object] | None = None
    reads: Callable[[str], None] = staticmethod(lambda path: None)

    async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
        if self.put_hangs is not None:
            await to_thread.run_sync(self.put_hangs)
        if self.away:
            self.refused += 1
            raise StoreError(f"cannot write {path} in memory://: no route to host")
        await super().put(path, data, create=create)

    async def get_into(self, path: str, buffer: memoryview, *, start: int | None = None) -> None:
        self.reads(path)
        await super().get_into(path, buffer, start=start)

    async def stat(self, path: str) -> object:  # type: ignore[override]
        if self.away:
            raise StoreError(f"cannot read {path} in memory://: no route to host")
        return await super().stat(path)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Portal() as portal:
        yield Lab(portal, Moody(uuid4().hex), tmp_path / "home")


def spooled(lab: Lab) -> list[Path]:
    return [path for path in lab.home.rglob("*") if path.is_file()]


def test_a_store_without_files_has_the_log_at_every_beat_and_at_the_end(lab: Lab) -> None:
    def points(run: Run) -> int:
        try:
            data = lab.portal.call(lab.blobs.get, RunPaths(run.id).segment(1, 1))
        except NotFound:
            return 0
        records = [record for batch in decode_segment(data).batches for record in batch]
        return sum(record[0] == "m" for record in records)

    def task(run: Run) -> str:
        for turn in run.steps(6):
            run.log(turn=turn)
            until = time.monotonic() + 120
            while points(run) < turn - 1:  # that of this turn is logged at its end
                assert time.monotonic() < until, "no beat sends what was logged"
                run._log.drain()
                time.sleep(0.01)
        assert run.folder.is_relative_to(lab.home)
        return str(run.folder)

    ended = lab.attempt(lab.make(task), beat_seconds=0.0)
    assert (ended.code, ended.state) == (0, "completed"), ended.said
    assert [step for step, _ in ended.points] == [1, 2, 3, 4, 5, 6]
    assert spooled(lab) == []
    assert f"folder  {lab.blobs.url}/runs/{ended.id}" in ended.said


def test_a_store_that_is_away_for_a_while_stops_nothing(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(run: Run) -> int:
        for turn in run.steps(9):
            lab.blobs.away = 3 <= turn < 6  # type: ignore[attr-defined]
            run.log(turn=turn)
            run._log.drain()
            until = time.monotonic() + 120
            while turn == 5 and not lab.blobs.refused:  # type: ignore[attr-defined]
                assert time.monotonic() < until, "no beat meets that the store is away"
                time.sleep(0.001)  # no beat has met it yet: each is in a thread of its own
                run._log.drain()
        return 1

    ended = lab.attempt(lab.make(task), beat_seconds=0.0)
    assert (ended.code, ended.state) == (0, "completed")
    assert len(ended.points) == 9
    assert capsys.readouterr().err.count("training goes on, and it is tried again") == 1


def test_a_store_that_is_away_at_the_end(lab: Lab) -> None:
    def task(run: Run) -> dict[str, int]:
        for turn in run.steps(3):
            run.log(turn=turn)
        lab.blobs.away = True  # type: ignore[attr-defined]
        return {"answer": 42}

    stream = io.StringIO()
    ending = run_attempt(
        lab.portal, lab.blobs, lab.make(task), home=lab.home, root=lab.home, stream=stream
    )
    said = stream.getvalue()
    assert (ending.exit_code, ending.result) == (80, {"answer": 42})
    assert "not recorded after 3 steps" in said
    assert "  answer           42" in said
    assert said.count("not written: cannot ") == 2  # the log, then the end
    (kept,) = spooled(lab)  # what was logged is on this machine still
    batches = decode_segment(kept.read_bytes()).batches
    assert sum(record[0] == "m" for batch in batches for record in batch) == 3


def test_a_store_that_is_away_before_makes_no_attempt(lab: Lab) -> None:
    called: list[int] = []
    run = lab.make(lambda run: called.append(1))
    lab.blobs.away = True  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="no route to host"):
        lab.attempt(run)
    assert called == []
    assert spooled(lab) == []


def test_what_is_sent_again_and_again_is_cut_into_segments(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crown_exp.runner.call.SEGMENT_BYTES", 2_000)

    def task(run: Run) -> None:
        for turn in run.steps(200):
            run.log(turn=turn)
            if turn % 20 == 0:
                run._log.drain()

    ended = lab.attempt(lab.make(task), beat_seconds=0.0)
    assert ended.code == 0, ended.said
    entries = lab.portal.call(lab.blobs.list, RunPaths(ended.id).log)
    assert len(entries) > 3 and max(entry.size for entry in entries) < 6_000
    assert [step for step, _ in ended.points] == list(range(1, 201))
    assert spooled(lab) == []


def test_what_a_killed_attempt_left_on_this_machine_is_sent_by_the_next(lab: Lab) -> None:
    def task(run: Run) -> None:
        for turn in run.steps(5):
            run.log(turn=turn)
            if run.attempt == 1 and turn == 4:
                run._log.drain()
                raise KeyboardInterrupt  # a kill leaves what the copy of the spool below has

    run = lab.make(task)
    lab.attempt(run, beat_seconds=1e6)
    segment = RunPaths(run).segment(1, 1)
    whole = lab.portal.call(lab.blobs.get, segment)
    lab.portal.call(lab.blobs.put, segment, whole[:-60])
    left = lab.home / "spool" / segment
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(whole)
    assert lab.attempt(run).code == 0
    assert lab.portal.call(lab.blobs.get, segment) == whole
    assert spooled(lab) == []


def test_a_store_that_does_not_answer_holds_up_neither_loop_nor_log(lab: Lab) -> None:
    hangs, left = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> bool:
        hangs.set()
        return left.wait(120)

    def task(run: Run) -> int:
        try:
            for turn in run.steps(50):
                run.log(turn=turn)
                if turn == 2:
                    lab.blobs.put_hangs = hang  # type: ignore[attr-defined]
                    until = time.monotonic() + 120
                    while not hangs.wait(0.01):  # the beat before may not be over yet
                        assert time.monotonic() < until, "no beat meets that the store hangs"
                        run._log.drain()
                run._log.drain()
            return len(run._log.queue)
        finally:
            left.set()
            lab.blobs.put_hangs = None  # type: ignore[attr-defined]

    ended = lab.attempt(lab.make(task), beat_seconds=0.0)
    assert (ended.code, ended.ending.result) == (0, 0), ended.said


def test_the_newest_checkpoint_is_on_this_machine_too_until_the_run_is_over(lab: Lab) -> None:
    def task(run: Run) -> float:
        total = run.state(sum=0.0)
        tensor = torch.zeros(1000)
        run.track(tensor=Holding(tensor))
        for turn in run.steps(6):
            total.sum += float(tensor.sum())
            tensor += turn
            if turn == 4 and not run.resumed:
                run._boundary.stop.ask(ExitCode.PREEMPTED, "asked to stop")
        return total.sum

    run = lab.make(task)
    assert lab.attempt(run).code == ExitCode.PREEMPTED
    mirror = lab.home / "mirror" / run
    packs = lab.portal.call(lab.blobs.list, RunPaths(run).packs)
    held = {f"{RunPaths(run).packs}{path.name}": path.stat().st_size for path in mirror.iterdir()}
    assert held == {entry.path: entry.size for entry in packs}
    fetched: list[str] = []
    lab.blobs.reads = fetched.append  # type: ignore[attr-defined]
    ended = lab.attempt(run)
    assert ended.code == 0, ended.said
    assert ended.ending.result == 20_000.0
    assert not [path for path in fetched if path.startswith(RunPaths(run).packs)]
    assert not mirror.exists()


class Holding:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"tensor": self.tensor}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.tensor.copy_(state["tensor"])


def test_two_attempts_of_one_home_leave_each_others_log_alone(lab: Lab) -> None:
    """The second takes over while the first lives; the first notices, sends its own end, and no more."""

    def task(run: Run) -> None:
        for turn in run.steps(20):
            run.log(turn=turn)
            if turn == 8 and run.attempt == 1:
                run._log.drain()
                ended.append(lab.attempt(run.id, take_over=True, beat_seconds=0.0))
            if turn == 12 and run.attempt == 2:
                run._log.drain()
                segments = sorted(lab.home.glob("spool/runs/*/log/*.seg"))
                assert [path.name[:6] for path in segments] == ["000001", "000002"]

    ended: list[Ended] = []
    run = lab.make(task, {"checkpoint": {"every": "1 steps"}})
    first = lab.attempt(run, beat_seconds=0.0)
    (second,) = ended
    assert (second.code, first.code) == (0, ExitCode.SUPERSEDED), first.said + second.said
    steps = sorted({step for step, _ in lab.attempt(run).points})
    assert steps == list(range(1, 21))
    assert spooled(lab) == []


def test_a_log_that_is_gone_from_this_machine_lets_nothing_be_saved(lab: Lab) -> None:
    def task(run: Run) -> None:
        for turn in run.steps(6):
            run.log(turn=turn)
            if turn == 3:
                run._log.drain()
                for path in spooled(lab):
                    path.unlink()

    ended = lab.attempt(lab.make(task, {"checkpoint": {"every": "5 steps"}}))
    assert "the log in" in ended.said and "is gone" in ended.said
    assert not lab.portal.call(lab.blobs.list, RunPaths(ended.id).checkpoints)
