"""What `run` offers a task, in the order of the class."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from crown_exp import Config, Run
from tests.running import Lab

NET = {"model": {"_target_": "torch.nn.Linear", "in_features": 4, "out_features": 2}}
SGD = {"optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}


def data(samples: int = 24) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, 4, generator=generator)
    return TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())


# --- what it is called with -------------------------------------------------------------------------


def test_groups_and_values_by_name(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module], *, lr: float, words: list[str]) -> dict[str, Any]:
        return {
            "lr": lr, "words": words, "target": model.target, "out": model["out_features"],
            "id": run.id, "name": run.name, "seed": run.seed, "attempt": run.attempt,
            "resumed": run.resumed, "folder": str(run.folder), "config": run.config["task"]["lr"],
            "shown": repr(model),
        }  # fmt: skip

    config = NET | {"seed": 7, "task": {"lr": 0.5, "words": ["a", "b"]}}
    ended = lab.run(task, config, bound=("model",))
    assert ended.ending.result == {
        "lr": 0.5, "words": ["a", "b"], "target": "torch.nn.Linear", "out": 2,
        "id": ended.id, "name": "test", "seed": 7, "attempt": 1,
        "resumed": False, "folder": str(lab.blobs.local_path(f"runs/{ended.id}")), "config": 0.5,
        "shown": "Config(model=torch.nn.Linear, {'in_features': 4, 'out_features': 2})",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["cfg", "config"])
def test_the_whole_config(lab: Lab, name: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"def task(run, {name}): return [{name}.seed, {name}.model.out_features]", scope)
    assert lab.run(scope["task"], NET).ending.result == [0, 2]


# --- build ------------------------------------------------------------------------------------------


def test_build(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module], optimizer: Config[torch.optim.SGD]) -> list[Any]:
        net = run.build(model, bias=False)
        opt = run.build(optimizer, params=net.parameters())
        return [net.bias is None, str(net.weight.device), opt.param_groups[0]["lr"]]

    ended = lab.run(task, NET | SGD, ("model", "optimizer"))
    assert ended.ending.result == [True, "cpu", 0.1]


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ({}, {}, "missing 1 required positional argument: 'out_features'"),
        ({"out_features": 2, "depth": 3}, {}, "unexpected keyword argument 'depth'"),
        ({"out_features": 2}, {"depth": 3}, "unexpected keyword argument 'depth'"),
        ({"_target_": "torch.nn.Lineal"}, {}, "_target_=torch.nn.Lineal: torch.nn has no 'Lineal'"),
        ({"_target_": None}, {}, "model names no _target_; choose an option of that group"),
    ],
)
def test_build_with_what_does_not_fit(
    lab: Lab, change: dict[str, Any], arguments: dict[str, Any], words: str
) -> None:
    def task(run: Run, model: Config[nn.Module]) -> None:
        run.build(model, **arguments)

    group = {"_target_": "torch.nn.Linear", "in_features": 4} | change
    ended = lab.run(task, {"model": group}, ("model",))
    assert (ended.code, ended.state) == (1, "failed")
    assert words in ended.ending.error
    assert "Traceback" not in ended.said
    assert "test_contract.py" in ended.said  # where it was asked for


def test_build_of_a_group_without_an_option(lab: Lab) -> None:
    def task(run: Run, teacher: Config[nn.Module]) -> None:
        run.build(teacher)

    for nothing in (None, {}):
        ended = lab.run(task, {"teacher": nothing}, ("teacher",))
        assert ended.code == 1
        assert "teacher names no _target_; choose an option of that group" in ended.ending.error


class Particular(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        raise TypeError("I take nothing but trouble")


def test_a_type_error_from_within_is_the_user_s(lab: Lab) -> None:
    lab_module = {"model": {"_target_": f"{__name__}.Particular"}}

    def task(run: Run, model: Config[nn.Module]) -> None:
        run.build(model)

    ended = lab.run(task, lab_module, ("model",))
    assert ended.ending.error == "TypeError: I take nothing but trouble"
    assert "in __init__" in ended.said


def test_build_inner_targets_partials_and_lists(lab: Lab) -> None:
    tree = {
        "_target_": "torch.nn.Sequential",
        "_args_": [
            {"_target_": "torch.nn.Linear", "in_features": 4, "out_features": 3},
            {"_target_": "torch.nn.ReLU"},
        ],
    }

    def task(run: Run, model: Config[nn.Module]) -> list[Any]:
        relu = run.build({"_target_": "torch.nn.functional.leaky_relu", "_partial_": True})
        raw = run.build({"_target_": "builtins.dict", "_recursive_": False, "a": {"_target_": "x"}})
        return [str(run.build(model)), float(relu(torch.tensor(-1.0))), raw]

    shown, leaky, raw = lab.run(task, {"model": tree}, ("model",)).ending.result
    assert shown.startswith("Sequential(\n  (0): Linear(in_features=4")
    assert leaky == pytest.approx(-0.01)
    assert raw == {"a": {"_target_": "x"}}


def test_build_and_batches_from_the_whole_config(lab: Lab) -> None:
    def task(run: Run, cfg: Any) -> list[Any]:
        net = run.build(cfg.model)
        batches = run.batches(cfg.dataset, batch_size=2, split="test", train=False)
        return [type(net).__name__, net.normalized_shape, len(batches)]

    config = {
        "width": 3,
        "model": {"_target_": "torch.nn.LayerNorm", "normalized_shape": [2, "${width}"]},
        "dataset": {"_target_": f"{__name__}.Split", "sizes": [4, 6]},
    }
    assert lab.run(task, config).ending.result == ["LayerNorm", [2, 3], 3]


class Split:
    def __init__(self, sizes: list[int], split: str = "train") -> None:
        assert type(sizes) is list
        self.size = sizes[split == "test"]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index


def test_build_of_what_is_no_config(lab: Lab) -> None:
    ended = lab.run(lambda run: run.build({"a": 1}))
    assert ended.ending.error.startswith("run.build: a dict names no _target_")


# --- track and state --------------------------------------------------------------------------------


def test_a_module_that_is_not_tracked(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> None:
        run.build(model)
        for _ in run.steps(1):
            pass

    ended = lab.run(task, NET, ("model",))
    assert (ended.code, ended.ending.step) == (1, 0)
    assert "Linear was made by run.build but is not tracked: run.track(net=…)" in ended.said


def test_modules_tracked_within_others_and_those_without_parameters(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> int:
        both = nn.ModuleList([run.build(model), run.build(model)])
        run.build({"_target_": "torch.nn.ReLU"})
        run.track(both=both)
        return sum(1 for _ in run.steps(2))

    assert lab.run(task, NET, ("model",)).ending.result == 2


def test_track_takes_each_name_once_and_what_has_a_state(lab: Lab) -> None:
    def twice(run: Run) -> None:
        run.track(net=nn.Linear(1, 1))
        run.track(net=nn.Linear(1, 1))

    def number(run: Run) -> None:
        run.track(best=0.5)

    assert "net is tracked already" in lab.run(twice).ending.error
    assert "small values go to run.state(best=…)" in lab.run(number).ending.error


def test_state(lab: Lab) -> None:
    def task(run: Run) -> dict[str, Any]:
        state = run.state(best=0.0, names=["a"], note=None)
        state.best = 0.5
        state.names = [*state.names, "b"]
        return state.state_dict()

    assert lab.run(task).ending.result == {"best": 0.5, "names": ["a", "b"], "note": None}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("run.state(w=torch.zeros(2))", "run.state: w is a Tensor; a number, string or list"),
        ("run.state(w={'a': 1})", "run.state: w is a dict"),
        ("run.state(w=[1, object()])", "run.state: w is a list"),
        ("run.state(w=1).w = {1}", "run.state: w is a set"),
        ("run.state(w=1).v = 2", "run.state has no 'v' (it has w): name it in run.state(v=…)"),
        ("run.state(state_dict=1)", "state_dict cannot be a name here"),
        ("run.state(a=1); run.state(a=2)", "state(a) is tracked already"),
    ],
)
def test_state_of_what_cannot_be_kept(lab: Lab, code: str, words: str) -> None:
    ended = lab.run(lambda run: exec(code, {"run": run, "torch": torch}))
    assert ended.code == 1
    assert words in ended.ending.error
    assert "Traceback" not in ended.said


# --- log --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, 1.0),
        (True, 1.0),
        (0.25, 0.25),
        (np.float32(0.5), 0.5),
        (np.int8(-3), -3.0),
        (np.bool_(True), 1.0),
        (np.array([[2.0]]), 2.0),
        (torch.tensor([[1.5]], requires_grad=True), 1.5),
        (torch.tensor(7), 7.0),
        (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
    ],
)
def test_log(lab: Lab, value: Any, kept: float) -> None:
    assert lab.run(lambda run: run.log(x=value)).points == [(0, {"x": kept})]


def test_log_of_nan(lab: Lab) -> None:
    ((_, values),) = lab.run(lambda run: run.log(x=torch.tensor(math.nan), y=1)).points
    assert math.isnan(values["x"])
    assert values["y"] == 1


def test_log_keeps_what_the_value_was(lab: Lab) -> None:
    def task(run: Run) -> None:
        value = torch.tensor(1.0)
        run.log(x=value)
        value.add_(1)
        run.log(x=value)

    assert [values["x"] for _, values in lab.run(task).points] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("high", "x is a str; expected a number or a tensor of one element"),
        (None, "x is a NoneType"),
        ([1.0], "x is a list"),
        ({"a": 1}, "x is a dict"),
        (torch.zeros(2, 3), "x is a tensor of shape (2, 3)"),
        (torch.zeros(0), "x is a tensor of shape (0,)"),
        (torch.tensor(1j), "x is a tensor of shape () and torch.complex64"),
        (np.zeros((2, 2)), "x is a ndarray"),
        (np.str_("3"), "x is a str_"),
        (1j, "x is a complex"),
        (10**400, "x is an integer beyond what a float can hold"),
    ],
)
def test_log_of_what_is_no_number(lab: Lab, value: Any, words: str) -> None:
    ended = lab.run(lambda run: run.log(x=value))
    assert (ended.code, ended.state) == (1, "failed")
    assert words in ended.ending.error
    assert "Traceback" not in ended.said


# --- backward, update, split ------------------------------------------------------------------------


def trained(run: Run, model: Config[nn.Module], optimizer: Config[torch.optim.SGD]) -> list[float]:
    """Weights after 6 turns over batches of 8, in as many parts as asked for."""
    net = run.build(model)
    opt = run.build(optimizer, params=net.parameters())
    run.track(net=net, opt=opt)
    for batch in run.steps(run.batches(data(), batch_size=8), 6):
        for inputs, labels in run.split(batch):
            run.backward(F.cross_entropy(net(inputs), labels))
        run.update(opt, clip=1.0)
    return [*net.weight.flatten().tolist(), *net.bias.tolist()]


@pytest.mark.parametrize("parts", [2, 3, 8])  # 3 parts of 8 samples: 3, 3 and 2
def test_parts_equal_the_whole_batch(lab: Lab, parts: int) -> None:
    bound = ("model", "optimizer")
    whole = lab.run(trained, NET | SGD, bound)
    cut = lab.run(trained, NET | SGD | {"device": {"accumulate": parts}}, bound)
    assert whole.code == cut.code == 0, cut.said
    assert cut.ending.result == pytest.approx(whole.ending.result, rel=1e-5, abs=1e-7)
    (attempt,) = cut.facts.attempts
    assert attempt.numerics["accumulate"] == parts


def test_more_parts_than_samples(lab: Lab) -> None:
    ended = lab.run(trained, NET | SGD | {"device": {"accumulate": 9}}, ("model", "optimizer"))
    assert ended.ending.error == "cannot cut a batch of 8 samples into 9 parts"


def test_accumulation_without_split(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module], optimizer: Config[torch.optim.SGD]) -> None:
        net = run.build(model)
        run.track(net=net)
        for inputs, labels in run.steps(run.batches(data(), batch_size=8), 6):
            run.backward(F.cross_entropy(net(inputs), labels))

    config = NET | SGD | {"device": {"accumulate": 2}}
    ended = lab.run(task, config, ("model", "optimizer"))
    assert (ended.code, ended.ending.step) == (1, 0)
    assert "for part in run.split(batch): run.backward(loss(part))" in ended.ending.error


def test_two_optimizers_each_with_its_parts(lab: Lab) -> None:
    def task(run: Run) -> list[list[float]]:
        nets = [nn.Linear(4, 2), nn.Linear(4, 2)]
        opts = [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]
        run.track(**{f"net{n}": net for n, net in enumerate(nets)})
        for batch in run.steps(run.batches(data(), batch_size=8), 2):
            for net, opt in zip(nets, opts, strict=True):
                for inputs, labels in run.split(batch):
                    run.backward(F.cross_entropy(net(inputs), labels))
                run.update(opt)
        return [net.weight.flatten().tolist() for net in nets]

    whole = lab.run(task)
    cut = lab.run(task, {"device": {"accumulate": 4}})
    for one, other in zip(whole.ending.result, cut.ending.result, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite(lab: Lab, value: float) -> None:
    weights: list[Tensor] = []

    def task(run: Run, model: Config[nn.Module]) -> None:
        net = run.build(model)
        opt = torch.optim.SGD(net.parameters(), lr=0.1)
        run.track(net=net)
        for turn in run.steps(10):
            loss = net(torch.ones(1, 4)).sum()
            weights[:] = [net.weight.detach().clone(), net.weight.detach()]
            run.backward(loss * 0 + value if turn == 4 else loss)
            run.update(opt)

    ended = lab.run(task, NET, ("model",))
    assert (ended.code, ended.state, ended.ending.step) == (79, "failed", 4)
    assert ended.ending.error == f"the loss is {value} in turn 5; the last good step is 4"
    before, after = weights
    assert torch.equal(before, after)
    assert "test_contract.py" in ended.said


def test_a_loss_that_is_none(lab: Lab) -> None:
    def number(run: Run) -> None:
        run.backward(0.5)  # type: ignore[arg-type]

    def vector(run: Run) -> None:
        run.backward(torch.ones(3, requires_grad=True) * 2)

    assert "expected a loss, a tensor, got float" in lab.run(number).ending.error
    assert "grad can be implicitly created only for scalar outputs" in lab.run(vector).ending.error


def test_update_tells_the_norm_it_clipped(lab: Lab) -> None:
    def task(run: Run) -> list[float]:
        weight = nn.Parameter(torch.tensor([3.0, 4.0]))
        opt = torch.optim.SGD([weight], lr=1.0)
        run.backward((weight * weight).sum() / 2)
        norm = run.update(opt, clip=1.0)
        assert norm is not None and weight.grad is None
        run.backward((weight * weight).sum() / 2)
        return [float(norm), *weight.tolist(), float(run.update(opt) is None)]

    assert lab.run(task).ending.result == pytest.approx([5.0, 2.4, 3.2, 1.0], rel=1e-5)


# --- precision --------------------------------------------------------------------------------------


def test_bf16_computes_in_bfloat16_and_keeps_weights_in_float32(lab: Lab) -> None:
    def task(run: Run, model: Config[nn.Module]) -> list[Any]:
        net = run.build(model)
        average = copy.deepcopy(net)
        with torch.no_grad():
            average.weight.zero_()
            average.bias.zero_()
        out = net(torch.ones(1, 4))
        with run.autocast():
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        outside = torch.ones(2, 2) @ torch.ones(2, 2)
        return [
            str(out.dtype), str(net.weight.dtype), str(product.dtype), str(outside.dtype),
            average(torch.ones(1, 4)).abs().sum(), [*net.state_dict()],
        ]  # fmt: skip

    ended = lab.run(task, NET | {"device": {"precision": "bf16"}}, ("model",))
    assert ended.ending.result == [
        "torch.float32", "torch.float32", "torch.bfloat16", "torch.float32", 0.0, ["weight", "bias"],
    ]  # fmt: skip
    (attempt,) = ended.facts.attempts
    assert attempt.numerics["precision"] == "bf16"
    assert "cpu (auto: no GPU here; bf16: device.precision=bf16)" in ended.said


def test_training_in_bf16(lab: Lab) -> None:
    config = NET | SGD | {"device": {"precision": "bf16"}}
    exact = lab.run(trained, NET | SGD, ("model", "optimizer"))
    ended = lab.run(trained, config, ("model", "optimizer"))
    assert ended.code == 0
    assert ended.ending.result == pytest.approx(exact.ending.result, rel=0.1, abs=0.02)
    assert ended.ending.result != exact.ending.result
