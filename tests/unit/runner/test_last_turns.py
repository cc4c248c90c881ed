"""A run that has a cloud's notice saves, trains on, and saves again: what it does in each case."""

from __future__ import annotations

import math
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from crown_exp import Run
from crown_exp.checkpoints.base import Unsaved
from crown_exp.checkpoints.cadence import Cadence
from crown_exp.checkpoints.listing import steps_of
from crown_exp.folder import RunPaths
from crown_exp.outcome import ExitCode
from crown_exp.runner import notices
from crown_exp.runner.cloud_notices import CLOUDS, Notice
from crown_exp.runner.metadata_server import MetadataServer as Client
from crown_exp.runner.notices import Watch
from tests.metadata_server import MetadataServer
from tests.running import Ended, Lab

LONG = Notice("AWS", "terminate", 10_000.0)
"""What is left of it is set by the tests, so that no machine is too slow for them."""

SOMETIMES = {"checkpoint": {"every": "3 steps", "keep_last": 100}}
ONCE = r"notice 10000 s, trained on for \d+ s, saved in \d+\.\d s, steps lost 0"


def measured(run: Run) -> None:
    """Wait until the run knows how long a save takes."""
    run._keeping.finish()
    assert run._keeping.pace.save is not None


def time_is_up(run: Run) -> None:
    run._stop.reserve = lambda: math.inf


def kept(lab: Lab, run: str) -> list[int]:
    return sorted(item.step for item in lab.portal.call(steps_of, lab.blobs, RunPaths(run)))


def events(ended: Ended, kind: str) -> list[Any]:
    return [it[3] for it in ended.records if it[0] == "e" and it[2] == kind]


def reason(ended: Ended) -> str:
    (end,) = ended.facts.ends
    assert end.reason == ended.ending.error
    return end.reason


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "POLL_SECONDS", 0.02)


def test_it_saves_trains_on_and_saves_again(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    turns: list[int] = []

    def task(run: Run) -> None:
        for turn in run.steps(100):
            turns.append(turn)
            if turn == 10:
                measured(run)
                run._stop.warn(LONG)
            if turn == 11:
                measured(run)  # that of step 11, which no cadence asked for, is durable
                assert kept(lab, run.id)[-1] == 11
            if turn == 16:
                time_is_up(run)

    ended = lab.run(task, SOMETIMES)
    assert (turns[-1], ended.code, ended.state) == (16, 75, "preempted")
    assert re.fullmatch(ONCE, reason(ended))
    assert kept(lab, ended.id)[-3:] == [11, 14, 17] and 12 not in kept(lab, ended.id)
    (told,) = events(ended, "notice")
    assert asdict(LONG) | {"trains_on": told["trains_on"]} == told and told["trains_on"] > 5_000
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if "takes this machine" in line]
    assert re.fullmatch(
        r"AWS takes this machine in \d+ s \(terminate\); training on, saving again in about \d+ s",
        line,
    )


def test_a_nearer_notice_is_told_and_saved_for_anew(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    def task(run: Run) -> None:
        for turn in run.steps(100):
            if turn == 10:
                measured(run)
                run._stop.warn(Notice("Azure", "Redeploy", 20_000.0))
            if turn == 12:
                measured(run)
                run._stop.warn(Notice("Azure", "Preempt", 10_000.0))
            if turn == 13:
                measured(run)
                assert kept(lab, run.id)[-1] == 13
                time_is_up(run)

    ended = lab.run(task, {"checkpoint": {"every": "10 steps", "keep_last": 100}})
    assert (ended.code, ended.ending.step) == (75, 14)
    assert re.fullmatch(ONCE, reason(ended))
    assert kept(lab, ended.id) == [10, 11, 13, 14]
    assert [it["action"] for it in events(ended, "notice")] == ["Redeploy", "Preempt"]
    assert capsys.readouterr().err.count("training on, saving again") == 2


def test_it_goes_on_from_the_last_turn(lab: Lab) -> None:
    def task(run: Run) -> list[float]:
        sums = run.state(places=[0.0])
        for turn in run.steps(20):
            sums.places = [*sums.places, sums.places[-1] + turn]
            if run.attempt == 1 and turn == 5:
                measured(run)
                run._stop.warn(LONG)
            if run.attempt == 1 and turn == 8:
                time_is_up(run)
        return list(sums.places)

    run = lab.make(task, SOMETIMES)
    first = lab.attempt(run)
    assert (first.code, first.ending.step) == (75, 9)
    second = lab.attempt(run)
    assert second.code == 0
    assert second.ending.result == [0.0, *(float(sum(range(n + 1))) for n in range(20))]


@pytest.mark.parametrize("case", ["no save", "too little time", "at once"])
def test_without_time_to_spare_it_ends_at_this_boundary(lab: Lab, case: str) -> None:
    turns: list[int] = []

    def task(run: Run) -> None:
        for turn in run.steps(100):
            turns.append(turn)
            if turn == 10:
                if case != "no save":
                    measured(run)
                left = {"no save": 10_000.0, "too little time": 2.0, "at once": 0.0}[case]
                run._stop.warn(Notice("Azure", "Preempt", left))

    every = "1 hour" if case == "no save" else "3 steps"
    ended = lab.run(task, {"checkpoint": {"every": every}})
    assert (turns[-1], ended.code) == (10, 75)
    assert "trained on" not in reason(ended) and reason(ended).endswith("steps lost 0")
    (told,) = events(ended, "notice")
    assert "trains_on" not in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_ends_it_at_the_next_boundary(
    lab: Lab, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    turns: list[int] = []

    def task(run: Run) -> None:
        for turn in run.steps(100):
            if turn == 5:
                measured(run)
                run._stop.warn(LONG)
            if turn == 8:
                for _ in range(3):
                    os.kill(os.getpid(), number)
            turns.append(turn)

    ended = lab.run(task, SOMETIMES)
    assert (turns[-1], ended.code) == (8, 75)
    assert re.fullmatch(ONCE, reason(ended))
    assert "(terminate); stopping at the end of this turn" in capsys.readouterr().err


def test_in_the_turn_of_the_notice_sigterm_says_nothing_of_training_on(lab: Lab) -> None:
    def task(run: Run) -> None:
        for turn in run.steps(100):
            if turn == 5:
                measured(run)
                run._stop.warn(LONG)
                os.kill(os.getpid(), signal.SIGTERM)

    ended = lab.run(task, SOMETIMES)
    assert ended.ending.step == 6
    assert re.fullmatch(r"notice 10000 s, saved in \d+\.\d s, steps lost 0", reason(ended))


def test_ctrl_c_and_a_limit_end_it_for_their_own_reason(lab: Lab) -> None:
    def task(run: Run) -> None:
        for turn in run.steps(100):
            if turn == 5:
                measured(run)
                run._stop.warn(LONG)
            if turn == 8 and run.config["seed"] == 1:
                os.kill(os.getpid(), signal.SIGINT)
            elif turn == 8:
                run._stop.ask(ExitCode.CAPPED, "limits.run=1 s reached")

    ended = lab.run(task, SOMETIMES | {"seed": 1})
    assert (ended.code, ended.ending.step) == (130, 9)
    assert reason(ended) == "interrupted by the user"
    ended = lab.run(task, SOMETIMES | {"seed": 2})
    assert (ended.code, ended.ending.step, kept(lab, ended.id)[-1]) == (77, 9, 9)


@pytest.mark.parametrize("left", ["end", "break"])
def test_after_a_loop_the_run_may_complete(lab: Lab, left: str) -> None:
    def task(run: Run) -> int:
        for turn in run.steps(10):
            if turn == 5:
                measured(run)
                run._stop.warn(LONG)
            if turn == 6:
                measured(run)
            if turn == 8 and left == "break":
                break
        assert kept(lab, run.id)[-1] == {"end": 10, "break": 6}[left]  # all is durable that can be
        assert run._stop.pending and run._stop.spare > 9_000
        return 3

    ended = lab.run(task, {"checkpoint": {"every": "5 steps", "keep_last": 100}})
    assert (ended.code, ended.state, ended.ending.result) == (0, "completed", 3)


def test_after_a_loop_a_notice_that_comes_then_leaves_its_time_too(lab: Lab) -> None:
    def task(run: Run) -> int:
        for _ in run.steps(10):
            pass
        run._stop.warn(LONG)
        measured(run)
        run._stop.warn(Notice("AWS", "terminate", 9_000.0))
        return 3

    ended = lab.run(task, SOMETIMES)
    assert (ended.code, ended.ending.result) == (0, 3)


def test_after_a_loop_what_is_in_flight_is_reckoned_with(lab: Lab) -> None:
    def task(run: Run) -> None:
        for _ in run.steps(10):
            if run.step == 5:
                measured(run)
        measured(run)
        run._keeping.pace.save = 100.0
        run._stop.warn(LONG)
        quiet = run._stop.spare
        run._boundary.held = True
        assert 90 < quiet - run._stop.spare < 101
        run._boundary.held = False

    assert lab.run(task, SOMETIMES).code == 0


@pytest.mark.parametrize("left", ["end", "break"])
def test_a_loop_that_follows_has_boundaries_again(lab: Lab, left: str) -> None:
    turns: list[int] = []

    def task(run: Run) -> None:
        for turn in run.steps(10, name="first"):
            if turn == 5:
                measured(run)
                run._stop.warn(LONG)
            if turn == 7 and left == "break":
                break
        for turn in run.steps(10, name="second"):
            turns.append(turn)
            if turn == 4 and run.attempt == 1:
                time_is_up(run)

    run = lab.make(task, SOMETIMES)
    ended = lab.attempt(run)
    done = {"end": 10, "break": 8}[left] + 5  # a turn that was left counts
    assert (turns, ended.code, ended.ending.step) == ([0, 1, 2, 3, 4], 75, done)
    assert re.fullmatch(ONCE, reason(ended))
    assert kept(lab, run)[-1] == done
    assert lab.attempt(run).code == 0 and turns == list(range(10))


def test_a_save_that_fails_at_the_end_of_a_loop_is_tried_once_more(lab: Lab) -> None:
    after: list[int] = []

    def task(run: Run) -> None:
        keeping = run._keeping
        commit = keeping.commit

        def fails() -> None:
            keeping.commit = commit  # type: ignore[method-assign]
            keeping.checkpoints._ended.append(Unsaved(10, "the disk is full"))
            keeping.step = 10

        for turn in run.steps(10):
            if turn == 5:
                measured(run)
                run._stop.warn(LONG)
            if turn == 9:
                measured(run)
                keeping.cadence = Cadence("1 hour")
                keeping.commit = fails  # type: ignore[method-assign]
        after.append(1)

    ended = lab.run(task, SOMETIMES)
    assert (after, ended.code, kept(lab, ended.id)[-1]) == ([], 75, 10)
    assert re.fullmatch(ONCE, reason(ended))


def test_a_save_that_fails_ends_it_after_one_more_try(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    turns: list[int] = []

    def task(run: Run) -> None:
        for turn in run.steps(100):
            turns.append(turn)
            if turn == 5:
                measured(run)
                run._stop.warn(LONG)
            if turn == 8:
                run._keeping.checkpoints._ended.append(Unsaved(8, "the disk is full"))

    ended = lab.run(task, SOMETIMES)
    assert (turns[-1], ended.code) == (8, 75)
    assert re.fullmatch(ONCE, reason(ended))
    said = capsys.readouterr().err
    assert "not saved: the disk is full" in said and "it is tried once more, and ends" in said


def test_a_save_in_flight_is_not_waited_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The save that the notice asks for begins when the one before has ended; turns go on meanwhile."""
    from crown_exp.checkpoints.checkpoints import Checkpoints

    turns: list[int] = []
    busy = [False]
    was = Checkpoints.busy.fget
    assert was is not None
    monkeypatch.setattr(Checkpoints, "busy", property(lambda self: busy[0] or was(self)))

    def task(run: Run) -> None:
        for turn in run.steps(100):
            turns.append(turn)
            if turn == 5:
                measured(run)
                busy[0] = True
                run._stop.warn(LONG)
            if turn == 8:
                assert run._keeping.soon and run._keeping.step == 3
                busy[0] = False
            if turn == 9:
                measured(run)
                assert run._keeping.step == 9
                time_is_up(run)

    ended = lab.run(task, {"checkpoint": {"every": "3 steps", "keep_last": 100}})
    assert ended.ending.step == 10 and kept(lab, ended.id)[-2:] == [9, 10]


def test_out_of_memory_is_not_tried_again_on_this_machine(lab: Lab) -> None:
    attempts: list[int] = []

    def task(run: Run) -> None:
        import torch

        attempts.append(run.attempt)
        for turn in run.steps(100):
            if turn == 5:
                measured(run)
                run._stop.warn(LONG)
            for _ in run.split(torch.zeros(8, 1)):
                if turn == 8:
                    raise torch.OutOfMemoryError("none left")

    ended = lab.run(task, SOMETIMES)
    assert (attempts, ended.code) == ([1], 75)
    assert reason(ended).startswith("notice 10000 s, trained on for ")


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with MetadataServer() as found:
        yield found


@pytest.mark.parametrize(
    "where", ["evaluation", "turn", "data", "end", "break", "break in evaluation"]
)
def test_where_no_boundary_comes_the_watch_ends_it(
    lab: Lab, server: MetadataServer, where: str
) -> None:
    """It has heard the notice, and sends the signal once no time is left."""
    after: list[int] = []
    watches: list[Watch] = []

    def wait() -> None:
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            time.sleep(0.01)
        after.append(1)

    class Source:
        def __len__(self) -> int:
            return 100

        def __getitem__(self, index: int) -> int:
            if where == "data" and index == 12:
                time_is_up(runs[0])
                wait()
            return index

    runs: list[Run] = []

    def task(run: Run) -> None:
        runs.append(run)
        batches = run.batches(Source(), batch_size=1, order="sequential", workers=0)
        for turn, _ in enumerate(run.steps(batches)):
            if run.every("4 steps") and turn == 12 and where == "evaluation":
                time_is_up(run)
                wait()
            if turn == (12 if where == "break in evaluation" else 14) and "break" in where:
                break
            if turn == 10 and "break" in where:
                measured(run)
                run._keeping.cadence = Cadence("1 hour")
            if turn == 5:
                measured(run)
                server.give_notice("azure", seconds=10_000)
                watch = Watch(run._stop, CLOUDS["azure"](), Client(server.url), print)
                watches.append(watch)
                watch.thread.start()
                while run._stop.notice is None:
                    time.sleep(0.01)
            if turn == 13 and where == "turn":
                time_is_up(run)
                while run._stop.code is None:
                    time.sleep(0.01)
        assert run._stop.pending and run._stop.spare > 9_000
        run._stop.reserve_after = lambda: math.inf
        wait()

    try:
        ended = lab.run(task, SOMETIMES)
    finally:
        for watch in watches:
            watch.close()
    assert (after, ended.code) == ([], 75)
    assert ended.ending.step == {"turn": 14, "end": 100, "break": 14}.get(where, 12)
    lost = 5 if where == "break" else 0
    became = "not saved" if lost else r"saved in \d+\.\d s"
    assert re.search(rf"trained on for \d+ s, {became}, steps lost {lost}$", reason(ended))
    assert kept(lab, ended.id)[-1] == ended.ending.step - lost
    for watch in watches:  # both threads end, however long this machine takes for that
        for thread in (watch.thread, watch.last):
            thread.join(60)
            assert not thread.is_alive()
