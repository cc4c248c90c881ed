"""The state of every random generator that the process shares, as plain data: nothing is pickled.

Python's `random`, numpy's, torch's for the CPU and for each GPU. What was not imported is left alone: it has
drawn nothing. Words of a generator are tensors where torch is there, else lists.
"""

from __future__ import annotations

import random
import sys
from array import array
from collections.abc import Mapping
from typing import Any

from crown_exp.errors import TaskError

BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
"""Numpy's own; a state names one, and only these are made by name."""


def capture() -> dict[str, Any]:
    """The state of all of them now, a copy; draws nothing, and waits for no device."""
    found: dict[str, Any] = {"python": python_state(random.getstate())}
    if numpy := sys.modules.get("numpy.random"):
        found["numpy"] = numpy_state(numpy.get_state(legacy=False))
    if torch := sys.modules.get("torch"):
        found["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():
            found["cuda"] = [torch.cuda.get_rng_state(n) for n in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            found["mps"] = torch.mps.get_rng_state()
    return found


def restore(state: Mapping[str, Any]) -> list[str]:
    """Set them all to what `capture` found; the state stays as it is.

    Returns a line for each that could not be, as this machine lacks its device. Raises TaskError for a state
    that no generator can take.
    """
    random.setstate(to_python(state["python"]))
    if "numpy" in state:
        _restore_numpy(to_numpy(state["numpy"]))
    if "torch" not in state:
        return []
    import torch

    torch.set_rng_state(state["torch"].clone())
    return [*_restore_cuda(state.get("cuda", [])), *_restore_mps(state.get("mps"))]


def _restore_numpy(state: dict[str, Any]) -> None:
    import numpy.random

    kind = state["bit_generator"]
    if numpy.random.get_state(legacy=False)["bit_generator"] != kind:
        if kind not in BIT_GENERATORS:
            raise TaskError(
                f"numpy's global generator was a {kind} when it was saved; set it before the loop"
            )
        numpy.random.set_bit_generator(getattr(numpy.random, kind)())  # type: ignore[attr-defined]
    numpy.random.set_state(state)


def _restore_cuda(states: list[Any]) -> list[str]:
    import torch

    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if states and present:
        # Else it would be noted for later, and a seed noted before would be set after it.
        torch.cuda.init()  # type: ignore[no-untyped-call]
    for number, state in enumerate(states[:present]):
        torch.cuda.set_rng_state(state, number)
    return [_left(f"cuda:{number}") for number in range(present, len(states))]


def _restore_mps(state: Any) -> list[str]:
    import torch

    if state is None:
        return []
    if not torch.backends.mps.is_available():
        return [_left("mps")]
    torch.mps.set_rng_state(state.clone())
    return []


def _left(device: str) -> str:
    return f"the random generator of {device} was not restored: this machine has no such device"


def python_state(state: tuple[Any, ...]) -> dict[str, Any]:
    """`random.Random.getstate()` as plain data."""
    version, numbers, gauss = state
    return {"version": version, "words": words(array("I", numbers)), "gauss": gauss}


def to_python(plain: Mapping[str, Any]) -> tuple[Any, ...]:
    """The inverse of `python_state`."""
    kept = plain["words"]
    numbers = kept if isinstance(kept, list | tuple) else kept.tolist()
    return plain["version"], tuple(numbers), plain["gauss"]


def numpy_state(state: Any) -> Any:
    """What a generator of numpy says of its state (numbers, names, arrays of words) as plain data."""
    if isinstance(state, dict):
        return {name: numpy_state(value) for name, value in state.items()}
    return words(state)


def to_numpy(plain: Any) -> Any:
    """The inverse of `numpy_state`."""
    import numpy

    if isinstance(plain, Mapping):
        return {name: to_numpy(value) for name, value in plain.items()}
    if isinstance(plain, list | tuple):
        return numpy.array(plain, numpy.uint64)
    return plain if isinstance(plain, bool | int | float | str | None) else plain.numpy().copy()


def words(numbers: Any) -> Any:
    """An array of unsigned integers as a tensor, or as a list without torch; any other value is itself."""
    if not hasattr(numbers, "tolist"):
        return numbers
    if getattr(numbers, "ndim", 1) == 0:
        return numbers.item()
    if torch := sys.modules.get("torch"):
        if isinstance(numbers, array):
            return torch.frombuffer(numbers, dtype=torch.uint32)
        return torch.from_numpy(numbers)
    return numbers.tolist()
