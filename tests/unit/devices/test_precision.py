"""Backward and update with a scaler, and torch's switches: set for a run, put back after it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from crown_exp.devices import Choice
from crown_exp.devices.precision import Precision, torch_globals

START = 8.0


def scaled(growth_interval: int = 1) -> Precision:
    """Precision with fp16's scaler, which torch runs on the CPU as well; weights stay in float32."""
    precision = Precision(Choice("cpu", "fp16", False, False, ""))
    precision.scaler = torch.amp.GradScaler(
        "cpu", init_scale=START, growth_interval=growth_interval
    )
    return precision


def player(value: float) -> tuple[nn.Parameter, torch.optim.SGD]:
    weight = nn.Parameter(torch.tensor([value]))
    return weight, torch.optim.SGD([weight], lr=1.0)


def test_two_optimizers_whose_gradients_were_made_with_one_scale() -> None:
    """The scale grows after every iteration, and never between a backward and its update."""
    precision = scaled()
    (one, first), (two, second) = player(1.0), player(1.0)
    for turn in range(1, 4):
        precision.backward((0.25 * one).sum())
        precision.backward((0.125 * two).sum())
        precision.update(first, None)
        precision.update(second, None)
        assert one.item() == 1 - 0.25 * turn
        assert two.item() == 1 - 0.125 * turn
        assert precision.scaler.get_scale() == START * 2 ** (turn - 1)


def test_two_optimizers_one_after_the_other() -> None:
    precision = scaled()
    (one, first), (two, second) = player(1.0), player(1.0)
    for turn in range(1, 4):
        precision.backward((0.25 * one).sum())
        precision.update(first, None)
        precision.backward((0.125 * two).sum())
        precision.update(second, None)
        assert (one.item(), two.item()) == (1 - 0.25 * turn, 1 - 0.125 * turn)


def test_a_gradient_that_is_not_finite_skips_its_step_alone() -> None:
    precision = scaled(growth_interval=100)
    (one, first), (two, second) = player(1.0), player(1.0)
    precision.backward((math.inf * one).sum())
    precision.backward((0.25 * two).sum())
    precision.update(first, None)
    precision.update(second, None)
    assert (one.item(), two.item()) == (1.0, 0.75)
    precision.backward((0.25 * one).sum())
    assert precision.scaler.get_scale() == START / 2
    precision.update(first, None)
    assert one.item() == 0.75


def test_an_optimizer_without_gradients_has_nothing_to_do() -> None:
    precision = scaled()
    weight, optimizer = player(1.0)
    precision.update(optimizer, 1.0)
    precision.backward((0.25 * weight).sum())
    precision.update(optimizer, None)
    precision.update(optimizer, None)
    assert weight.item() == 0.75


@pytest.mark.parametrize(
    "precision", [scaled(), Precision(Choice("cpu", "fp32", False, False, ""))]
)
def test_the_norm_is_of_the_true_gradients(precision: Precision) -> None:
    weight, optimizer = player(1.0)
    precision.backward((4 * weight).sum())
    norm = precision.update(optimizer, clip=0.5)
    assert norm is not None
    assert norm.item() == 4
    assert weight.item() == pytest.approx(0.5)
    assert weight.grad is None


def test_an_optimizers_own_way_to_drop_gradients_is_its_own() -> None:
    class Counting(torch.optim.SGD):
        count = 0

        def zero_grad(self, set_to_none: bool = True) -> None:
            self.count += 1
            super().zero_grad(set_to_none)

    precision = Precision(Choice("cpu", "fp32", False, False, ""))
    weight = nn.Parameter(torch.ones(1))
    optimizer = Counting([weight], lr=1.0)
    precision.backward((0.5 * weight).sum())
    precision.update(optimizer, None)
    assert (weight.item(), weight.grad, optimizer.count) == (0.5, None, 1)


def test_saving_the_scale_changes_nothing_and_restores_it() -> None:
    def trained(saves: bool) -> tuple[float, list[float], dict[str, Any]]:
        precision, scales = scaled(growth_interval=2), []
        weight, optimizer = player(1.0)
        state: dict[str, Any] = {}
        for turn in range(6):
            precision.backward(((math.inf if turn == 3 else 0.125) * weight).sum())
            scales.append(precision.scaler.get_scale())
            precision.update(optimizer, None)
            if saves:
                state = precision.state_dict()
        return weight.item(), scales, state

    (weight, scales, _), (again, same, state) = trained(False), trained(True)
    assert (weight, scales) == (again, same)
    assert scales == [8, 8, 16, 16, 8, 8]
    other = scaled()
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert state["scale"] == 16
    plain = Precision(Choice("cpu", "bf16", False, False, ""))
    assert plain.state_dict() == {}
    plain.load_state_dict({})


# --- torch's switches -------------------------------------------------------------------------------------


def switches() -> dict[str, Any]:
    cudnn = torch.backends.cudnn
    return {
        "matmul": torch.get_float32_matmul_precision(),
        "conv": cudnn.allow_tf32,
        "benchmark": cudnn.benchmark,
        "cudnn": cudnn.deterministic,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
    }


@pytest.fixture
def before() -> Iterator[dict[str, Any]]:
    found = switches()
    yield found
    assert switches() == found


@pytest.mark.parametrize(
    ("tf32", "deterministic"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_the_switches_of_a_run(before: dict[str, Any], tf32: bool, deterministic: bool) -> None:
    with torch_globals(Choice("cpu", "fp32", tf32, deterministic, ""), 1, 1):
        assert switches() == before | {
            "matmul": "high" if tf32 else "highest", "conv": tf32, "benchmark": False,
            "cudnn": deterministic, "deterministic": deterministic, "threads": 1,
        }  # fmt: skip


def test_what_a_task_sets_is_put_back(before: dict[str, Any]) -> None:
    with torch_globals(Choice("cpu", "fp32", False, False, ""), 1, None):
        torch.set_default_device("meta")
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        torch.backends.cudnn.benchmark = True
        torch.set_grad_enabled(False)
    assert torch.utils._device.CURRENT_DEVICE is None  # a device of its own would slow every call


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch before 2.9")
def test_the_newer_switches_for_tf32_cannot_undo_a_choice(before: dict[str, Any]) -> None:
    torch.backends.fp32_precision = "tf32"  # a notebook's own: the older ones cannot be read now
    try:
        with torch_globals(Choice("cuda", "fp32", False, False, ""), 1, None):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            assert torch.backends.cudnn.conv.fp32_precision != "tf32"
            torch.backends.cuda.matmul.fp32_precision = "tf32"  # a task's
        assert torch.backends.fp32_precision == "tf32"
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    finally:
        for name in ("all", "matmul", "conv", "rnn"):
            for backend in ("cuda", "mkldnn"):
                torch._C._set_fp32_precision_setter(backend, name, "none")
        torch.backends.fp32_precision = "none"
        torch.set_float32_matmul_precision(before["matmul"])
        torch.backends.cudnn.allow_tf32 = before["conv"]


# --- where there is a GPU ---------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_a_step_of_training_on_cuda(name: str) -> None:
    precision = Precision(Choice("cuda", name, False, False, ""))
    net = nn.Linear(8, 8, device="cuda")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = net.weight.detach().clone()
    with precision.autocast():
        loss = net(torch.ones(4, 8, device="cuda")).square().mean()
    precision.backward(loss)
    norm = precision.update(optimizer, clip=1.0)
    assert norm is not None
    assert norm.isfinite()
    assert not torch.equal(net.weight, before)
