"""A run that begins from another one's state, with other settings: they win where they were chosen anew."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from crown_exp.checkpoints.listing import adopt
from crown_exp.folder import RunPaths
from crown_exp.runner import Run
from tests.running import Ended, Lab

SCHEDULES = torch.optim.lr_scheduler


class Rows(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> int:
        return index


def task_of(
    lr: float = 0.1,
    optimizer: Callable[..., Any] = torch.optim.AdamW,
    schedule: Callable[..., Any] | None = None,
    batch_size: int = 4,
    turns: int = 8,
    stop_at: int | None = None,
    more: dict[str, Any] | None = None,
) -> Callable[[Run], dict[str, Any]]:
    def task(run: Run) -> dict[str, Any]:
        net = nn.Linear(1, 1)
        opt = optimizer(net.parameters(), lr=lr, **(more or {}))
        run.track(net=net, opt=opt)
        lrs = schedule(opt) if schedule else None
        if lrs:
            run.track(schedule=lrs)
        seen = []
        for rows in run.steps(run.batches(Rows(), batch_size=batch_size), turns):
            seen.append(rows.tolist())
            run.log(lr=opt.param_groups[0]["lr"], decay=opt.param_groups[0].get("weight_decay", 0))
            run.backward(net(rows[:, None] / 32).pow(2).mean())
            run.update(opt)
            if lrs:
                lrs.step()
            if run.step == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
        return {"seen": seen, "weight": net.weight.item()}

    return task


def forked(lab: Lab, parent: str, step: int, task: Callable[..., Any]) -> Ended:
    run = lab.make(task)
    record = Path(str(lab.blobs.local_path(RunPaths(run).record)))
    lineage = {"fork": {"run": parent, "step": step, "attempt": 1}}
    record.write_text(json.dumps(json.loads(record.read_text()) | {"lineage": lineage}))
    lab.portal.call(adopt, lab.blobs, RunPaths(parent), RunPaths(run), step)
    return lab.attempt(run)


def logged(ended: Ended, name: str) -> list[float]:
    return [values[name] for _, values in ended.points if name in values]


@pytest.fixture
def parent(lab: Lab) -> str:
    run = lab.make(task_of(stop_at=4))
    assert lab.attempt(run).code == 75
    return run


def test_with_the_same_settings_it_ends_as_its_parent(lab: Lab, parent: str) -> None:
    ended = forked(lab, parent, 4, task_of())
    assert ended.code == 0, ended.said
    assert "goes on after step 4" in ended.said
    whole = lab.run(task_of())
    assert ended.ending.result["weight"] == whole.ending.result["weight"]
    assert ended.ending.result["seen"] == whole.ending.result["seen"][4:]
    assert ended.ending.step == 8


def test_what_was_chosen_anew_wins(lab: Lab, parent: str) -> None:
    ended = forked(lab, parent, 4, task_of(lr=0.001, more={"weight_decay": 0.5}, turns=6))
    assert ended.code == 0, ended.said
    assert (logged(ended, "lr"), logged(ended, "decay")) == ([0.001] * 2, [0.5] * 2)


@pytest.mark.parametrize("schedule", [
    lambda opt: SCHEDULES.CosineAnnealingLR(opt, 10),
    lambda opt: SCHEDULES.LinearLR(opt, 1.0, 0.1, 10),
    lambda opt: SCHEDULES.StepLR(opt, 2, 0.5),
    lambda opt: SCHEDULES.LambdaLR(opt, lambda step: 1 / (1 + step)),
    lambda opt: SCHEDULES.SequentialLR(
        opt, [SCHEDULES.LinearLR(opt, 0.1, 1.0, 3), SCHEDULES.CosineAnnealingLR(opt, 8)], [3]
    ),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_schedule_goes_on_where_it_was_at_the_new_rate(lab: Lab, schedule: Any) -> None:
    parent = lab.make(task_of(schedule=schedule, stop_at=4))
    assert lab.attempt(parent).code == 75
    ended = forked(lab, parent, 4, task_of(lr=0.01, schedule=schedule))
    assert ended.code == 0, ended.said
    whole = lab.run(task_of(lr=0.01, schedule=schedule))
    assert logged(ended, "lr") == pytest.approx(logged(whole, "lr")[4:])


def test_another_optimizer_or_schedule_starts_anew_and_says_so(
    lab: Lab, parent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = forked(lab, parent, 4, task_of(optimizer=torch.optim.SGD, lr=0.5))
    assert ended.code == 0, ended.said
    assert logged(ended, "lr") == [0.5] * 4
    assert "opt starts anew: it is made of other parts" in capsys.readouterr().err
    schedule = lambda opt: SCHEDULES.StepLR(opt, 2, 0.5)  # noqa: E731
    with_schedule = forked(lab, parent, 4, task_of(schedule=schedule))
    assert with_schedule.code == 0, with_schedule.said
    assert "forked: schedule was not tracked then" in capsys.readouterr().err


def test_other_batches_start_anew_and_say_so(
    lab: Lab, parent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = forked(lab, parent, 4, task_of(batch_size=8))
    assert ended.code == 0, ended.said
    assert "the data start anew" in capsys.readouterr().err
    assert [len(rows) for rows in ended.ending.result["seen"]] == [8] * 4


def test_a_fork_is_stopped_and_goes_on_like_any_run(lab: Lab, parent: str) -> None:
    settings: dict[str, Any] = {"lr": 0.01}
    straight = forked(lab, parent, 4, task_of(**settings))
    stopped = forked(lab, parent, 4, task_of(**settings, stop_at=6))
    assert stopped.code == 75
    again = lab.attempt(stopped.id)
    assert again.code == 0 and "goes on after step 6" in again.said
    assert logged(again, "lr") == [0.01] * 4  # not scaled twice
    assert again.ending.result["weight"] == straight.ending.result["weight"]
