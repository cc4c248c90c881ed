"""How runs end that are stopped where it is not expected, resumed with other code, or asked for less."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from crown_exp.data import seeding
from crown_exp.folder import RunPaths
from crown_exp.runner import Run
from crown_exp.runner.context import Run as Context
from tests.running import Lab


def steps_there(lab: Lab, run: str) -> list[int]:
    place = lab.blobs.local_path(RunPaths(run).checkpoints.rstrip("/"))
    assert place is not None
    return sorted(int(path.stem.split("-")[1]) for path in Path(place).iterdir())


def test_the_best_is_what_was_evaluated_also_where_a_save_is_due(lab: Lab) -> None:
    accuracies = {3: 0.9, 5: 0.1, 7: 0.2, 9: 0.15}

    def task(run: Run) -> None:
        net = nn.Linear(1, 1)
        run.track(net=net)
        for _ in run.steps(9):
            if run.every("2 steps"):
                run.log(accuracy=accuracies[run.step])
            run._keeping.finish()  # no save is left out because one is in flight

    ended = lab.run(
        task, {"checkpoint": {"every": "2 steps", "keep_last": 1, "keep_best": "max accuracy"}}
    )
    assert ended.code == 0
    assert steps_there(lab, ended.id) == [2, 9]


def test_a_loop_that_is_to_be_shorter_than_it_was_ends_at_once(lab: Lab) -> None:
    turns = [20, 5]
    made: list[int] = []

    def task(run: Run) -> None:
        for turn in run.steps(turns[run.attempt - 1]):
            made.append(turn)
            if turn == 7:
                os.kill(os.getpid(), signal.SIGTERM)

    run = lab.make(task)
    assert lab.attempt(run).code == 75
    assert (lab.attempt(run).code, len(made)) == (0, 8)


def test_a_group_that_does_not_fit_can_be_mended(lab: Lab) -> None:
    groups = [1, 2, 1]

    def task(run: Run) -> None:
        net = nn.Linear(1, 1)
        opt = torch.optim.SGD([net.weight], lr=0.1)
        if groups[run.attempt - 1] == 2:
            opt.add_param_group({"params": [net.bias]})
        run.track(net=net, opt=opt)
        for turn in run.steps(4):
            if turn == 1 and run.attempt == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    run = lab.make(task)
    assert lab.attempt(run).code == 75
    refused = lab.attempt(run)
    assert (refused.code, refused.state) == (2, "stopped"), refused.said
    assert lab.attempt(run).code == 0


def test_a_stop_in_a_turn_that_is_left_is_obeyed_after_it(lab: Lab) -> None:
    after: list[int] = []

    def task(run: Run) -> None:
        for _ in run.steps(4):
            os.kill(os.getpid(), signal.SIGTERM)
            break
        after.append(1)
        run.log(x=1.0)
        after.append(2)

    assert (lab.run(task).code, after) == (75, [1])


def test_an_attempt_that_is_stopped_before_its_first_turn_knows_where_it_stood(lab: Lab) -> None:
    def task(run: Run) -> None:
        if run.attempt == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        for turn in run.steps(4):
            if turn == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    run = lab.make(task)
    assert lab.attempt(run).ending.step == 2
    second = lab.attempt(run)
    assert (second.code, second.ending.step) == (75, 2)
    assert [end.saved for end in sorted(second.facts.ends, key=lambda end: end.attempt)] == [2, 2]


def test_the_loop_is_not_torn_by_a_stop_that_comes_while_its_log_is_written(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, stops = Context._loop_left, [1]

    def torn(run: Context) -> None:
        if stops:
            stops.clear()
            os.kill(os.getpid(), signal.SIGTERM)
        left(run)

    monkeypatch.setattr(Context, "_loop_left", torn)

    def task(run: Run) -> None:
        for turn in run.steps(5):
            run.log(turn=turn)

    run = lab.make(task)
    first = lab.attempt(run)
    assert (first.code, first.ending.step) == (75, 5)
    assert len(first.points) == 5
    assert lab.attempt(run).code == 0


@pytest.mark.parametrize("moment", ["_lend", "_take_back"])
def test_a_stop_while_generators_are_exchanged_leaves_none_behind(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    stops: list[int] = []
    original = getattr(seeding, moment)

    def stopped(*given: Any) -> Any:
        if stops and stops.pop() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*given)

    monkeypatch.setattr(seeding, moment, stopped)

    def task(run: Run) -> float:
        drawn = run.state(sum=0.0)
        for rows in run.steps(run.batches(Drawing(), batch_size=2), 4):
            drawn.sum += float(rows.sum()) + float(torch.rand(())) + float(np.random.rand())
        return float(drawn.sum)

    straight = lab.run(task)
    stops[:] = [1, 0, 0, 0]  # the fourth exchange from now
    run = lab.make(task)
    first = lab.attempt(run)
    assert first.code == 75, first.said
    again = lab.attempt(run)
    assert (again.code, again.ending.result) == (0, straight.ending.result)


class Drawing(torch.utils.data.Dataset[float]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> float:
        return index + float(torch.rand(())) + float(np.random.rand())
