"""The rules by which a wish becomes a device, over machines that are made up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest

from crown_exp.devices import choose
from crown_exp.devices.precision import TorchProbe
from crown_exp.errors import ConfigError


@dataclass
class Machine:
    capability: tuple[int, int] | None = None
    macos: int | None = None

    def cuda(self) -> tuple[int, int] | None:
        return self.capability

    def mps(self) -> int | None:
        return self.macos


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
        wish = {"kind": kind, "precision": precision, "deterministic": deterministic}
        if kind not in ("auto", *devices):
            with pytest.raises(ConfigError, match=f"device: {kind} is not available") as caught:
                choose(wish, machine)
            assert str(caught.value).endswith(f"expected auto, {', '.join(devices)}")
            continue
        device = devices[0] if kind == "auto" else kind
        if precision not in {"auto", *precisions[device]}:
            with pytest.raises(
                ConfigError, match=rf"device\.precision: {precision} is not"
            ) as caught:
                choose(wish, machine)
            told = str(caught.value).partition("expected ")[2].split(", ")
            assert told[0] == "auto"
            assert set(told[1:]) == precisions[device]
            continue
        choice = choose(wish, machine)
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
    choice = choose({"kind": kind, "precision": "auto", "deterministic": False}, machine)
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
    wish = {"kind": "auto", "precision": precision, "deterministic": deterministic}
    choice = choose(wish, machine)
    assert choice.tf32 == choice.numerics()["tf32"] == tf32


def test_the_reason_says_why() -> None:
    wish = {"kind": "auto", "precision": "auto", "deterministic": False}
    assert choose(wish, CPU).reason == "auto: no GPU here; fp32: the default on cpu"
    assert choose(wish, AMPERE).reason == "auto: cuda is here; bf16: the default on cuda"
    wish |= {"kind": "cpu", "precision": "bf16"}
    assert choose(wish, AMPERE).reason == "device=cpu; bf16: device.precision=bf16"


def test_what_torch_tells_of_this_machine() -> None:
    import torch

    probe = TorchProbe()
    assert (probe.cuda() is not None) == torch.cuda.is_available()
    assert (probe.mps() is not None) == torch.backends.mps.is_available()
