"""The rules by which a wish becomes a device. Pure: the machine is asked through a Probe.

A wish that cannot be met is an error that names what can; nothing falls back in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crown_exp.devices.base import Choice, Compile, Probe
from crown_exp.errors import ConfigError

AMPERE = (8, 0)
"""The first compute capability with TF32 and with bfloat16 that is not emulated."""

BF16_ON_MPS = 14
"""The first macOS whose GPUs compute in bfloat16."""


def choose(wish: Mapping[str, Any], probe: Probe, processes: int = 1) -> Choice:
    """The device, precision and reason for `device.{kind,precision,deterministic,compile}`.

    processes: how many of them were started to make this run together.
    Raises ConfigError for what this machine does not have or cannot do.
    """
    offers = offered(probe)
    device, why_device = choose_device(wish["kind"], list(offers))
    refuse_processes(processes, device)
    precision, why = choose_precision(wish["precision"], device, offers[device])
    compiled, why_compiled = choose_compile(wish["compile"], device, probe)
    name = probe.name(device)
    # What is asked for by name is given; else TF32 speeds up the rest of a reduced precision.
    may = "tf32" in offers[device] and precision != "fp32" and not wish["deterministic"]
    said = [why_device, f"{precision}: {why}", name if device != "cpu" else "", why_compiled]
    return Choice(
        device=device, precision=precision, tf32=may or precision == "tf32",
        deterministic=wish["deterministic"], reason="; ".join(filter(None, said)),
        compile=compiled, name=name,
    )  # fmt: skip


def offered(probe: Probe) -> dict[str, list[str]]:
    """The precisions of each device that is there; the first device is what `auto` takes."""
    offers = {}
    if capability := probe.cuda():
        offers["cuda"] = (
            ["fp32", "tf32", "bf16", "fp16"] if capability >= AMPERE else ["fp32", "fp16"]
        )
    if system := probe.mps():
        mixed = ["bf16", "fp16"] if system >= BF16_ON_MPS else ["fp16"]
        offers["mps"] = ["fp32", *(mixed if probe.mixes("mps") else ())]
    return offers | {"cpu": ["fp32", "bf16"]}


def choose_device(wish: str, there: list[str]) -> tuple[str, str]:
    """The device and why."""
    if wish == "auto":
        return there[0], "auto: no GPU here" if there == ["cpu"] else f"auto: {there[0]} is here"
    if wish in there:
        return wish, f"device={wish}"
    known = ", ".join(["auto", *there])
    raise ConfigError.of("device", f"{wish} is not available on this machine; expected {known}")


def choose_precision(wish: str, device: str, offers: list[str]) -> tuple[str, str]:
    """The precision and why, for a device that is there. GPUs take half the bits unless told otherwise."""
    if wish == "auto":
        best = ("bf16" if "bf16" in offers else "fp16") if device == "cuda" else "fp32"
        return best, f"the default on {device}"
    if wish in offers:
        return wish, f"device.precision={wish}"
    known = ", ".join(["auto", *offers])
    raise ConfigError.of(
        "device.precision", f"{wish} is not available on this {device}; expected {known}"
    )


def choose_compile(wish: Compile, device: str, probe: Probe) -> tuple[Compile, str]:
    """Whether to compile, and why; nothing is said of a default."""
    if not wish:
        return False, ""
    if wish == "auto" and device != "cuda":
        return False, "not compiled: auto compiles on cuda only"
    obstacle = probe.compiles(device)
    if wish == "auto":
        return (False, f"not compiled: {obstacle}") if obstacle else ("auto", "compile: auto")
    if obstacle:
        raise ConfigError.of(
            "device.compile",
            f"true is not possible on this {device}: {obstacle}; expected false",
        )
    return True, "compiled: device.compile=true"


def refuse_processes(count: int, device: str) -> None:
    """A run of several processes that do not know of each other is several runs under one name."""
    if count == 1:
        return
    lacks = "mps runs one process" if device == "mps" else "a run on several is not supported yet"
    raise ConfigError.of(
        "device",
        f"{lacks}, {count} were started; start one, without torchrun: python -m crown_exp …",
    )
