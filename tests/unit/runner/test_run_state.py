"""What is taken of a run between two turns, and put back: what the whole runs of test_resume do not reach."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from crown_exp.checkpoints.tree import difference, flatten
from crown_exp.devices import Choice
from crown_exp.devices.precision import Precision
from crown_exp.errors import TaskError
from crown_exp.runner.resuming import Resuming, adjusted
from crown_exp.runner.run_state import RunState


def fp16() -> Precision:
    """torch's scaler works on the CPU, too; a run refuses fp16 there, as it is slow."""
    return Precision(Choice("cpu", "fp16", False, False, ""))


def put_back(state: dict[str, Any], run: RunState) -> list[str]:
    said: list[str] = []
    Resuming(state, 3, forked=False, say=said.append).all(run)
    return said


def trained(run: RunState, precision: Precision, turns: int) -> None:
    net, opt = run.tracked["net"], run.tracked["opt"]
    for _ in range(turns):
        precision.backward(net(torch.ones(1, 2)).sum())
        precision.update(opt, None)


def tracked(precision: Precision) -> RunState:
    run = RunState(chosen=lambda: precision, choose=lambda: precision)
    torch.manual_seed(0)
    net = nn.Linear(2, 2)
    run.track("net", net)
    run.track("opt", torch.optim.SGD(net.parameters(), lr=0.1))
    return run


def test_the_scale_of_fp16_goes_on_where_it_was() -> None:
    precision, again = fp16(), fp16()
    precision.scaler.set_growth_interval(3)
    again.scaler.set_growth_interval(3)
    run = tracked(precision)
    trained(run, precision, 5)
    state = run.take()
    other = tracked(again)
    assert put_back(state, other) == []
    assert again.scaler.get_scale() == precision.scaler.get_scale() > 65536.0
    trained(run, precision, 2)
    trained(other, again, 2)
    assert again.scaler.get_scale() == precision.scaler.get_scale()  # it grew at the same turn
    assert difference(flatten(run.take(), ""), flatten(other.take(), "")) == ""


def test_without_the_saved_scale_it_would_not() -> None:
    precision, again = fp16(), fp16()
    precision.scaler.set_growth_interval(3)
    run = tracked(precision)
    trained(run, precision, 5)
    put_back(run.take() | {"scaler": {}}, tracked(again))
    assert again.scaler.get_scale() != precision.scaler.get_scale()


# --- what is refused ------------------------------------------------------------------------------------


def test_a_name_is_tracked_once_and_what_has_no_state_is_refused() -> None:
    run = RunState()
    run.track("net", nn.Linear(1, 1))
    with pytest.raises(TaskError, match="net is tracked already"):
        run.track("net", nn.Linear(1, 1))
    with pytest.raises(TaskError, match="number is a int without state_dict"):
        run.track("number", 3)


# --- forks ----------------------------------------------------------------------------------------------


def test_numbers_that_were_chosen_anew_replace_those_of_a_state() -> None:
    old = {"groups": [{"lr": 0.1, "betas": [0.9, 0.99], "foreach": None, "nesterov": False}]}
    new = {"groups": [{"lr": 0.01, "betas": [0.8, 0.99], "foreach": None, "nesterov": True}]}
    saved = {
        "groups": [{"lr": 0.05, "betas": (0.9, 0.99), "foreach": None, "nesterov": False}],
        "more": 3,
    }
    assert adjusted(saved, old, new) == {
        "groups": [
            {"lr": pytest.approx(0.005), "betas": (0.8, 0.99), "foreach": None, "nesterov": True}
        ],
        "more": 3,
    }
    assert adjusted(saved, old, old) == saved
