"""What torch tells of a machine, with a fake of what it asks the drivers at the edge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from crown_exp.devices import choose, probe
from crown_exp.devices.probe import TorchProbe
from crown_exp.errors import ConfigError

WISH = {"kind": "auto", "precision": "auto", "deterministic": False, "compile": False}


class Edge:
    """What a made-up machine answers to torch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def cuda(self, *capabilities: tuple[int, int]) -> None:
        def capability(index: int = 0) -> tuple[int, int]:
            return capabilities[index]

        self.monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
        self.monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        self.monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
        self.monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA A100-SXM4-80GB")

    def mps(self, macos: str | None, scaler: bool = True) -> None:
        def has_kernel(name: str, key: str) -> bool:
            return scaler if (name, key) == ("aten::_amp_update_scale_", "MPS") else True

        self.monkeypatch.setattr(torch.backends.mps, "is_available", lambda: macos is not None)
        self.monkeypatch.setattr(torch.backends.mps, "get_name", lambda: "Apple M2 Pro")
        self.monkeypatch.setattr(probe.platform, "mac_ver", lambda: (macos or "", ("", "", ""), ""))
        self.monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", has_kernel)


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Edge:
    edge = Edge(monkeypatch)
    edge.cuda()
    edge.mps(None)
    return edge


def test_a_machine_without_a_gpu(edge: Edge) -> None:
    choice = choose(WISH, TorchProbe())
    assert (choice.device, choice.precision) == ("cpu", "fp32")
    assert choice.name
    for kind in ("cuda", "mps"):
        with pytest.raises(ConfigError, match=f"device: {kind} is not .*; expected auto, cpu$"):
            choose(WISH | {"kind": kind}, TorchProbe())


def test_the_weakest_of_several_gpus_decides(edge: Edge) -> None:
    edge.cuda((9, 0), (7, 5))
    choice = choose(WISH, TorchProbe())
    assert (choice.device, choice.precision, choice.tf32) == ("cuda", "fp16", False)
    with pytest.raises(ConfigError, match=r"bf16 is not available on this cuda"):
        choose(WISH | {"precision": "bf16"}, TorchProbe())  # torch would emulate it
    edge.cuda((9, 0), (8, 0))
    choice = choose(WISH, TorchProbe())
    assert (choice.precision, choice.tf32, choice.name) == ("bf16", True, "NVIDIA A100-SXM4-80GB")


@pytest.mark.parametrize(
    ("macos", "scaler", "precisions"),
    [
        ("15.1", True, {"fp32", "bf16", "fp16"}),
        ("14.0", True, {"fp32", "bf16", "fp16"}),
        ("13.6", True, {"fp32", "fp16"}),
        ("15.1", False, {"fp32"}),
    ],
)
def test_a_mac(edge: Edge, macos: str, scaler: bool, precisions: set[str]) -> None:
    edge.mps(macos, scaler)
    choice = choose(WISH, TorchProbe())
    assert (choice.device, choice.precision, choice.name) == ("mps", "fp32", "Apple M2 Pro")
    for precision in ("fp32", "tf32", "bf16", "fp16"):
        asked = WISH | {"precision": precision}
        if precision in precisions:
            assert choose(asked, TorchProbe()).precision == precision
        else:
            with pytest.raises(ConfigError, match=f"{precision} is not available on this mps"):
                choose(asked, TorchProbe())
    with pytest.raises(ConfigError, match="mps runs one process, 2 were started"):
        choose(WISH, TorchProbe(), processes=2)


def test_a_mac_of_a_torch_that_does_not_name_it(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge.mps("15.1")
    monkeypatch.delattr(torch.backends.mps, "get_name")
    assert TorchProbe().name("mps") == "Apple GPU"


def test_what_compiles(edge: Edge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "Python.h").touch()
    tools: dict[str, Any] = {"g++": "/usr/bin/g++", "clang++": "/usr/bin/clang++"}
    monkeypatch.setattr(probe.shutil, "which", tools.get)
    monkeypatch.setattr(probe.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(probe, "find_spec", lambda name: object())
    edge.cuda((8, 0))
    assert TorchProbe().compiles("cpu") == TorchProbe().compiles("cuda") == ""
    assert TorchProbe().compiles("mps") == "torch.compile does not know mps well enough yet"
    assert TorchProbe({"CXX": "icpx"}).compiles("cpu") == "no C++ compiler (icpx) is installed"
    edge.cuda((6, 1))
    assert "compute capability 7.0" in TorchProbe().compiles("cuda")
    monkeypatch.setattr(probe, "find_spec", lambda name: None)
    assert TorchProbe().compiles("cuda") == "Triton is not installed"
    (tmp_path / "Python.h").unlink()
    assert "Python.h" in TorchProbe().compiles("cpu")
    tools.clear()
    assert TorchProbe().compiles("cpu").startswith("no C++ compiler (")


@pytest.mark.parametrize(
    ("python", "version", "reads"),
    [
        ((3, 11, 4), "2.4.0", True),
        ((3, 13, 5), "2.5.1+cpu", False),
        ((3, 13, 5), "2.6.0", True),
        ((3, 14, 0), "2.9.1", False),
        ((3, 14, 0), "2.13.0a0+git", True),
        ((3, 15, 0), "2.13.0", False),
    ],
)
def test_pythons_that_torch_reads(
    monkeypatch: pytest.MonkeyPatch, python: tuple[int, ...], version: str, reads: bool
) -> None:
    monkeypatch.setattr(probe.sys, "version_info", python)
    monkeypatch.setattr(torch, "__version__", version)
    assert (probe.unread_python() == "") == reads


def test_what_torch_tells_of_this_machine() -> None:
    told = TorchProbe()
    assert (told.cuda() is not None) == torch.cuda.is_available()
    assert (told.mps() is not None) == torch.backends.mps.is_available()
    assert told.name("cpu")


def test_asking_imports_no_compiler() -> None:
    code = (
        "import sys; from crown_exp.devices.probe import TorchProbe\n"
        "asked = TorchProbe(); asked.compiles('cpu'); asked.name('cpu'); asked.mixes('mps')\n"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'accelerate') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
