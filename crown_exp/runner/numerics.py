"""What else decides the bits of a run, beside its signature: what of it changed between two attempts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crown_exp.folder import AttemptRecord


def numerics_changed(
    old: AttemptRecord, numerics: Mapping[str, Any], versions: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """What else decides the bits and is not what it was: [then, now] by name.

    numerics, versions: of the attempt that goes on from what `old` saved. What only one tells is passed over.
    """
    then, now = _deciding(old.numerics, old.versions), _deciding(numerics, versions)
    return {name: [then[name], now[name]] for name in now if then.get(name, now[name]) != now[name]}


def _deciding(numerics: Mapping[str, Any], versions: Mapping[str, Any]) -> dict[str, Any]:
    found = {**numerics, **versions}
    if "device" in found:
        found["device"] = str(found["device"]).partition(":")[
            0
        ]  # which of several alike says nothing
    if "python" in found:
        found["python"] = ".".join(str(found["python"]).split(".")[:2])
    return found


def not_bit_comparable(changed: Mapping[str, list[Any]], step: int) -> str:
    """One line, for people, on what `numerics_changed` found."""
    how = ", ".join(f"{name} {then} → {now}" for name, (then, now) in changed.items())
    return f"not bit-comparable from step {step} on: {how}"
