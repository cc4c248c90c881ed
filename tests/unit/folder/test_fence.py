"""Who may start: a living holder refuses all but its own executor and a user who insists."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from crown_exp.folder import AttemptRecord, EndRecord, Free, Held, Here, judge

T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOLDER = AttemptRecord("r1", 3, T0, "box", 42, 7.0, "boot", "local:5", {}, {})
END = EndRecord("r1", 3, T0, 75, 10, "", None, None)


def alive(pid: int, started: float | None) -> bool:
    """In these tests' world one process lives: 42, started at 7."""
    return pid == 42 and started in (None, 7.0)


BOX = Here("box", "boot", alive)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_the_first_attempt() -> None:
    assert judge(None, None, None, at(0), BOX) == Free(1)


def test_a_living_holder_refuses() -> None:
    assert judge(HOLDER, None, at(100), at(112), BOX) == Held(HOLDER, 12.0)
    assert judge(HOLDER, None, None, at(59), BOX) == Held(HOLDER, 59.0)


def test_a_silent_holder_is_over() -> None:
    assert judge(HOLDER, None, at(100), at(160), BOX) == Free(4)
    assert judge(HOLDER, None, None, at(60), BOX) == Free(4)


def test_an_ended_holder_is_over_at_once() -> None:
    assert judge(HOLDER, END, at(100), at(100), BOX) == Free(4)


def test_a_dead_process_of_this_boot_is_over_at_once() -> None:
    for gone in (replace(HOLDER, pid=43), replace(HOLDER, process_started=6.0)):
        assert judge(gone, None, at(100), at(101), BOX) == Free(4)


def test_nothing_is_proven_of_another_machine_or_boot() -> None:
    gone = replace(HOLDER, pid=43)
    for holder, here in (
        (gone, Here("other", "boot", alive)),
        (gone, Here("box", "a later boot", alive)),
        (gone, Here("box", None, alive)),
        (replace(gone, boot_id=None), Here("box", None, alive)),
    ):
        assert isinstance(judge(holder, None, at(100), at(101), here), Held)


def test_the_same_job_and_a_user_who_insists_supersede() -> None:
    assert judge(HOLDER, None, at(100), at(101), BOX, job="local:5") == Free(4)
    assert judge(HOLDER, None, at(100), at(101), BOX, take_over=True) == Free(4, took_over=True)
    assert isinstance(judge(HOLDER, None, at(100), at(101), BOX, job="local:6"), Held)


def test_who_insists_takes_over_from_a_living_one_only() -> None:
    for holder, end, now in (
        (HOLDER, END, 101),
        (HOLDER, None, 160),
        (replace(HOLDER, pid=43), None, 101),
    ):
        assert judge(holder, end, at(100), at(now), BOX, take_over=True) == Free(4)


def test_no_job_is_no_common_job() -> None:
    assert isinstance(judge(replace(HOLDER, job=None), None, at(9), at(10), BOX, job=None), Held)
