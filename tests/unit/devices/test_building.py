"""Modules that are built without a second copy of their weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from crown_exp.devices.building import build_on, empty
from crown_exp.errors import TaskError

CPU = torch.device("cpu")


class Net(nn.Module):
    """Of everything: tied weights, buffers of both kinds, whole numbers, first values of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.block = nn.TransformerEncoderLayer(4, 2, 8)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("angles", torch.arange(4.0).cos(), persistent=False)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.weight.data.normal_(std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.block(self.embed(tokens))) * self.angles)
        return out


@pytest.fixture(params=["net.safetensors", "net.pt"])
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.manual_seed(1)
    return saved(Net().state_dict(), tmp_path / request.param)


def saved(state: dict[str, Any], path: Path) -> Path:
    """Written as its name says; safetensors holds no tensor twice."""
    if path.suffix == ".safetensors":
        seen: dict[int, str] = {}
        save_file({n: t for n, t in state.items() if seen.setdefault(t.data_ptr(), n) == n}, path)
    else:
        torch.save(state, path)
    return path


def read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path)


def test_a_module_with_the_weights_of_a_file(weights: Path) -> None:
    torch.manual_seed(2)
    net = build_on(Net, CPU, weights)
    kept = net.state_dict()
    for name, value in read(weights).items():
        assert torch.equal(kept[name], value)
    assert net.head.weight is net.embed.weight
    assert torch.equal(net.angles, torch.arange(4.0).cos())
    assert [p.requires_grad for p in net.parameters()] == [
        p.requires_grad for p in Net().parameters()
    ]
    plain = Net()
    plain.load_state_dict(kept)
    tokens = torch.arange(11)
    assert torch.equal(net.eval()(tokens), plain.eval()(tokens))
    net.train()(tokens).sum().backward()
    assert net.embed.weight.grad is not None


def test_first_values_are_not_drawn(weights: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    build_on(Net, CPU, weights)
    assert torch.equal(torch.get_rng_state(), before)


class RandomFeatures(nn.Module):
    """A buffer that is in no file, and depends on the seed and on what was drawn before it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.register_buffer("directions", torch.randn(4), persistent=False)


def test_a_random_buffer_is_as_if_all_were_built() -> None:
    torch.manual_seed(4)
    plain = RandomFeatures()
    after = torch.get_rng_state()
    torch.manual_seed(4)
    net = empty(RandomFeatures, CPU)
    assert torch.equal(net.directions, plain.directions)
    assert torch.equal(torch.get_rng_state(), after)


def test_without_a_file_it_is_built_as_ever() -> None:
    torch.manual_seed(5)
    plain = Net().state_dict()
    torch.manual_seed(5)
    built = build_on(Net, CPU)
    assert all(torch.equal(value, plain[name]) for name, value in built.state_dict().items())


def test_what_was_made_elsewhere_is_moved() -> None:
    class Elsewhere(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.near = nn.Linear(2, 2)
            self.far = nn.Linear(2, 2, device="cpu")

    net = build_on(
        Elsewhere, torch.device("meta")
    )  # the device that every machine has beside its CPU
    assert {p.device.type for p in net.parameters()} == {"meta"}


def test_what_is_no_module(tmp_path: Path) -> None:
    assert build_on(lambda: {"a": 1}, CPU) == {"a": 1}
    with pytest.raises(TaskError, match="dict is no module to fill"):
        build_on(lambda: {"a": 1}, CPU, tmp_path / "net.pt")


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_the_module_keeps_its_own_dtype(tmp_path: Path, name: str) -> None:
    state = {"weight": torch.rand(3, 2).bfloat16(), "bias": torch.rand(3).double()}
    net = build_on(lambda: nn.Linear(2, 3), CPU, saved(state, tmp_path / name))
    assert {value.dtype for value in net.parameters()} == {torch.float32}
    assert torch.equal(net.weight, state["weight"].float())
    half = build_on(lambda: nn.Linear(2, 3).half(), CPU, tmp_path / name)
    assert torch.equal(half.bias, state["bias"].half())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("bias"), "has no bias"),
        (lambda state: state.update(scale=torch.ones(1)), "has scale, which the module has not"),
        (
            lambda state: state.update({f"x{n}": torch.ones(1) for n in range(5)}),
            "has x0, x1, x2 and 2 more, which the module has not",
        ),
        (
            lambda state: state.update(weight=torch.ones(2, 3)),
            "weight is float32 [2, 3], the module's float32 [3, 2]",
        ),
        (
            lambda state: state.update(bias=torch.ones(3, dtype=torch.int64)),
            "bias is int64 [3], the module's float32 [3]",
        ),
        (
            lambda state: wrapped(state, "module."),
            "has no weight, bias; has module.bias, module.weight, which the module has not; its names "
            "begin with module.: save the state_dict of the module inside",
        ),
        (
            lambda state: wrapped(state, "_orig_mod."),
            "has no weight, bias; has _orig_mod.bias, _orig_mod.weight, which the module has not; its "
            "names begin with _orig_mod.: save the state_dict of the module inside",
        ),
    ],
)
@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
def test_a_file_of_another_module(
    tmp_path: Path, name: str, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    state = dict(nn.Linear(2, 3).state_dict())
    change(state)
    path = saved(dict(sorted(state.items())), tmp_path / name)
    with pytest.raises(TaskError) as caught:
        build_on(lambda: nn.Linear(2, 3), CPU, path)
    assert str(caught.value) == f"weights={path}: {says}"


def wrapped(state: dict[str, Any], prefix: str) -> None:
    for name in list(state):
        state[prefix + name] = state.pop(name)


def test_a_file_of_the_module_inside(tmp_path: Path) -> None:
    path = saved(nn.Linear(2, 3).state_dict(), tmp_path / "net.pt")
    with pytest.raises(
        TaskError, match=r"the module's names begin with 0\.: fill the module inside"
    ):
        build_on(lambda: nn.Sequential(nn.Linear(2, 3)), CPU, path)


def old_format(path: Path) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("net.pt", None, "no such file or directory"),
        ("folder", lambda path: path.mkdir(), "is a directory"),
        ("net.safetensors", lambda path: path.write_bytes(b""), "not a whole .safetensors file"),
        ("net.safetensors", lambda path: path.write_bytes(b"x" * 99), "not a whole .safetensors"),
        ("net.pt", lambda path: path.write_text("some text"), "expected a .safetensors file, or"),
        (
            "net.pt",
            lambda path: path.write_bytes(b"PK\x03\x04xxx"),
            "not a whole file of torch.save",
        ),
        ("net.pt", lambda path: torch.save({"w": len}, path), "holds other things than tensors"),
        ("net.pt", lambda path: torch.save([1], path), "holds a list; save net.state_dict()"),
        (
            "net.pt",
            lambda path: torch.save({"model": {}, "step": 3}, path),
            "expected names and tensors, found model, step; save net.state_dict() alone",
        ),
        ("net.pt", old_format, "expected a .safetensors file, or what torch.save writes"),
    ],
)
def test_what_is_no_file_of_weights(
    tmp_path: Path, name: str, write: Callable[[Path], Any] | None, says: str
) -> None:
    path = tmp_path / name
    if write:
        write(path)
    with pytest.raises(TaskError) as caught:
        build_on(lambda: nn.Linear(2, 3), CPU, path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"weights={path}: ")
    assert says in line


def test_a_file_that_was_cut_short(weights: Path) -> None:
    whole = weights.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 20):
        weights.write_bytes(whole[:length])
        with pytest.raises(TaskError, match="not a whole") as caught:
            build_on(Net, CPU, weights)
        assert "\n" not in str(caught.value)


class Extra(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"seen": 3}


class Hidden(nn.Linear):
    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return {"bias": self.bias}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Extra(2, 3), r"Extra keeps more than tensors \(_extra_state\)"),
        (lambda: Hidden(2, 3), "Hidden leaves weight out of its state_dict"),
        (lambda: nn.LazyLinear(3), "LazyLinear does not know the shape of weight before"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_modules_that_cannot_be_filled(tmp_path: Path, make: Callable[[], Any], says: str) -> None:
    path = saved(nn.Linear(2, 3).state_dict(), tmp_path / "net.pt")
    with pytest.raises(TaskError, match=says):
        build_on(make, CPU, path)


MEASURE = """
import json, sys
from pathlib import Path
import torch
from torch import nn
from crown_exp.devices.building import build_on
from crown_exp.devices.memory import host_peak, peak_memory

kind, path = sys.argv[1:]
device = torch.device("cuda" if kind.startswith("cuda") else "cpu")
def make(layers=4, width=5000):
    return nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))
if kind == "save":
    from safetensors.torch import save_file
    state = make().state_dict()
    torch.save(state, path + ".pt")
    save_file(state, path + ".safetensors")
    sys.exit()
small = make(1, 10)
torch.save(small.state_dict(), path + ".small")
build_on(lambda: make(1, 10), device, Path(path + ".small"))  # what is imported and set up once
before = host_peak()
file = {"plain": None, "pt": Path(path + ".pt"), "safetensors": Path(path + ".safetensors")}[kind.split()[-1]]
net = build_on(make, device, file)
size = sum(p.numel() * p.element_size() for p in net.parameters())
print(json.dumps([host_peak() - before, peak_memory("cuda").get("device", 0), size]))
"""


def measured(kind: str, path: Path) -> list[int]:
    """Growth of the peak on the host, peak on the device, and the size of a 400 MB module."""
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(ran.stdout) if ran.stdout else []


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("big")
    measured("save", folder / "net")
    yield folder / "net"
    for path in folder.iterdir():
        path.unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="macOS counts the pages of a file otherwise")
@pytest.mark.parametrize("kind", ["plain", "pt", "safetensors"])
def test_no_second_copy_is_in_memory(kind: str, big: Path) -> None:
    growth, _, size = measured(kind, big)
    assert 0.9 * size < growth < 1.05 * size


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", ["plain", "pt", "safetensors"])
def test_no_second_copy_is_on_the_gpu_and_none_on_the_host(kind: str, big: Path) -> None:
    growth, peak, size = measured(f"cuda {kind}", big)
    assert size <= peak < 1.05 * size
    assert growth < 0.2 * size
