"""The rules by which a wish becomes a device. Pure: the machine is asked through a Probe.

A wish that cannot be met is an error that names what can; nothing falls back in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crown_exp.devices.base import Choice, Probe
from crown_exp.errors import ConfigError

AMPERE = (8, 0)


def choose(wish: Mapping[str, Any], probe: Probe) -> Choice:
    """The device, precision and reason for `device.{kind,precision,deterministic}`.

    Raises ConfigError for a device or precision that this machine does not have.
    """
    capability, mps = probe.cuda(), probe.mps()
    there = [name for name, has in (("cuda", capability), ("mps", mps), ("cpu", True)) if has]
    kind = wish["kind"]
    if kind == "auto":
        device, reason = (
            there[0],
            "auto: no GPU here" if there == ["cpu"] else f"auto: {there[0]} is here",
        )
    elif kind in there:
        device, reason = kind, f"device={kind}"
    else:
        raise ConfigError.of(
            "device", f"{kind} is not available here; this machine has {', '.join(there)}"
        )
    precision, why = choose_precision(wish["precision"], device, capability)
    return Choice(device, precision, wish["deterministic"], f"{reason}; {precision}: {why}")


def choose_precision(wish: str, device: str, capability: tuple[int, int] | None) -> tuple[str, str]:
    """The precision and why, for a device that is there."""
    offers = {
        "cuda": ["fp32", "fp16"]
        if (capability or (0, 0)) < AMPERE
        else ["fp32", "tf32", "bf16", "fp16"],
        "mps": ["fp32", "fp16"],
        "cpu": ["fp32", "bf16"],
    }[device]
    if wish == "auto":
        best = {"mps": "fp32", "cpu": "fp32"}.get(device) or (
            "bf16" if "bf16" in offers else "fp16"
        )
        return best, f"the default on {device}"
    if wish not in offers:
        known = ", ".join(offers)
        raise ConfigError.of(
            "device.precision", f"{wish} is not available on {device}; it has {known}"
        )
    return wish, f"device.precision={wish}"
