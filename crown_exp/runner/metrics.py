"""What `run.log` takes."""

from __future__ import annotations

from typing import Any

from crown_exp.errors import TaskError


def loggable(name: str, value: Any) -> Any:
    """A value as the log keeps it: a float, or on a GPU a tensor of one element cut from its graph.

    A tensor on the CPU is read at once, so that changing it in place afterwards does not change the log;
    one on another device is copied there, so that nothing waits for the device. Raises TaskError for
    anything that is not one real number.
    """
    kind = type(value)
    if kind is float:
        return value
    if hasattr(value, "detach"):
        if value.numel() != 1 or value.is_complex():
            raise refused(name, f"a tensor of shape {tuple(value.shape)} and {value.dtype}")
        return float(value.item()) if value.is_cpu else value.detach().clone()
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()  # a number of numpy's
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            raise refused(name, "an integer beyond what a float can hold") from None
    raise refused(name, f"a {kind.__name__}")


def refused(name: str, what: str) -> TaskError:
    """The error of a value that is no number."""
    return TaskError(f"run.log: {name} is {what}; expected a number or a tensor of one element")
