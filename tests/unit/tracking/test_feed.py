"""The feed of a tracker: whatever that does, the run neither waits nor fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from crown_exp.errors import SettingsError
from crown_exp.tracking import Artifact, Point, TrackedRun
from crown_exp.tracking import feed as module
from crown_exp.tracking.feed import Feed

RUN = TrackedRun(
    id="r261124-k7f3q2", name="test", experiment=None, sweep=None, tags=(), user="me", config={},
    attempt=1, home=Path("home"),
)  # fmt: skip
PATIENCE_SECONDS = 600.0


@pytest.fixture(autouse=True)
def nobody_hurries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of a tracker that is only as slow as the machine is busy."""
    monkeypatch.setattr(module, "TELL_SECONDS", PATIENCE_SECONDS)


class Kept:
    """Keeps what it is told, on which thread, and waits where it is asked to."""

    def __init__(self, waits: str = "") -> None:
        self.told: list[Any] = []
        self.threads: set[str] = set()
        self.waits, self.reached, self.go_on = waits, threading.Event(), threading.Event()

    def note(self, where: str, what: Any) -> None:
        self.threads.add(threading.current_thread().name)
        if where == self.waits:
            self.reached.set()
            self.go_on.wait()
        self.told.append(what)

    def start(self, run: TrackedRun) -> str | None:
        return self.note("start", run)

    def log(self, points: Sequence[Point]) -> None:
        self.note("log", list(points))

    def artifact(self, artifact: Artifact) -> None:
        self.note("artifact", artifact)

    def finish(self, exit_code: int, result: Any) -> None:
        self.note("finish", (exit_code, result))


@pytest.fixture
def waiting() -> Iterator[Callable[[str], Kept]]:
    """Makes trackers that wait; lets all of them go at the end."""
    made: list[Kept] = []

    def make(where: str) -> Kept:
        made.append(Kept(where))
        return made[-1]

    yield make
    for kept in made:
        kept.go_on.set()


@pytest.fixture
def said() -> list[str]:
    return []


def points(*steps: int) -> list[Point]:
    return [Point(step, 1.0 * step, {"loss": 0.5}) for step in steps]


def picture(step: int) -> Artifact:
    return Artifact("a.png", step, Path("a.png"), "image")


def test_everything_arrives_in_order_on_a_thread_of_its_own(said: list[str]) -> None:
    kept = Kept()
    feed = Feed(lambda: kept, "mine", RUN, say=said.append, finish_seconds=PATIENCE_SECONDS)
    feed.take(points(1, 2))
    feed.artifact(picture(2))
    feed.take([])
    feed.take(points(3))
    feed.finish(0, {"loss": 0.5})
    run, *items, end = kept.told
    flat = [one for item in items for one in (item if isinstance(item, list) else [item])]
    assert (run, end) == (RUN, (0, {"loss": 0.5}))
    assert flat == [*points(1, 2), picture(2), *points(3)]
    assert kept.threads == {"crown-mine"}
    assert said == []


def test_what_start_says_is_said(said: list[str]) -> None:
    class Tells(Kept):
        def start(self, run: TrackedRun) -> str | None:
            return f"see {run.id}"

    Feed(Tells, "mine", RUN, say=said.append, finish_seconds=PATIENCE_SECONDS).finish(0, None)
    assert said == ["see r261124-k7f3q2"]


def test_a_slow_one_is_not_waited_for_and_gets_all(
    said: list[str], waiting: Callable[[str], Kept]
) -> None:
    kept = waiting("start")
    feed = Feed(lambda: kept, "mine", RUN, say=said.append, finish_seconds=PATIENCE_SECONDS)
    kept.reached.wait()
    for step in range(1, 30_001):
        feed.take(points(step))
    assert kept.told == []
    kept.go_on.set()
    feed.finish(0, None)
    assert [point.step for item in kept.told[1:-1] for point in item] == list(range(1, 30_001))
    assert said == []


def test_one_that_is_too_far_behind_is_left_out_and_its_points_freed(
    said: list[str], waiting: Callable[[str], Kept]
) -> None:
    kept = waiting("start")
    feed = Feed(lambda: kept, "mine", RUN, say=said.append, finish_seconds=PATIENCE_SECONDS)
    kept.reached.wait()
    feed.take(points(*range(200_000)))
    assert said == []
    feed.take(points(1))
    feed.take(points(2))
    feed.artifact(picture(2))
    assert said == [
        "mine is 200,001 points behind; it is left out, and the run's own log has it all"
    ]
    assert not feed.waiting
    kept.go_on.set()
    feed.finish(0, None)
    feed.thread.join()
    assert kept.told == [RUN]
    assert len(said) == 1


@pytest.mark.parametrize("where", ["start", "log", "artifact", "finish"])
def test_one_that_hangs_delays_the_end_by_no_more_than_its_time(
    where: str, said: list[str], waiting: Callable[[str], Kept]
) -> None:
    kept = waiting(where)
    feed = Feed(lambda: kept, "mine", RUN, say=said.append, finish_seconds=0.05)
    feed.take(points(1))
    feed.artifact(picture(1))
    if where != "finish":
        kept.reached.wait()
    feed.finish(0, None)
    assert said == [
        "mine was not done 0.05 s after the end; it is left out, and the run's own log has it all"
    ]
    kept.go_on.set()
    feed.thread.join()
    assert len(said) == 1
    assert where == "finish" or (0, None) not in kept.told


@pytest.mark.parametrize("where", ["start", "log", "artifact", "finish"])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("no\n\ngood"), "failed: ValueError: no good;"),
        (ConnectionResetError(), "failed: ConnectionResetError;"),
        (SystemExit(3), "failed: SystemExit: 3;"),
        (KeyboardInterrupt(), "failed: KeyboardInterrupt;"),
        (SettingsError("it is not installed; type: x"), "failed: it is not installed; type: x;"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_that_fails_is_told_of_once_in_a_line(
    where: str, error: BaseException, words: str, said: list[str]
) -> None:
    class Fails(Kept):
        def note(self, place: str, what: Any) -> None:
            if place == where:
                raise error

    feed = Feed(Fails, "mine", RUN, say=said.append, finish_seconds=PATIENCE_SECONDS)
    feed.take(points(1))
    feed.artifact(picture(1))
    feed.finish(0, None)
    feed.take(points(2))
    assert len(said) == 1
    assert said[0].startswith(f"mine {words}")
    assert said[0].endswith("it is left out, and the run's own log has it all")


def test_one_that_cannot_be_made_is_told_of(said: list[str]) -> None:
    def make() -> Kept:
        raise ImportError("No module named 'theirs'")

    Feed(make, "mine", RUN, say=said.append, finish_seconds=PATIENCE_SECONDS).finish(0, None)
    assert said[0].startswith("mine failed: ImportError: No module named 'theirs';")


def test_the_user_is_told_what_is_waited_for_and_may_give_up(
    said: list[str], waiting: Callable[[str], Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TELL_SECONDS", 0.05)
    kept = waiting("finish")
    kept.again = "crown push"  # type: ignore[attr-defined]
    feed = Feed(lambda: kept, "mine", RUN, say=said.append, finish_seconds=PATIENCE_SECONDS)
    feed.finish(0, None, lambda: len(said) > 0)
    assert said == [
        "waiting for mine, 600 s at most; Ctrl-C leaves it",
        "mine was not waited for; it is left out, and the run's own log has it all; "
        "to send it later: crown push r261124-k7f3q2",
    ]


def test_what_a_tracker_says_of_points_is_shown_and_anything_else_it_returns_is_not(
    said: list[str],
) -> None:
    class Saying(Kept):
        def log(self, points: Sequence[Point]) -> Any:
            return "it has other values" if points[0].step == 2 else 17

    feed = Feed(Saying, "Saying", RUN, say=said.append, finish_seconds=PATIENCE_SECONDS)
    feed.take(points(1))
    feed.artifact(picture(1))
    feed.take(points(2))
    feed.finish(0, None)
    assert not feed.out
    assert said == ["Saying: it has other values"]
