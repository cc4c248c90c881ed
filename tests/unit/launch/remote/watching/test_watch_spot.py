"""Runs on spot machines, watched: on a stand-in for SkyPilot, which takes machines away and finds others."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.compute.base import JobState, Target
from crown_exp.launch.remote.watching.watch import Watch
from tests.elsewhere import Elsewhere, on_skypilot, until
from tests.stand_in.sky import edge
from tests.stand_in.sky.preempt import preempt


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "stand-in"


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Elsewhere]:
    with on_skypilot(tmp_path, monkeypatch) as made:
        yield made


def turned_until_over(watch: Watch) -> None:
    def over() -> bool:
        watch.turn()
        return watch.over

    until(over)


def test_a_preempted_run_is_waited_for_and_its_value_comes_back(
    far: Elsewhere, tmp_path: Path
) -> None:
    """It is one run with two attempts, of one job; the other beside it is not disturbed."""
    ends = tmp_path / "ends"
    sent = far.send("lasts", {"task": {"ends": str(ends)}})
    other = far.send("train")
    run = sent.record.id
    watch = Watch(far, [sent, other], io.StringIO())
    far.wait_for_log(run)
    assert preempt(run) == 1

    def again() -> bool:
        watch.turn()
        return len(far.facts(run).attempts) == 2

    until(again)
    ends.touch()
    turned_until_over(watch)
    one, two = watch.ended()
    assert (one.exit_code, one.result) == (0, "ended")
    assert (two.exit_code, two.result) == (0, {"accuracy": 0.5})
    assert {attempt.job for attempt in far.facts(run).attempts} == {run}
    assert not far.job(run).cancelled


def test_a_preempted_run_waits_for_a_machine_that_others_have(
    far: Elsewhere, state: Path, tmp_path: Path
) -> None:
    """SkyPilot gives up, waits and tries again: it is PENDING in between, as before the run began."""
    ends = tmp_path / "ends"
    sent = far.send("lasts", {"task": {"ends": str(ends)}})
    run, handle = sent.record.id, sent.job.handle or ""
    watch = Watch(far, [sent], io.StringIO())
    far.wait_for_log(run)
    edge.crowd(state, True)
    assert preempt(run) == 1

    def waits() -> bool:
        watch.turn()
        assert not watch.over
        return far.executor.poll([handle])[handle].state is JobState.WAITING

    until(waits)
    edge.crowd(state, False)
    ends.touch()
    turned_until_over(watch)
    (ended,) = watch.ended()
    assert (ended.exit_code, ended.result) == (0, "ended")
    assert len(far.facts(run).attempts) == 2


def test_no_machine_is_to_be_had(far: Elsewhere, state: Path) -> None:
    edge.sold_out(state, ["A100:1"])
    target = Target(name="a100_spot", executor="skypilot", accelerators=("A100:1",))
    sent = far.send("train", target=target)
    watch = Watch(far, [sent], io.StringIO())
    turned_until_over(watch)
    (ended,) = watch.ended()
    assert ended.exit_code == 80
    assert "no such machine was to be had" in ended.error.splitlines()[0]
    assert far.job(ended.run).cancelled


def test_a_server_that_dies_while_it_is_watched(far: Elsewhere, state: Path) -> None:
    sent = far.send("train")
    watch = Watch(far, [sent], io.StringIO())
    watch.turn()
    edge.stop(state, jobs=False)
    turned_until_over(watch)
    assert [it.result for it in watch.ended()] == [{"accuracy": 0.5}]


def test_a_job_cancelled_by_somebody_else(far: Elsewhere) -> None:
    """Its last process lives for a while after CANCELLED: what it saves is still recorded as its own."""
    sent = far.send("lasts")
    far.wait_for_log(sent.record.id)
    far.executor.cancel([sent.job.handle or ""])
    watch = Watch(far, [sent], io.StringIO())
    turned_until_over(watch)
    (ended,) = watch.ended()
    assert ended.exit_code == 130
    assert "was cancelled, not from here" in ended.error
    told = "was cancelled, not from here: Cancellation requested by user root"
    assert told in far.job(ended.run).reason
