"""Modules where accelerate puts them, for real: bfloat16 on the CPU."""

from __future__ import annotations

import copy
import os
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from crown_exp.devices import Choice
from crown_exp.devices.placement import Placement
from crown_exp.errors import ConfigError, TaskError

BF16 = Choice("cpu", "bf16", False, False, "")
FP32 = Choice("cpu", "fp32", False, False, "")
ONES = torch.ones(2, 4)


@pytest.fixture
def placement() -> Iterator[Placement]:
    placement = Placement(BF16)
    yield placement
    placement.close()


class Seen(nn.Module):
    """Remembers in which type its product came out."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.dtype: torch.dtype | None = None

    def forward(self, batch: Tensor) -> Any:
        out = self.inner(batch)
        self.dtype = out.dtype
        return self.shape(out)

    def shape(self, out: Tensor) -> Any:
        return out


def test_products_are_in_bfloat16_and_results_and_weights_in_float32(placement: Placement) -> None:
    net = Seen()
    names = list(net.state_dict())
    assert placement.place(net) is net
    out = net(ONES)
    assert (net.dtype, out.dtype) == (torch.bfloat16, torch.float32)
    assert {value.dtype for value in net.state_dict().values()} == {torch.float32}
    assert list(net.state_dict()) == names
    out.sum().backward()
    assert net.inner.weight.grad is not None


def test_float32_needs_no_accelerate() -> None:
    net = Placement(FP32).place(Seen())
    assert net(ONES).dtype == net.dtype == torch.float32
    assert "forward" not in vars(net)


def test_a_deep_copy_computes_with_its_own_weights(placement: Placement) -> None:
    net = placement.place(Seen())
    average = copy.deepcopy(net)
    with torch.no_grad():
        for value in average.parameters():
            value.zero_()
    assert average(ONES).abs().sum() == 0
    assert net(ONES).abs().sum() > 0
    assert average.dtype == torch.bfloat16
    placement.place(average)
    assert average(ONES).abs().sum() == 0


def test_placed_twice_and_around_what_is_placed(placement: Placement) -> None:
    inner = placement.place(Seen())
    forward = inner.forward
    assert placement.place(inner).forward == forward
    outer = placement.place(nn.Sequential(inner, nn.Linear(4, 2)))
    assert outer(ONES).dtype == torch.float32
    assert inner.dtype == torch.bfloat16


def test_a_second_run_in_another_precision() -> None:
    net = Seen()
    first, second = Placement(BF16), Placement(FP32)
    first.place(net)
    first.close()
    second.place(net)
    net(ONES)
    assert net.dtype == torch.float32
    assert not {"forward", "_original_forward", "_is_accelerate_prepared"} & vars(net).keys()
    third = Placement(BF16)
    third.place(net)(ONES)
    assert net.dtype == torch.bfloat16
    third.close()


def test_a_forward_of_the_instance(placement: Placement) -> None:
    replaced, lent, other = Seen(), Seen(), Seen()

    def double(batch: Tensor) -> Tensor:
        return 2 * replaced.inner(batch)

    replaced.forward = double  # type: ignore[method-assign]
    lent.forward = other.forward  # type: ignore[method-assign]
    assert placement.place(replaced)(ONES).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(replaced(ONES), double(ONES).float())
    placement.place(lent)(ONES)
    assert (lent.dtype, other.dtype) == (None, torch.bfloat16)
    placement.close()
    assert replaced.forward is double
    lent(ONES)
    assert (lent.dtype, other.dtype) == (None, torch.float32)


@dataclass
class Both:
    out: Tensor


class Pair(NamedTuple):
    out: Tensor
    count: int


class ModelOutput(OrderedDict[str, Any]):
    """As Hugging Face's: a mapping with attributes."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.out = values["out"]


@pytest.mark.parametrize(
    ("shape", "tensor"),
    [
        (lambda out: {"out": out, "count": 3}, lambda made: made["out"]),
        (lambda out: (out, [out, None]), lambda made: made[1][0]),
        (lambda out: Pair(out, 3), lambda made: made.out),
        (lambda out: ModelOutput({"out": out, "count": 3}), lambda made: made.out),
    ],
)
def test_results_of_other_kinds(placement: Placement, shape: Any, tensor: Any) -> None:
    net = Seen()
    net.shape = shape  # type: ignore[method-assign]
    kind = type(net(ONES))
    made = placement.place(net)(ONES)
    assert type(made) is kind
    assert tensor(made).dtype == torch.float32


def test_results_that_are_handed_through(placement: Placement) -> None:
    net = placement.place(Seen())
    for shape in (lambda out: None, lambda out: out.argmax(), lambda out: "text"):
        net.shape = shape  # type: ignore[method-assign]
        made = net(ONES)
        assert not isinstance(made, Tensor) or made.dtype == torch.int64
    net.shape = lambda out: Both(out)  # type: ignore[method-assign]
    assert net(ONES).out.dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_script_module(placement: Placement) -> None:
    net = placement.place(torch.jit.script(nn.Linear(4, 4)))
    assert net(ONES).dtype == torch.float32
    with pytest.raises(TaskError, match=r"torch\.compile takes no ScriptModule"):
        placement.place(net, compile=True)


def test_nothing_of_accelerate_outlives_a_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState

    # What another program set, and a launcher of several processes: none of it is the run's.
    others = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "OMPI_COMM_WORLD_SIZE": "2"}
    others |= {"ACCELERATE_MIXED_PRECISION": "fp8", "ACCELERATE_TORCH_DEVICE": "meta"}
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    environment = dict(os.environ)
    kinds = (AcceleratorState, PartialState, GradientState)
    assert [dict(kind._shared_state) for kind in kinds] == [{}, {}, {}]
    Placement(BF16).place(Seen())
    assert [dict(kind._shared_state) for kind in kinds] == [{}, {}, {}]
    assert dict(os.environ) == environment

    for name in others:
        monkeypatch.delenv(name)
    try:  # the user's own, of another precision
        theirs = Accelerator(cpu=True, mixed_precision="no")
        net = Placement(BF16).place(Seen())
        net(ONES)
        assert net.dtype == torch.bfloat16
        assert theirs.mixed_precision == "no"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def test_a_module_that_nobody_holds_is_let_go(placement: Placement) -> None:
    import gc
    import weakref

    left = weakref.ref(placement.place(Seen()))
    gc.collect()
    assert left() is None


def test_accelerate_on_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.state import PartialState

    monkeypatch.setattr(PartialState, "default_device", torch.device("cpu"))
    placement = Placement(Choice("mps", "bf16", False, False, ""))
    placement.device = torch.device("cpu")
    with pytest.raises(ConfigError, match=r"device: mps was chosen, but accelerate .* on cpu"):
        placement.place(Seen())


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled(placement: Placement) -> None:
    torch.manual_seed(1)
    net = nn.Linear(4, 4)
    expected = placement.place(copy.deepcopy(net))(ONES)
    from torch._dynamo.utils import counters

    counters.clear()
    placement.place(net, compile=True)
    made = net(ONES)
    assert torch.allclose(made, expected, atol=0.02)
    assert made.dtype == torch.float32
    assert list(net.state_dict()) == ["weight", "bias"]
    assert (counters["stats"]["unique_graphs"], dict(counters["graph_break"])) == (1, {})
    average = copy.deepcopy(net)
    with torch.no_grad():
        average.weight.zero_()
        average.bias.zero_()
    assert average(ONES).abs().sum() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_training_in_bf16_on_cuda() -> None:
    placement = Placement(Choice("cuda", "bf16", True, False, ""))
    net = placement.place(Seen())
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = (net(ONES.cuda()) - 1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert net.dtype == torch.bfloat16
    assert losses[-1] < losses[0]
    placement.close()


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs Apple's GPU")
def test_bf16_on_mps() -> None:
    placement = Placement(Choice("mps", "bf16", False, False, ""))
    net = placement.place(Seen())
    assert net(ONES.to("mps")).dtype == torch.float32
    assert net.dtype == torch.bfloat16
    placement.close()
