"""Tasks in which something is easily lost: stopped and resumed, they end as if nobody had touched them."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from crown_exp.runner import Run
from tests.running import Ended, Lab

Stop = Callable[[], None]
Task = Callable[[Run, Stop], Any]
TASKS: dict[str, Task] = {}


def corner(task: Task) -> Task:
    """A task of this module. It calls what it is handed where a stop comes, the first time."""
    TASKS[task.__name__] = task
    return task


def points(ended: Ended) -> dict[tuple[str, int], float]:
    """The points that count, of all attempts: each attempt's go on from its first turn."""
    return {(name, step): value for step, values in ended.points for name, value in values.items()}


@pytest.mark.parametrize("name", [
    "swapped_weights", "noise_in_data", "code_before_the_loop", "stale_gradients", "composite", "bare_weight",
    "master_weights", "extra_state", "toggles", "changed_buffer", "sparse", "growing", "sequence_of_its_own",
    "stream_that_ended", "added_group", "lazy",
])  # fmt: skip
def test_stopped_and_resumed_it_ends_the_same(lab: Lab, name: str) -> None:
    task = TASKS[name]
    straight = lab.run(lambda run: task(run, lambda: None))
    assert straight.code == 0, straight.said
    stops = [1]

    def stop() -> None:
        if stops:
            stops.clear()
            os.kill(os.getpid(), signal.SIGTERM)

    run = lab.make(lambda run: task(run, stop))
    first = lab.attempt(run)
    assert first.code == 75, first.said
    again = lab.attempt(run)
    assert again.code == 0, again.said
    assert again.ending.result == straight.ending.result
    assert points(again) == points(straight)


def trained(net: nn.Module, run: Run, opt: Any, inputs: Tensor) -> None:
    loss = net(inputs).pow(2).mean()
    run.backward(loss)
    run.update(opt)
    run.log(loss=loss)


@corner
def swapped_weights(run: Run, stop: Stop) -> float:
    """An evaluation with other weights in the place of those that are trained."""
    net = nn.Linear(2, 1)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    run.track(net=net, opt=opt)
    for _ in run.steps(6):
        if run.every("2 steps"):
            mine = net.weight.data.clone()
            net.weight.data.fill_(7.0)
            stop()
            net.weight.data.copy_(mine)
        trained(net, run, opt, torch.rand(4, 2))
    return net.weight.sum().item()


@corner
def noise_in_data(run: Run, stop: Stop) -> float:
    net = nn.Linear(2, 1)
    run.track(net=net)
    for _ in run.steps(6):
        run.every("2 steps")
        net.weight.data.add_(torch.randn(1, 2))
        if run.step == 5:
            stop()
    return net.weight.sum().item()


@corner
def code_before_the_loop(run: Run, stop: Stop) -> float:
    """What is computed and logged there is of the first weights in every attempt."""
    net = nn.Linear(2, 1)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    run.track(net=net, opt=opt)
    before = net.weight.sum().item()
    run.log(before=before)
    for _ in run.steps(4):
        trained(net, run, opt, torch.rand(4, 2))
        if run.step == 2:
            stop()
    run.log(between=net.weight.sum().item())
    for _ in run.steps(4, name="second"):
        trained(net, run, opt, torch.rand(4, 2))
    return net.weight.sum().item() - before


@corner
def stale_gradients(run: Run, stop: Stop) -> float:
    net = nn.Linear(2, 1)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    run.track(net=net, opt=opt)
    net(torch.ones(1, 2)).sum().backward()  # a first pass, to warm up
    for _ in run.steps(4):
        trained(net, run, opt, torch.rand(4, 2))
        if run.step == 2:
            stop()
    return net.weight.sum().item()


class Both:
    def __init__(self) -> None:
        self.net = nn.Linear(2, 1)
        self.opt = torch.optim.SGD(self.net.parameters(), lr=0.1)

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "opt": self.opt.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.opt.load_state_dict(state["opt"])


@corner
def composite(run: Run, stop: Stop) -> float:
    """Gradients are added up over turns, in an object that holds all."""
    both = Both()
    run.track(both=both)
    for turn in run.steps(6):
        both.net(torch.rand(4, 2)).pow(2).mean().backward()
        if turn % 3 == 2:
            both.opt.step()
            both.opt.zero_grad()
        if turn == 3:
            stop()
    return both.net.weight.sum().item()


@corner
def bare_weight(run: Run, stop: Stop) -> float:
    weight = nn.Parameter(torch.ones(2))
    opt = torch.optim.SGD([weight], lr=0.1)
    kept = nn.ParameterList([weight])
    run.track(kept=kept, opt=opt)
    for turn in run.steps(6):
        (weight * torch.rand(2)).pow(2).sum().backward()
        if turn % 3 == 2:
            opt.step()
            opt.zero_grad()
        if turn == 3:
            stop()
    return weight.sum().item()


class Master(torch.optim.Optimizer):
    """Keeps its weights in float32, beside those in bfloat16."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.01})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for weight in self.param_groups[0]["params"]:
            state = self.state[weight]
            state.setdefault("master", weight.float())
            state.setdefault("count", torch.zeros((), dtype=torch.int64))
            state["count"] += 1
            state["master"] -= 0.01 * weight.grad.float()
            weight.copy_(state["master"])


@corner
def master_weights(run: Run, stop: Stop) -> list[float]:
    net = nn.Linear(2, 1, dtype=torch.bfloat16)
    opt = Master(net.parameters())
    run.track(net=net, opt=opt)
    for _ in run.steps(6):
        net(torch.rand(4, 2, dtype=torch.bfloat16)).pow(2).mean().backward()
        opt.step()
        opt.zero_grad()
        if run.step == 3:
            stop()
    state = opt.state[net.weight]
    return [
        state["master"].sum().item(),
        float(state["count"]),
        str(state["master"].dtype) == "torch.float32",
    ]


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.calls = [0]

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls[0] += 1
        return (inputs * self.weight).sum() * self.calls[0]

    def get_extra_state(self) -> Any:
        return {"calls": self.calls}

    def set_extra_state(self, state: Any) -> None:
        self.calls = state["calls"]


@corner
def extra_state(run: Run, stop: Stop) -> list[float]:
    net = Counting()
    run.track(net=net)
    net(torch.ones(2))
    for _ in run.steps(5):
        with torch.no_grad():
            net.weight += net(torch.rand(2)) * 0.01
        if run.step == 2:
            stop()
    return [net.weight.sum().item(), net.calls[0]]


@corner
def toggles(run: Run, stop: Stop) -> float:
    """A part is frozen, and another evaluates, from a turn on."""
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 1))
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    run.track(net=net, opt=opt)
    for _ in run.steps(8):
        if run.step == 3:
            net[0].requires_grad_(False)
            net[1].eval()
            net[2].eval()
        trained(net, run, opt, torch.rand(4, 2))
        if run.step == 4:
            stop()
    return sum(weight.sum().item() for weight in net.parameters())


class Traced(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(2), persistent=False)
        self.register_buffer("constant", torch.ones(2), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(0.1 * inputs)
        return self.mean * self.constant


@corner
def changed_buffer(run: Run, stop: Stop) -> float:
    net = Traced()
    run.track(net=net)
    for _ in run.steps(5):
        run.log(mean=net(torch.rand(2)).sum())
        if run.step == 3:
            stop()
    return net.mean.sum().item()


@corner
def sparse(run: Run, stop: Stop) -> float:
    net = nn.Embedding(5, 2, sparse=True)
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    run.track(net=net, opt=opt)
    for turn in run.steps(6):
        if turn % 2 == 0:
            opt.zero_grad()
        net(torch.randint(0, 5, (3,))).pow(2).sum().backward()
        opt.step()
        if turn == 2:
            stop()
    return net.weight.sum().item()


class Growing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.zeros(0)

    def get_extra_state(self) -> Any:
        return {"seen": self.seen}

    def set_extra_state(self, state: Any) -> None:
        self.seen = state["seen"].clone()


@corner
def growing(run: Run, stop: Stop) -> float:
    net = Growing()
    run.track(net=net)
    for _ in run.steps(5):
        net.seen = torch.cat([net.seen, torch.rand(1)])
        if run.step == 3:
            stop()
    return net.seen.sum().item()


@corner
def sequence_of_its_own(run: Run, stop: Stop) -> list[float]:
    seen = run.state(items=[])
    for item in run.steps(deque([1, 2, 3, 4])):
        seen.items = [*seen.items, item]
        if item == 2:
            stop()
    return list(seen.items)


class Numbers(torch.utils.data.IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(8))


@corner
def stream_that_ended(run: Run, stop: Stop) -> list[float]:
    """Stopped after a loop over one epoch, whose stream would give the next one."""
    seen = run.state(items=[])
    stream = run.batches(Numbers(), batch_size=2)
    for batch in run.steps(stream, name="one"):
        seen.items = [*seen.items, float(batch.sum())]
    stop()
    for batch in run.steps(stream, name="other"):
        seen.items = [*seen.items, -float(batch.sum())]
    return list(seen.items)


@corner
def added_group(run: Run, stop: Stop) -> float:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    opt = torch.optim.AdamW(net[1].parameters(), lr=0.01)
    opt.add_param_group({"params": list(net[0].parameters()), "lr": 0.1})
    run.track(net=net, opt=opt)
    for _ in run.steps(5):
        trained(net, run, opt, torch.rand(4, 2))
        if run.step == 3:
            stop()
    return sum(weight.sum().item() for weight in net.parameters())


@corner
def lazy(run: Run, stop: Stop) -> float:
    """It learns its shape in the first turn."""
    net = nn.LazyLinear(1)
    run.track(net=net)
    for _ in run.steps(4):
        value = net(torch.rand(1, 3))
        with torch.no_grad():
            net.weight += 0.1 * value
        if run.step == 2:
            stop()
    return net.weight.sum().item()
