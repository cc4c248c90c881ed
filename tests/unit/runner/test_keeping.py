"""Which states of a run are saved, and stay."""

from __future__ import annotations

import os
import signal

import pytest

from crown_exp.checkpoints.listing import steps_of
from crown_exp.folder import RunPaths
from crown_exp.outcome import ExitCode
from crown_exp.runner import Run
from tests.running import Lab


def kept(lab: Lab, run: str) -> list[int]:
    """The steps of its checkpoints."""
    return sorted(item.step for item in lab.portal.call(steps_of, lab.blobs, RunPaths(run)))


@pytest.mark.parametrize("every", ["7 steps", "1 hour", "auto"])
def test_steps_that_are_to_be_kept_are_saved_whatever_the_cadence(lab: Lab, every: str) -> None:
    stops = {13}

    def task(run: Run) -> None:
        for _ in run.steps(45):
            if run.step in stops:
                stops.clear()
                os.kill(os.getpid(), signal.SIGTERM)

    config = {"checkpoint": {"every": every, "keep_last": 1, "keep_every": "10 steps"}}
    run = lab.make(task, config)
    assert lab.attempt(run).code == ExitCode.PREEMPTED
    assert kept(lab, run) == [10, 13]
    assert lab.attempt(run).code == 0
    assert kept(lab, run) == [10, 20, 30, 40, 45]


def test_an_attempt_learns_from_those_before_it_how_often_it_dies(lab: Lab) -> None:
    learned: list[float] = []

    def task(run: Run) -> None:
        learned.append(run._keeping.cadence.mtbf)
        for turn in run.steps(10):
            if run.attempt < 4 and turn == 2 * run.attempt:
                os.kill(os.getpid(), signal.SIGTERM)
                if run.attempt != 2:  # the first and the third have no time to save
                    os.kill(os.getpid(), signal.SIGTERM)

    run = lab.make(task, {"checkpoint": {"mtbf": "1 hour", "every": "1 hour"}})
    codes = [lab.attempt(run).code for _ in range(4)]
    assert codes == [75, 75, 75, 0]
    assert learned[0] == 3600
    for deaths, mtbf in zip((1, 1, 2), learned[1:], strict=True):  # of attempts that lasted seconds
        assert 3600 / (1 + deaths) <= mtbf < 4200 / (1 + deaths)
