"""Running out of memory: smaller parts, the same batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crown_exp import Config, Run
from crown_exp.runner.parts import Parts
from tests.running import Lab

NET = {"model": {"_target_": f"{__name__}.Hungry", "fits": 3}}


class Hungry(nn.Module):
    """Takes at most so many samples at once, as if more did not fit into memory."""

    def __init__(self, fits: int) -> None:
        super().__init__()
        self.fits = fits
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        if len(inputs) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        found: Tensor = self.layer(inputs)
        return found


def learn(run: Run, model: Config[nn.Module]) -> list[float]:
    """Three turns of eight samples; the weights."""
    net = run.build(model)
    opt = torch.optim.SGD(net.parameters(), lr=0.5)
    run.track(net=net, opt=opt)
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    batch = inputs, (inputs.sum(dim=1) > 0).long()
    for _ in run.steps(3):
        total = 0.0
        for some, labels in run.split(batch):
            loss = F.cross_entropy(net(some), labels)
            run.backward(loss)
            total += loss.item() * len(some) / 8
        run.update(opt)
        run.log(loss=total, parts=run._parts.count)
    return [value for weights in net.parameters() for value in weights.flatten().tolist()]


def fitting(fits: int) -> dict[str, Any]:
    return {"model": NET["model"] | {"fits": fits}}


def test_the_run_begins_again_with_smaller_parts_and_computes_the_same(lab: Lab) -> None:
    whole = lab.run(learn, fitting(8), ("model",))
    parts = lab.run(learn, fitting(3), ("model",))
    assert (whole.code, parts.code) == (0, 0)
    assert parts.ending.result == pytest.approx(whole.ending.result, rel=1e-3, abs=1e-6)
    assert [step for step, _ in whole.points] == [1, 2, 3]
    assert {values["parts"] for _, values in parts.points} == {4}
    ends = sorted(parts.facts.ends, key=lambda end: end.attempt)
    assert [(end.exit_code, end.reason) for end in ends] == [
        (75, "out of memory with batches in one part; tried again with 2"),
        (75, "out of memory with batches in 2 parts; tried again with 4"),
        (0, "completed"),
    ]
    attempts = sorted(parts.facts.attempts, key=lambda attempt: attempt.attempt)
    assert [attempt.numerics["accumulate"] for attempt in attempts] == [1, 2, 4]
    assert "out of memory with batches in 2 parts; tried again with 4" in parts.said
    assert "batches in 4 parts, since memory ran out before with fewer" in parts.said
    assert "Traceback" not in parts.said and parts.state == "completed"


def test_what_was_found_is_remembered_for_this_model_and_device(lab: Lab) -> None:
    assert len(lab.run(learn, fitting(3), ("model",)).facts.attempts) == 3
    again = lab.run(learn, fitting(3) | {"seed": 1}, ("model",))
    assert len(again.facts.attempts) == 1
    assert "batches in 4 parts, since memory ran out before with fewer" in again.said
    assert len(lab.run(learn, fitting(4), ("model",)).facts.attempts) == 2  # another model


@pytest.mark.parametrize("damage", ["", "no json", '{"parts": "many"}', "[]", '{"parts": -3}'])
def test_what_was_remembered_may_be_gone_or_damaged(lab: Lab, damage: str) -> None:
    lab.run(learn, fitting(3), ("model",))
    (file,) = (lab.home / "parts").iterdir()
    assert json.loads(file.read_text()) == {"parts": 4}
    file.write_text(damage)
    assert lab.run(learn, fitting(3), ("model",)).code == 0


def test_a_later_attempt_begins_with_what_an_earlier_one_found(lab: Lab) -> None:
    run = lab.make(stopped_once(), fitting(3), ("model",))
    assert lab.attempt(run).code == 130
    assert not (
        lab.home / "parts"
    ).exists()  # kept of what completed; and this may be another machine
    ended = lab.attempt(run)
    assert ended.code == 0
    assert [attempt.numerics["accumulate"] for attempt in ended.facts.attempts] == [1, 2, 4, 4]


def stopped_once() -> Callable[..., Any]:
    seen = []

    def task(run: Run, model: Config[nn.Module]) -> Any:
        result = learn(run, model)
        seen.append(run.attempt)
        if len(seen) == 1:
            raise KeyboardInterrupt
        return result

    return task


def test_a_wish_for_parts_is_where_it_begins(lab: Lab) -> None:
    config = fitting(1) | {"device": {"accumulate": 4}}
    ended = lab.run(learn, config, ("model",))
    assert [attempt.numerics["accumulate"] for attempt in ended.facts.attempts] == [4, 8]


def test_one_sample_that_does_not_fit_is_the_end(lab: Lab) -> None:
    ended = lab.run(learn, fitting(0), ("model",))
    assert (ended.code, ended.state) == (78, "failed")
    assert len(ended.facts.attempts) == 4  # 1, 2, 4 and 8 parts
    assert ended.ending.error.startswith("out of memory: OutOfMemoryError: CUDA out")
    assert "that was one sample at a time: make the model or the samples" in ended.ending.error
    assert ended.ending.error in ended.said and "test_parts.py" in ended.said


def test_outside_of_the_parts_smaller_ones_do_not_help(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> None:
        net = run.build(model)
        run.track(net=net)
        for _ in run.steps(1):
            for part in run.split(torch.zeros(2, 4)):
                run.backward(net(part).sum())
        net(torch.zeros(100, 4))

    ended = lab.run(task, NET, ("model",))
    assert (ended.code, len(ended.facts.attempts)) == (78, 1)
    assert "outside of run.split" in ended.ending.error


def test_a_batch_that_the_task_left_out_itself_is_over(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> None:
        net = run.build(model)
        run.track(net=net)
        for turn in run.steps(3):
            try:
                for part in run.split(torch.zeros(8, 4)):
                    run.backward(net(part if turn == 0 else part[:1]).sum())
            except torch.OutOfMemoryError:
                continue
            if turn == 2:
                net(torch.zeros(100, 4))

    ended = lab.run(task, NET, ("model",))
    assert (ended.code, len(ended.facts.attempts)) == (78, 1)
    assert "outside of run.split" in ended.ending.error
    assert not (lab.home / "parts").exists()


def test_a_loop_without_parts_is_told_of_them(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> None:
        net = run.build(model)
        run.track(net=net)
        for _ in run.steps(1):
            run.backward(net(torch.zeros(100, 4)).sum())

    ended = lab.run(task, NET, ("model",))
    assert (ended.code, len(ended.facts.attempts)) == (78, 1)
    assert "go over the parts, for part in run.split(batch)" in ended.said


def test_a_stop_that_was_asked_for_is_not_undone(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> None:
        net = run.build(model)
        run.track(net=net)
        for _ in run.steps(1):
            for part in run.split(torch.zeros(8, 4)):
                run._stop.ask(130, "interrupted by the user")  # type: ignore[arg-type]
                run.backward(net(part).sum())

    ended = lab.run(task, NET, ("model",))
    assert (ended.code, len(ended.facts.attempts)) == (130, 1)


def test_uneven_batches() -> None:
    parts = Parts(asked=1, count=8)
    assert (parts.of(64), parts.of(5), parts.whole) == (8, 5, 64)
    parts.in_turn = 7
    assert parts.more(7) == 16
    assert parts.more(8) is None  # the parts of another turn
    assert Parts(asked=8, count=8).of(5) == 8  # as asked: run.split refuses it
    assert Parts(asked=1, count=48, whole=64, in_turn=1).more(1) == 64
    assert Parts(asked=1, count=64, whole=64, in_turn=1).more(1) is None
