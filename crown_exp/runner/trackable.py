"""What `run.track` keeps of a value that has no state_dict: random generators, and files as they are."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from crown_exp.errors import TaskError
from crown_exp.runner.random_state import numpy_state, python_state, to_numpy, to_python
from crown_exp.runner.tracked_files import FilesState


class Trackable(Protocol):
    """Whatever gives its state and takes it back."""

    def state_dict(self) -> Any:
        """The state."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Take over a state."""


def trackable(name: str, value: Any) -> Trackable | None:
    """What is tracked in a value's place: itself if it has state_dict and load_state_dict.

    For random generators of torch, numpy and python, and for a pathlib.Path, something that sets the very
    value, in place. None for all else, which cannot be tracked. Raises TaskError for a path that must not be.
    """
    if isinstance(value, type):
        return None
    if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        return value  # type: ignore[no-any-return]
    if isinstance(value, Path):
        return FilesState(name, value)
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return PythonRandom(value)
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy.random")
    if torch is not None and isinstance(value, torch.Generator):
        return TorchGenerator(name, value)
    if numpy is None:
        return None
    if isinstance(value, numpy.RandomState):
        return NumpyRandomState(name, value)
    if isinstance(value, numpy.Generator):
        return NumpyGenerator(name, value.bit_generator)
    return NumpyGenerator(name, value) if isinstance(value, numpy.BitGenerator) else None


class PythonRandom:
    """A `random.Random`."""

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Any]:
        """Its state, a copy."""
        return python_state(self.generator.getstate())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set it."""
        self.generator.setstate(to_python(state))


class TorchGenerator:
    """A `torch.Generator`, of any device.

    left: why the last state was not set, for people; empty if it was.
    """

    def __init__(self, name: str, generator: Any) -> None:
        self.name, self.generator, self.left = name, generator, ""

    def state_dict(self) -> dict[str, Any]:
        """Its state, a copy."""
        return {"device": self.generator.device.type, "state": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set it, unless it was one of another kind of device: these draw otherwise."""
        was, now = state["device"], self.generator.device.type
        self.left = ""
        if was == now:
            self.generator.set_state(state["state"].clone())
        else:
            self.left = (
                f"{self.name}, a random generator of {was}, was not restored: this one is of {now}"
            )


class NumpyRandomState:
    """A `numpy.random.RandomState`."""

    def __init__(self, name: str, generator: Any) -> None:
        self.name, self.generator = name, generator

    def state_dict(self) -> dict[str, Any]:
        """Its state, a copy."""
        return dict(numpy_state(self.generator.get_state(legacy=False)))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set it. Raises TaskError if it was of another kind."""
        now = self.generator.get_state(legacy=False)["bit_generator"]
        same_kind(self.name, state["bit_generator"], now)
        self.generator.set_state(to_numpy(state))


class NumpyGenerator:
    """A bit generator of numpy, or the one that a `numpy.random.Generator` draws from.

    Where its seed came from belongs to its state: `spawn` makes new generators from that.
    """

    def __init__(self, name: str, bits: Any) -> None:
        self.name, self.bits = name, bits

    def state_dict(self) -> dict[str, Any]:
        """Its state, a copy."""
        return {"bits": numpy_state(self.bits.state), "seed": seed_state(self.bits)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set it. Raises TaskError if it was of another kind."""
        bits = to_numpy(state["bits"])
        same_kind(self.name, bits["bit_generator"], self.bits.state["bit_generator"])
        self.bits.state = bits
        if state["seed"] is not None:
            set_seed(self.bits, state["seed"])


def seed_state(bits: Any) -> dict[str, Any] | None:
    """What `SeedSequence` makes the same source of seeds from; None if it came from elsewhere."""
    from numpy.random import SeedSequence

    source = getattr(bits, "seed_seq", None)
    if type(source) is not SeedSequence:
        return None
    return {
        "entropy": whole(source.entropy),
        "spawn_key": whole(source.spawn_key),
        "pool_size": source.pool_size,
        "n_children_spawned": source.n_children_spawned,
    }


def set_seed(bits: Any, saved: Mapping[str, Any]) -> None:
    """Make its source of seeds what it was: the present one where that is possible, as others may hold it."""
    from numpy.random import SeedSequence

    now, spawned = seed_state(bits) or {}, saved["n_children_spawned"]
    again = spawned - now.get("n_children_spawned", 0)
    if again >= 0 and now | {"n_children_spawned": spawned} == dict(saved):
        bits.seed_seq.spawn(again)
    elif isinstance(bits.__getstate__(), tuple):  # else numpy 1, which cannot set it
        bits.__setstate__((bits.state, SeedSequence(**saved)))


def whole(number: Any) -> Any:
    """An int, None, or a list of ints, of whatever kind they were."""
    if isinstance(number, list | tuple) or getattr(number, "ndim", 0) > 0:
        return [whole(each) for each in number]
    return None if number is None else int(number)


def same_kind(name: str, was: str, now: str) -> None:
    """Raises TaskError for a state that the generator cannot take."""
    if was != now:
        raise TaskError(
            f"run.track: {name} was a {was} when it was saved and is a {now}; make the same generator"
        )
