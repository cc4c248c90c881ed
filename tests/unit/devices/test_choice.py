"""The rules by which a wish becomes a device, over machines that are made up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from crown_exp.devices import choose
from crown_exp.errors import ConfigError


@dataclass
class Machine:
    capability: tuple[int, int] | None = None
    macos: int | None = None
    obstacle: str = ""
    scaler: bool = True

    def cuda(self) -> tuple[int, int] | None:
        return self.capability

    def mps(self) -> int | None:
        return self.macos

    def mixes(self, device: str) -> bool:
        return device != "mps" or self.scaler

    def compiles(self, device: str) -> str:
        return "torch.compile does not know mps" if device == "mps" else self.obstacle

    def name(self, device: str) -> str:
        return {"cuda": "NVIDIA X", "mps": "Apple Y", "cpu": "a CPU"}[device]


def wish(**asked: Any) -> dict[str, Any]:
    return {
        "kind": "auto", "precision": "auto", "deterministic": False, "compile": False, **asked
    }  # fmt: skip


CPU = Machine()
AMPERE, HOPPER, TURING = Machine((8, 0)), Machine((9, 0)), Machine((7, 5))
SONOMA, VENTURA = Machine(macos=14), Machine(macos=13)

HAS = {
    "cpu": (CPU, ["cpu"], {"cpu": {"fp32", "bf16"}}),
    "ampere": (AMPERE, ["cuda", "cpu"], {"cuda": {"fp32", "tf32", "bf16", "fp16"}, "cpu": {"fp32", "bf16"}}),
    "hopper": (HOPPER, ["cuda", "cpu"], {"cuda": {"fp32", "tf32", "bf16", "fp16"}, "cpu": {"fp32", "bf16"}}),
    "turing": (TURING, ["cuda", "cpu"], {"cuda": {"fp32", "fp16"}, "cpu": {"fp32", "bf16"}}),
    "sonoma": (SONOMA, ["mps", "cpu"], {"mps": {"fp32", "bf16", "fp16"}, "cpu": {"fp32", "bf16"}}),
    "ventura": (VENTURA, ["mps", "cpu"], {"mps": {"fp32", "fp16"}, "cpu": {"fp32", "bf16"}}),
}  # fmt: skip
KINDS = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16")


@pytest.mark.parametrize("name", HAS)
def test_every_wish_is_met_or_refused_with_the_choices(name: str) -> None:
    machine, devices, precisions = HAS[name]
    for kind, precision, deterministic in product(KINDS, PRECISIONS, (False, True)):
        asked = wish(kind=kind, precision=precision, deterministic=deterministic)
        if kind not in ("auto", *devices):
            with pytest.raises(ConfigError, match=f"device: {kind} is not available") as caught:
                choose(asked, machine)
            assert str(caught.value).endswith(f"expected auto, {', '.join(devices)}")
            continue
        device = devices[0] if kind == "auto" else kind
        if precision not in {"auto", *precisions[device]}:
            with pytest.raises(
                ConfigError, match=rf"device\.precision: {precision} is not"
            ) as caught:
                choose(asked, machine)
            told = str(caught.value).partition("expected ")[2].split(", ")
            assert told[0] == "auto"
            assert set(told[1:]) == precisions[device]
            continue
        choice = choose(asked, machine)
        assert choice.device == device
        assert choice.precision in precisions[device]
        assert precision in ("auto", choice.precision)
        assert choice.deterministic == deterministic
        assert "tf32" in precisions[device] or not choice.tf32
        assert "\n" not in choice.reason


@pytest.mark.parametrize(
    ("machine", "kind", "device", "precision"),
    [
        (CPU, "auto", "cpu", "fp32"),
        (AMPERE, "auto", "cuda", "bf16"),
        (TURING, "auto", "cuda", "fp16"),
        (SONOMA, "auto", "mps", "fp32"),
        (Machine((9, 0), 15), "auto", "cuda", "bf16"),
        (AMPERE, "cpu", "cpu", "fp32"),
    ],
)
def test_what_auto_takes(machine: Machine, kind: str, device: str, precision: str) -> None:
    choice = choose(wish(kind=kind), machine)
    assert (choice.device, choice.precision) == (device, precision)


@pytest.mark.parametrize(
    ("machine", "precision", "deterministic", "tf32"),
    [
        (AMPERE, "bf16", False, True),
        (AMPERE, "bf16", True, False),
        (AMPERE, "fp32", False, False),  # fp32 means fp32
        (AMPERE, "tf32", False, True),
        (AMPERE, "tf32", True, True),  # asked for by name
        (TURING, "fp16", False, False),
        (CPU, "bf16", False, False),
    ],
)
def test_tf32(machine: Machine, precision: str, deterministic: bool, tf32: bool) -> None:
    choice = choose(wish(precision=precision, deterministic=deterministic), machine)
    assert choice.tf32 == choice.numerics()["tf32"] == tf32


def test_the_reason_says_why() -> None:
    assert choose(wish(), CPU).reason == "auto: no GPU here; fp32: the default on cpu"
    told = "auto: cuda is here; bf16: the default on cuda; NVIDIA X"
    assert choose(wish(), AMPERE).reason == told
    asked = wish(kind="cpu", precision="bf16")
    assert choose(asked, AMPERE).reason == "device=cpu; bf16: device.precision=bf16"
    asked = wish(compile="auto")
    assert choose(asked, AMPERE).reason == f"{told}; compile: auto"
    assert choose(asked, CPU).reason.endswith("; not compiled: auto compiles on cuda only")
    lacking = Machine((8, 0), obstacle="Triton is not installed")
    assert choose(asked, lacking).reason == f"{told}; not compiled: Triton is not installed"
    assert choose(wish(compile=True), CPU).reason.endswith("; compiled: device.compile=true")


@pytest.mark.parametrize(
    ("machine", "compiled"),
    [(AMPERE, "auto"), (Machine((8, 0), obstacle="no"), False), (CPU, False), (SONOMA, False)],
)
def test_what_auto_compiles(machine: Machine, compiled: bool | str) -> None:
    choice = choose(wish(compile="auto"), machine)
    assert choice.compile == choice.numerics()["compile"] == compiled
    assert choose(wish(), machine).compile is False


@pytest.mark.parametrize(
    ("machine", "line"),
    [
        (
            Machine(obstacle="no C++ compiler (g++) is installed"),
            "device.compile: true is not possible on this cpu: no C++ compiler (g++) is installed; "
            "expected false",
        ),
        (
            SONOMA,
            "device.compile: true is not possible on this mps: torch.compile does not know mps; "
            "expected false",
        ),
    ],
)
def test_compiling_where_it_cannot_be_done(machine: Machine, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(wish(compile=True), machine)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("machine", "says"),
    [
        (SONOMA, "mps runs one process, 2 were started"),
        (CPU, "a run on several is not supported yet, 2 were started"),
        (AMPERE, "a run on several is not supported yet, 2 were started"),
    ],
)
def test_two_processes(machine: Machine, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(wish(), machine, processes=2)
    (line,) = str(caught.value).splitlines()
    assert line == f"device: {says}; start one, without torchrun: python -m crown_exp …"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mps_of_a_torch_without_a_scaler_for_it(precision: str) -> None:
    with pytest.raises(
        ConfigError, match=f"{precision} is not available on this mps; expected auto, fp32$"
    ):
        choose(wish(precision=precision), Machine(macos=15, scaler=False))


def test_numerics_name_the_device() -> None:
    assert choose(wish(kind="cpu"), AMPERE).numerics() == {
        "device": "cpu", "device_name": "a CPU", "precision": "fp32", "tf32": False,
        "deterministic": False, "compile": False,
    }  # fmt: skip
