"""Weights and gradients that are not finite: noticed, and named."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from crown_exp import Config, Run
from tests.running import Lab

NET = {"model": {"_target_": "torch.nn.Linear", "in_features": 4, "out_features": 2}}


def spoil(net: nn.Module) -> None:
    with torch.no_grad():
        net.bias[1] = math.nan  # type: ignore[index,operator]


def learning(run: Run, model: Config[nn.Module]) -> tuple[nn.Module, torch.optim.SGD]:
    net = run.build(model)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    run.track(net=net, opt=opt)
    return net, opt


def test_a_weight_that_an_update_left_is_named_with_the_loss(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> None:
        net, opt = learning(run, model)
        for turn in run.steps(10):
            run.backward(net(torch.ones(1, 4)).sum())
            run.update(opt)
            if turn == 4:  # the fifth
                spoil(net)

    ended = lab.run(task, NET, ("model",))
    assert (ended.code, ended.ending.step) == (79, 5)
    assert ended.ending.error == (
        "the loss is nan in turn 6, as net.bias is not finite; the last good step is 4"
    )


def test_a_weight_that_the_last_update_left_is_noticed(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> dict[str, float]:
        net, opt = learning(run, model)
        for turn in run.steps(10):
            run.backward(net(torch.ones(1, 4)).sum())
            run.update(opt)
            if turn == 9:
                spoil(net)
        return {"accuracy": 0.9}

    ended = lab.run(task, NET, ("model",))
    assert (ended.code, ended.state, ended.ending.result) == (79, "failed", None)
    assert ended.ending.error == "net.bias is not finite after turn 10, the last one"


def test_a_loop_that_was_left_early_is_looked_at_when_the_task_ends(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> None:
        net, opt = learning(run, model)
        for _ in run.steps(10):
            run.backward(net(torch.ones(1, 4)).sum())
            run.update(opt)
            spoil(net)
            break

    assert lab.run(task, NET, ("model",)).code == 79


def test_an_evaluation_may_look_at_what_is_broken(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> int:
        net = run.build(model)
        run.track(net=net)
        spoil(net)
        return sum(int(net(torch.ones(1, 4)).isnan().any()) for _ in run.steps(3))

    assert lab.run(task, NET, ("model",)).ending.result == 3


class Steep(torch.autograd.Function):
    """Finite, with a gradient that is not."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * math.inf


def test_a_gradient_that_is_not_finite(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> None:
        net, opt = learning(run, model)
        for turn in run.steps(10):
            out = net(torch.ones(1, 4)).sum()
            run.backward(Steep.apply(out) if turn == 2 else out)
            run.update(opt, clip=1.0)

    ended = lab.run(task, NET, ("model",))
    assert (ended.code, ended.ending.step) == (79, 2)
    assert ended.ending.error == "the gradient's norm is inf in turn 3; the last good step is 2"


def test_a_weight_that_a_plain_step_left_is_noticed(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> None:
        net, opt = learning(run, model)
        for _ in run.steps(2):
            net(torch.ones(1, 4)).sum().backward()
            opt.step()
            spoil(net)

    assert lab.run(task, NET, ("model",)).code == 79
