"""What `run.log` takes."""

from __future__ import annotations

from typing import Any

from crown_exp.errors import TaskError


def loggable(name: str, value: Any) -> Any:
    """A value as the log keeps it: a number, or a tensor of one element cut from its graph.

    A tensor on the CPU is read at once, so that changing it in place afterwards does not change the log;
    one on another device is kept, so that nothing waits for the device. Raises TaskError for anything else.
    """
    kind = type(value)
    if kind is float or kind is int or kind is bool:
        return value
    if hasattr(value, "detach"):
        if value.numel() != 1:
            raise TaskError(
                f"run.log: {name} is a tensor of shape {tuple(value.shape)}; log one number"
            )
        return value.item() if value.device.type == "cpu" else value.detach().clone()
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        return float(value.item())
    if isinstance(value, int | float):
        return value
    raise TaskError(
        f"run.log: {name} is a {kind.__name__}; expected a number or a tensor of one element"
    )
