"""The tracker that a config names is fed with what the run logs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from crown_exp.runner import Run
from crown_exp.tracking import Artifact, Point, TrackedRun
from tests.running import Lab


class Kept:
    """A user's tracker that keeps what it is told."""

    told: ClassVar[list[Any]] = []

    def __init__(self, level: int = 1) -> None:
        self.told[:] = [level]

    def start(self, run: TrackedRun) -> str | None:
        self.told.append(run)
        return f"{run.id} is kept"

    def log(self, points: Sequence[Point]) -> None:
        self.told.extend(points)

    def artifact(self, artifact: Artifact) -> None:
        self.told.append(artifact)

    def finish(self, exit_code: int, result: Any) -> None:
        self.told.append((exit_code, result))


def fails(what: str) -> type[Kept]:
    def no(*_: Any, **__: Any) -> None:
        raise ConnectionError(f"{what} is away")

    return type("Fails", (Kept,), {what: no})


def task(run: Run) -> dict[str, float]:
    for step in run.steps(30):
        run.log(loss=float(step))
    return {"loss": 29.0}


def published(monkeypatch: pytest.MonkeyPatch, tracker: type[Kept]) -> dict[str, Any]:
    import sys
    from types import ModuleType

    module = ModuleType("trackers_of_this_test")
    module.Mine = tracker  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return {"tracker": {"_target_": "trackers_of_this_test.Mine", "level": 3}}


def test_it_is_told_of_the_run_then_every_point_then_the_end(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = lab.run(task, published(monkeypatch, Kept))
    level, run, *points, end = Kept.told
    assert level == 3
    assert (run.id, run.attempt, run.config["tracker"]["level"]) == (ended.id, 1, 3)
    assert [(point.step, point.values) for point in points] == ended.points
    assert len(points) == 30
    assert end == (0, {"loss": 29.0})
    assert f"{ended.id} is kept" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["__init__", "start", "log", "finish"])
def test_one_that_fails_is_left_out_and_said_once(
    lab: Lab, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = lab.run(task, published(monkeypatch, fails(what)))
    assert (ended.code, len(ended.points)) == (0, 30)
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert len(said) == 1
    assert f"Mine failed: ConnectionError: {what} is away" in said[0]


def test_a_task_that_fails_is_told_as_its_exit_code(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(run: Run) -> None:
        raise ValueError("no")

    lab.run(raises, published(monkeypatch, Kept))
    assert Kept.told[-1] == (1, None)


def test_its_home_is_on_this_machine(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run(task, published(monkeypatch, Kept))
    assert Kept.told[1].home == Path(lab.home)


def test_the_end_is_written_before_the_tracker_is_waited_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Looks(Kept):
        def finish(self, exit_code: int, result: Any) -> None:
            seen.extend(path.name for path in lab.home.parent.rglob("*.json"))

    lab.run(task, published(monkeypatch, Looks))
    assert {"result.json", "000001.end.json"} <= set(seen)
