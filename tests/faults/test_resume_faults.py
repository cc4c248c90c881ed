"""What can go wrong around saving and going on: said in a line, the checkpoint before it safe, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from crown_exp.folder import RunPaths
from crown_exp.runner import Run
from crown_exp.storage import Portal, open_blobs
from tests.clocks import Moved, Stopped
from tests.counting import counting
from tests.faults.test_run_disk import fill
from tests.running import Ended, Lab

EVERY_STEP = {"checkpoint": {"every": "1 steps"}}


@pytest.fixture
def disk_mebibytes() -> int:
    return 8


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture
def lab(portal: Portal, tmp_path: Path) -> Lab:
    return Lab(portal, open_blobs(str(tmp_path / "store")), tmp_path / "home")


def at_step(step: int, do: Callable[[], Any]) -> Callable[[Run], None]:
    """Does something once, in a turn."""
    done = []

    def at(run: Run) -> None:
        if run.step == step and not done:
            done.append(1)
            do()

    return at


def settled(run: Run) -> None:
    """Wait until no save is in flight, however long it takes."""
    run._boundary.keeping.checkpoints.wait()


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def events(ended: Ended, kind: str) -> list[Any]:
    return [record[3] for record in ended.records if record[0] == "e" and record[2] == kind]


def folder(lab: Lab, run: str) -> Path:
    found = lab.blobs.local_path(RunPaths(run).root)
    assert found is not None
    return found


@pytest.fixture
def expected(lab: Lab) -> float:
    ended = lab.run(counting(lambda run: None))
    assert ended.code == 0
    return float(ended.ending.result)


# --- disks and stores -----------------------------------------------------------------------------------


def test_a_full_disk_costs_a_line_and_the_old_checkpoint_is_safe(
    portal: Portal, small_disk: Path, tmp_path: Path, expected: float
) -> None:
    lab = Lab(portal, open_blobs(str(small_disk / "store")), tmp_path / "home")
    filler: list[Path] = []

    def at(run: Run) -> None:
        settled(run)
        if run.step == 3:
            filler.append(fill(small_disk))
        if run.step == 5:
            filler.pop().unlink()

    ended = lab.run(counting(at), EVERY_STEP)
    assert (ended.code, ended.ending.result) == (0, expected), ended.said
    assert ended.facts.ends[0].saved == 6  # type: ignore[index]
    assert {event["step"] for event in events(ended, "unsaved")} >= {3}


def test_when_nothing_can_be_saved_past_the_deadline_the_run_asks_to_be_called_again(
    portal: Portal, small_disk: Path, tmp_path: Path, expected: float, capsys: Any
) -> None:
    lab = Lab(portal, open_blobs(str(small_disk / "store")), tmp_path / "home")
    filler: list[Path] = []

    def at(run: Run) -> None:
        settled(run)
        time.sleep(0.05)  # the deadline passes
        if run.step == 3 and run.attempt == 1:
            filler.append(fill(small_disk))

    task = counting(at, turns=6)
    run = lab.make(task, {"checkpoint": {"every": "1 steps", "deadline": "0.01 s"}})
    first = lab.attempt(run)
    assert first.code == 80
    said = capsys.readouterr().err
    assert "not saved: " in said and "no space left on device" in said
    assert "the checkpoint of step 2 is safe" in said
    filler.pop().unlink()
    second = lab.attempt(run, take_over=True)  # the full disk took no end
    assert (second.code, second.ending.result) == (0, expected), second.said
    assert "goes on after step 2" in second.said


def test_a_store_that_is_removed_under_a_run_is_not_half_made_anew(lab: Lab) -> None:
    root = Path(lab.blobs.url.removeprefix("file://"))

    def remove(run: Run) -> None:
        if run.step == 3:
            settled(run)
            shutil.rmtree(root)

    run = lab.make(counting(remove), EVERY_STEP)
    with pytest.raises(Exception, match="no run in"):  # the lab reads the folder afterwards
        lab.attempt(run, stream=None)
    assert [path for path in root.rglob("*") if path.is_file()] == []


# --- checkpoints that do not fit --------------------------------------------------------------------------


def stopped_at(lab: Lab, task: Callable[..., Any], config: Any = None) -> str:
    run = lab.make(task, config or {})
    assert lab.attempt(run).code == 75
    return run


def test_checkpoints_that_are_gone_are_no_fresh_start(lab: Lab) -> None:
    run = stopped_at(lab, counting(at_step(3, stop)))
    shutil.rmtree(folder(lab, run) / "checkpoints")
    again = lab.attempt(run)
    assert (again.code, again.state) == (80, "lost")
    assert "was saved after step 3, and none of its checkpoints is there any more" in again.said


def test_a_newer_format_is_refused_and_the_run_stays_as_it_is(lab: Lab) -> None:
    run = stopped_at(lab, counting(at_step(3, stop)))
    (manifest,) = (folder(lab, run) / "checkpoints").iterdir()
    data = manifest.read_bytes()
    body = data.rpartition(b',"sha256"')[0].replace(b'{"format":1', b'{"format":9')
    manifest.write_bytes(body + f',"sha256":"{sha256(body).hexdigest()}"}}\n'.encode())
    again = lab.attempt(run)
    assert (again.code, again.state) == (2, "stopped"), again.said
    assert "upgrade crown_exp" in again.said
    manifest.write_bytes(data)
    assert lab.attempt(run).code == 0


@pytest.mark.parametrize("words, change", [
    ("net.weight was float32 of shape (1, 1) and is now float32 of shape (2, 1)", {"out": 2}),
    ("net.bias was not saved", {"bias": True}),
    ("other was not tracked then", {"other": True}),
    ("net is not tracked any more", {"name": "network"}),
    ("loop 1 is named 'train', and the loops then were main", {"loop": "train"}),
])  # fmt: skip
def test_code_that_does_not_fit_is_refused_and_can_be_mended(
    lab: Lab, words: str, change: dict[str, Any]
) -> None:
    now: dict[str, Any] = {}

    def task(run: Run) -> None:
        run.track(
            **{now.get("name", "net"): nn.Linear(1, now.get("out", 1), bias=now.get("bias", False))}
        )
        if now.get("other"):
            run.track(other=nn.Linear(1, 1))
        for turn in run.steps(3, name=now.get("loop", "main")):
            if turn == 1 and run.attempt == 1:
                stop()

    run = stopped_at(lab, task)
    now.update(change)
    refused = lab.attempt(run)
    assert (refused.code, refused.state) == (2, "stopped"), refused.said
    assert f"cannot go on at step 2: {words}" in refused.said
    assert "Traceback" not in refused.said
    now.clear()
    assert lab.attempt(run).code == 0


def test_what_cannot_be_stored_is_told_before_any_work_is_done(lab: Lab) -> None:
    class Kept:
        def __init__(self, state: Any) -> None:
            self.state = state

        def state_dict(self) -> Any:
            if isinstance(self.state, Exception):
                raise self.state
            return self.state

        def load_state_dict(self, state: Any) -> None:
            pass

    turns: list[int] = []
    for state, words in (
        ({"a": [1, {"b": {1, 2}}]}, "a[1].b is a set"),
        (ValueError("no"), "run.track: kept.state_dict() raised ValueError: no"),
        ({"a": object()}, ".a is a object"),
    ):

        def task(run: Run, state: Any = state) -> None:
            run.track(kept=Kept(state))
            turns.extend(run.steps(2))

        ended = lab.run(task)
        assert ended.code == 1 and words in ended.said, ended.said
    assert turns == []


# --- time -----------------------------------------------------------------------------------------------


def test_a_clock_that_was_moved_back_a_day(lab: Lab, expected: float) -> None:
    run = stopped_at(lab, counting(at_step(3, stop)))
    again = lab.attempt(run, clock=Moved(ahead=-86400.0))
    assert (again.code, again.ending.result, again.state) == (0, expected, "completed")
    assert "goes on after step 3" in again.said


def test_limits(lab: Lab, expected: float) -> None:
    clock = Moved(clock=Stopped(datetime.now(UTC)))

    def slow(run: Run) -> None:
        clock.ahead += 0.1

    run = lab.make(counting(slow), {"limits": {"attempt": "0.25 s", "run": "0.45 s"}})
    first = lab.attempt(run, clock=clock)
    assert (first.code, first.state, first.ending.step) == (75, "preempted", 3), first.said
    assert "limits.attempt=0.25 s reached" in first.said
    second = lab.attempt(run, clock=clock)
    assert (second.code, second.state, second.ending.step) == (77, "capped", 5), second.said
    third = lab.attempt(run, clock=clock)
    assert (third.code, third.ending.step) == (77, second.ending.step)
    changes = {"limits.attempt": None, "limits.run": "1 hour"}
    last = lab.attempt(run, changes=changes, clock=clock)
    assert (last.code, last.ending.result) == (0, expected)
    assert last.facts.run.signature == "v1:0"


def test_three_ends_without_progress_end_the_run_for_good(lab: Lab) -> None:
    run = lab.make(
        counting(
            lambda run: os.kill(os.getpid(), signal.SIGTERM) or os.kill(os.getpid(), signal.SIGTERM)
        )
    )
    codes = [lab.attempt(run, counting=True).code for _ in range(4)]
    assert codes == [75, 75, 75, 1]
    last = lab.attempt(run, counting=True)
    assert last.state == "failed" and "failed (3 attempts in a row" in last.said


def test_other_numerics_are_said_and_recorded(lab: Lab) -> None:
    run = stopped_at(lab, counting(at_step(3, stop)), {"device": {"threads": 1}})
    again = lab.attempt(run, changes={"device.threads": 2})
    assert again.code == 0
    assert "not bit-comparable from step 3 on: threads 1 → 2" in again.said
    assert events(again, "resumed")[-1]["numerics"] == {"threads": [1, 2]}
    newest = max(again.facts.attempts, key=lambda attempt: attempt.attempt)
    assert newest.changes == {"device.threads": 2}


# --- which ones are kept --------------------------------------------------------------------------------


def test_the_best_is_saved_at_the_very_weights_that_were_evaluated(lab: Lab) -> None:
    values = iter([0.1, 0.7, 0.3, 0.5])
    seen: dict[int, float] = {}

    def task(run: Run) -> None:
        net = nn.Linear(1, 1, bias=False)
        run.track(net=net)
        for _ in run.steps(10):
            if run.every("2 steps"):
                seen[run.step - 1] = float(net.weight.detach())
                run.log(accuracy=next(values))
            with torch.no_grad():
                net.weight += 1
            settled(run)  # while a save is in flight, no copy is held for the best

    ended = lab.run(
        task, {"checkpoint": {"every": "3 steps", "keep_last": 1, "keep_best": "max accuracy"}}
    )
    assert ended.code == 0, ended.said
    names = sorted(path.name for path in (folder(lab, ended.id) / "checkpoints").iterdir())
    assert names == ["000001-000000000004.json", "000001-000000000010.json"]
    best = json.loads((folder(lab, ended.id) / "checkpoints" / names[0]).read_bytes())
    assert best["metrics"] == {"accuracy": 0.7}


def test_an_attempt_that_is_superseded_saves_nothing_more(lab: Lab) -> None:
    def take_over(run: Run) -> None:
        settled(run)
        if run.attempt == 1 and run.step == 3:
            first = folder(lab, run.id) / "attempts/000001.json"
            other = json.loads(first.read_text()) | {"attempt": 2}
            (folder(lab, run.id) / "attempts/000002.json").write_text(json.dumps(other))

    ended = lab.run(counting(take_over, turns=40), EVERY_STEP)
    assert ended.code == 76, ended.said
    names = [path.name for path in (folder(lab, ended.id) / "checkpoints").iterdir()]
    assert max(names) <= "000001-000000000003.json"
    assert not (folder(lab, ended.id) / "attempts/000001.end.json").exists()
