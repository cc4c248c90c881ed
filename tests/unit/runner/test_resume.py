"""A run that is stopped and goes on ends as one that was never touched, to the bit."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.checkpoints.tree import difference, flatten
from crown_exp.folder import RunPaths
from crown_exp.outcome import ExitCode
from crown_exp.runner import Run
from tests.running import Ended, Lab

TURNS = 9


class Noisy(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Samples that are augmented by all three generators."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.randn(4) + random.random() + float(np.random.rand())
        return torch.full((4,), float(index)) / 20 + 0.1 * noise, index % 3


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.layers(inputs)
        return out


def everything(run: Run, at: Callable[[str, int], None]) -> dict[str, float]:
    """A task with all kinds of state. at: called in each turn, and in each evaluation."""
    net = run.build({"_target_": f"{__name__}.Net"})
    opt = torch.optim.AdamW(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 20)
    ema = torch.optim.swa_utils.AveragedModel(net)
    own, numbers = torch.Generator().manual_seed(5), np.random.default_rng(7)
    best = run.state(loss=9.0, seen=[])
    run.track(net=net, opt=opt, schedule=schedule, ema=ema, own=own, numbers=numbers)
    batches = run.batches(Noisy(), batch_size=4)
    for inputs, labels in run.steps(batches, TURNS):
        if run.every("2 steps"):
            at("evaluation", run.step)
            with torch.no_grad():
                best.loss = min(
                    best.loss, float(F.mse_loss(net(inputs), torch.randn(len(inputs), 3)))
                )
            best.seen = [*best.seen, run.step]
            run.log(best=best.loss)
        for part_inputs, part_labels in run.split((inputs, labels)):
            noise = 0.01 * torch.randn(len(part_inputs), 4, generator=own)
            loss = F.cross_entropy(net(part_inputs + noise), part_labels)
            run.backward(loss * (1 + 0.1 * random.random() + 0.1 * float(np.random.rand())))
        at("turn", run.step)
        run.update(opt, clip=1.0)
        schedule.step()
        ema.update_parameters(net)
        run.log(loss=loss, lucky=float(numbers.random()))
        run._keeping.finish()  # a save that is in flight ends: an evaluation does not wait for it
    for item in run.steps(["a", "b", "c"], name="second"):
        at("second", run.step)
        best.seen = [*best.seen, f"{item}{random.random()}"]
        run.log(second=torch.rand(()))
    return {"best": best.loss, "sum": float(sum(p.detach().sum() for p in net.parameters()))}


def final(lab: Lab, run: str) -> dict[str, Any]:
    """Every leaf of the newest checkpoint."""
    restored = Checkpoints(lab.portal, lab.blobs, RunPaths(run), 99).restore()
    assert restored is not None
    return flatten(restored.state, "state")


def curve(ended: Ended) -> dict[tuple[str, int], float]:
    """The points that count."""
    return {(name, step): value for step, values in ended.points for name, value in values.items()}


def calls(log: list[tuple[str, int]], stops: dict[tuple[str, int], int]) -> Callable[..., None]:
    """Notes where the task is, and sends itself a signal there, once."""

    def at(what: str, step: int) -> None:
        log.append((what, step))
        number = stops.pop((what, step), None)
        if number is not None:
            signal.raise_signal(number)  # to this thread, so that it comes at once

    return at


CONFIG = {"device": {"accumulate": 2}, "checkpoint": {"every": "3 steps"}}


@pytest.fixture
def straight(lab: Lab) -> tuple[dict[str, Any], Ended]:
    ended = lab.run(lambda run: everything(run, calls([], {})), CONFIG)
    assert ended.code == 0, ended.said
    return final(lab, ended.id), ended


@pytest.mark.parametrize("where", [
    ("turn", 1), ("turn", 2), ("turn", 5), ("turn", 9), ("evaluation", 3), ("evaluation", 9), ("second", 10),
    ("second", 12),
])  # fmt: skip
def test_stopped_anywhere_it_ends_the_same(
    lab: Lab, straight: tuple[dict[str, Any], Ended], where: tuple[str, int]
) -> None:
    log: list[tuple[str, int]] = []
    stops = {where: signal.SIGTERM}
    run = lab.make(lambda run: everything(run, calls(log, stops)), CONFIG)
    first = lab.attempt(run)
    assert first.code == ExitCode.PREEMPTED
    kind, step = where
    assert first.ending.step == (step - 1 if kind == "evaluation" else step)
    assert log[-1] == where  # an evaluation is left at once
    second = lab.attempt(run)
    assert second.code == 0, second.said
    assert f"goes on after step {first.ending.step}" in second.said
    expected, ended = straight
    assert difference(expected, final(lab, run)) == ""
    assert second.ending.result == ended.ending.result
    assert curve(second) == curve(ended)
    assert log.count(where) == (2 if kind == "evaluation" else 1)


def test_stopped_at_every_turn(lab: Lab, straight: tuple[dict[str, Any], Ended]) -> None:
    stops = {("turn", step): signal.SIGTERM for step in range(1, TURNS + 1)}
    stops |= {("second", step): signal.SIGINT for step in range(10, 13)}
    run = lab.make(lambda run: everything(run, calls([], stops)), CONFIG)
    codes = []
    while not codes or codes[-1]:
        codes.append((ended := lab.attempt(run)).code)
    assert codes == [75] * 9 + [130] * 3 + [0]
    assert difference(straight[0], final(lab, run)) == ""
    assert curve(ended) == curve(straight[1])


# --- where a stop is obeyed -------------------------------------------------------------------------


class Calling(torch.utils.data.Dataset[int]):
    """Samples that call something when they are read."""

    def __init__(self, call: Callable[[int], None]) -> None:
        self.call, self.read = call, 0

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> int:
        self.read += 1
        self.call(self.read)
        return index


def test_a_stop_while_an_item_is_fetched_is_obeyed_at_once(lab: Lab) -> None:
    turns: list[tuple[int, list[int]]] = []
    stops: list[int] = []

    def read(number: int) -> None:
        if number in stops:
            stops.remove(number)
            os.kill(os.getpid(), signal.SIGTERM)

    def task(run: Run) -> float:
        drawn = run.state(numbers=[])
        for rows in run.steps(run.batches(Calling(read), batch_size=2), 6):
            turns.append((run.step, rows.tolist()))
            drawn.numbers = [*drawn.numbers, random.random()]
        return sum(drawn.numbers)

    straight = lab.run(task)
    whole, turns[:], stops[:] = turns[:], [], [8]
    run = lab.make(task)
    first = lab.attempt(run)
    assert (first.code, first.ending.step) == (75, 3), first.said
    second = lab.attempt(run)
    assert (second.code, second.ending.result) == (0, straight.ending.result)
    assert turns == whole


@pytest.mark.parametrize(("raw", "reached"), [(True, [1, 2]), (False, [1, 2, 3])])
def test_a_stop_in_the_turn_of_an_evaluation(lab: Lab, raw: bool, reached: list[int]) -> None:
    """After `run.backward` or `run.update` it waits for the end of the turn; of others nobody knows: a turn is
    lost, and done again."""
    made: list[int] = []
    stops = [3]

    def task(run: Run) -> float:
        net = nn.Linear(1, 1)
        opt = torch.optim.AdamW(net.parameters(), fused=True)
        run.track(net=net, opt=opt)
        for _ in run.steps(6):
            evaluates = run.every("2 steps")
            loss = net(torch.ones(1)).sum()
            if raw:
                opt.zero_grad()
                loss.backward()
                opt.step()
            else:
                run.backward(loss)
                run.update(opt)
            if evaluates and run.step in stops:
                stops.clear()
                os.kill(os.getpid(), signal.SIGTERM)
            made.append(run.step)
        return net.weight.item()

    run = lab.make(task)
    first = lab.attempt(run)
    assert (first.code, first.ending.step, made) == (75, len(reached), reached)
    assert lab.attempt(run).ending.result == lab.run(task).ending.result


def test_a_stop_before_the_first_turn_touches_nothing(lab: Lab) -> None:
    def task(run: Run) -> None:
        net = nn.Linear(1, 1)
        run.track(net=net)
        if run.attempt == 2:
            os.kill(os.getpid(), signal.SIGINT)
        for turn in run.steps(4):
            if turn == 1 and run.attempt == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    run = lab.make(task)
    assert lab.attempt(run).code == 75
    place = lab.blobs.local_path(RunPaths(run).root)
    assert place is not None
    before = {path: path.read_bytes() for path in place.glob("checkpoints/*")}
    second = lab.attempt(run)
    assert (second.code, second.state) == (130, "stopped")
    assert {path: path.read_bytes() for path in place.glob("checkpoints/*")} == before
    third = lab.attempt(run)
    assert third.code == 0 and "goes on after step 2" in third.said
