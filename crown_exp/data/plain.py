"""Values and simple objects as plain data, and back, without pickle: for state that others keep in fields.

*Values* are numbers, strings, None, arrays, tensors, and lists, tuples, dicts, sets and deques of them. They
are made anew. Two places that held one value hold one value again, and views share memory again.
*Objects* may only be fields: random generators and what gives and takes a state stay, and get their state;
others, such as a running mean, are copied from the present one and their fields set.
Functions, classes, modules, spaces and what is drawn with belong to the program. All else is refused.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from crown_exp.errors import TaskError

Plain = dict[str, Any]
"""Tensors, numbers, strings, bools, None, and lists and dicts (by strings) of them."""

SCALARS = (type(None), bool, int, float, str)
CONTAINERS = {kind.__name__: kind for kind in (tuple, set, frozenset)}
MAPPINGS = {kind.__name__: kind for kind in (dict, OrderedDict)}
GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
METHODS = (
    ("state_dict", "load_state_dict"),
    ("get_state", "set_state"),  # numpy's RandomPlain, torch's Generator
    ("getstate", "setstate"),  # random.Random
)
DRAWING = {"Surface", "Clock", "Font"}
"""What pygame draws with; its vectors and rectangles may be more than that."""


class Writer:
    """Every value that could be shared has a number, by the order in which they are completed."""

    def __init__(self, ignore: set[str], fixed: Iterable[Any]) -> None:
        self.ignore = ignore
        self.fixed = {id(each) for each in fixed}
        self.numbers: dict[int, int] = {}
        self.open: set[int] = set()
        self.alive: list[Any] = []  # so that no id comes twice

    def fields(self, fields: Mapping[str, Any], place: str) -> Plain:
        """The fields of something that stays, without those that belong to the program."""
        return {
            name: self._field(value, f"{place}.{name}")
            for name, value in sorted(fields.items())  # numbers go by this order, too
            if name not in self.ignore and not self._is_program(value)
        }

    def _is_program(self, value: Any) -> bool:
        """Whether a value is the same in every process that runs this program."""
        if id(value) in self.fixed:
            return True
        if isinstance(value, list | tuple | dict):
            return self._is_program_all(value)
        if isinstance(value, MethodType | BuiltinFunctionType):
            bound = value.__self__
            stays = isinstance(bound, type | ModuleType | np.random.Generator | None)
            return stays or id(bound) in self.fixed or methods_of(bound) is not None
        if isinstance(value, partial):
            return self._is_program(value.func)
        if spaces := _spaces(value):
            return not any(map(_seeded, spaces))
        drawn = type(value).__module__.startswith("pygame") and kind_of(value) in DRAWING
        return drawn or isinstance(value, type | FunctionType | ModuleType | np.ufunc | np.dtype)

    def _is_program_all(self, container: Any) -> bool:
        if not container or id(container) in self.open:
            return False
        self.open.add(id(container))
        items = container.values() if isinstance(container, dict) else container
        try:
            return all(map(self._is_program, items))
        finally:
            self.open.remove(id(container))

    def _field(self, value: Any, place: str) -> Any:
        """A field of a layer or an object: these may hold objects, too."""
        if isinstance(value, Enum):
            return {"enum": value.name}
        if spaces := _spaces(value):
            return {"space": [self.value(_seeded(space), place) for space in spaces]}
        fields = _own_fields(value)
        if fields is None or id(value) in self.numbers:
            return self.value(value, place)
        return self._numbered(
            value, place, lambda: {"object": kind_of(value), "fields": self.fields(fields, place)}
        )

    def value(self, value: Any, place: str) -> Any:
        """A value as plain data; `place` is where it was found, for errors."""
        if type(value) in SCALARS:
            return value
        if isinstance(value, np.generic) and type(value.item()) in SCALARS:
            return {"scalar": value.item(), "dtype": value.dtype.str}
        if id(value) in self.numbers:
            return {"same": self.numbers[id(value)]}
        return self._numbered(value, place, lambda: self._shared(value, place))

    def _numbered(self, value: Any, place: str, plain: Callable[[], Any]) -> Any:
        if id(value) in self.open:
            raise TaskError(f"{place} holds itself; {_advice(place)}")
        self.open.add(id(value))
        made = plain()
        self.open.remove(id(value))
        self.numbers[id(value)] = len(self.numbers)
        self.alive.append(value)
        return made

    def _shared(self, value: Any, place: str) -> Any:
        kind = type(value)
        if kind is list:
            return self._items(value, place)
        if kind in MAPPINGS.values():
            pairs = [
                [self.value(key, place), self.value(value[key], f"{place}[{key!r}]")]
                for key in value
            ]
            return {kind.__name__: [each for pair in pairs for each in pair]}
        if kind in CONTAINERS.values():
            return {kind.__name__: self._items(value, place)}
        if kind is deque:
            return {"deque": self._items(value, place), "maxlen": value.maxlen}
        if kind is bytes:
            return {"bytes": value.hex()}
        if kind is torch.Tensor:
            return {"tensor": value.detach().clone(), "device": str(value.device)}
        if kind is np.ndarray and not value.dtype.hasobject and not value.dtype.names:
            return self._array(value, place)
        if kind is np.random.Generator and value.bit_generator.state["bit_generator"] in GENERATORS:
            return {"generator": self.value(value.bit_generator.state, place)}
        if pair := methods_of(value):
            return {"state": self.value(getattr(value, pair[0])(), place)}
        raise _refused(value, place)

    def _items(self, values: Iterable[Any], place: str) -> list[Any]:
        return [self.value(value, f"{place}[{number}]") for number, value in enumerate(values)]

    def _array(self, value: Any, place: str) -> Any:
        owner = _owner(value)
        if owner is not value:
            start, first = (x.__array_interface__["data"][0] for x in (owner, value))
            place_in_memory = {"offset": first - start, "strides": list(value.strides)}
            shape = {"shape": list(value.shape), "dtype": value.dtype.str}
            return {"view": self.value(owner, place), **place_in_memory, **shape}
        memory, axes = _memory(value)
        if not memory.flags.c_contiguous:
            raise _refused(value, place)
        return {**_tensor(memory), "axes": axes}


def _tensor(memory: Any) -> Plain:
    """An array that is contiguous; as bytes where torch has no such type."""
    try:
        return {"array": torch.from_numpy(memory.copy())}
    except (TypeError, ValueError):
        raw = torch.from_numpy(memory.reshape(-1).view(np.uint8).copy())
        return {"array": raw, "shape": list(memory.shape), "dtype": memory.dtype.str}


def _refused(value: Any, place: str) -> TaskError:
    kind = type(value)
    return TaskError(
        f"{place} is a {kind.__module__}.{kind.__qualname__}, whose state cannot be kept; {_advice(place)}"
    )


def _advice(place: str) -> str:
    name = place.rpartition(").")[2].partition("[")[0].rpartition(".")[2]
    return (
        "give it or its environment state_dict and load_state_dict; or, if nothing hangs on it, "
        f'EnvironmentState(envs, ignore=["{name}"]); or track no state and reset the environments, seeded, '
        "at the start of every turn"
    )


class Reader:
    """From plain data to values, in the order in which they were written."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.given: set[int] = set()

    def value(self, plain: Any, present: Any, place: str) -> Any:
        """What the plain data stand for; `present` is what is in its place, for a field."""
        match plain:
            case {"same": number}:
                return self.made[number]
            case {"scalar": value, "dtype": dtype}:
                return np.dtype(dtype).type(value)
            case {"enum": name}:
                self._expect(isinstance(present, Enum), name, place)
                return type(present)[name]
            case {"space": generators}:
                spaces = _spaces(present)
                self._expect(len(spaces) == len(generators), "space", place)
                for space, saved in zip(spaces, generators, strict=True):
                    if saved is not None:
                        space._np_random = self.value(saved, space._np_random, place)
                return present
            case list() | dict():
                made = self._shared(plain, present, place)
                self.made.append(made)
                return made
        return plain

    def _shared(self, plain: Any, present: Any, place: str) -> Any:
        match plain:
            case list():
                return self._items(plain, place)
            case {"object": kind, "fields": saved}:
                return self._object(kind, saved, present, place)
            case {"deque": saved, "maxlen": maxlen}:
                return deque(self._items(saved, place), maxlen)
            case {"bytes": text}:
                return bytes.fromhex(text)
            case {"tensor": tensor, "device": device}:
                return tensor.detach().clone().to(device)
            case {"array": _} | {"view": _}:
                return self._array(plain, place)
            case {"generator": saved}:
                return self._generator(self.value(saved, None, place), present)
            case {"state": saved}:
                pair = methods_of(present)
                self._expect(pair is not None, "an object that takes a state", place)
                getattr(present, (pair or METHODS[0])[1])(self.value(saved, None, place))
                return present
        ((kind, saved),) = plain.items()
        items = self._items(saved, place)
        if kind in MAPPINGS:
            return MAPPINGS[kind](zip(items[::2], items[1::2], strict=True))
        return CONTAINERS[kind](items)

    def _items(self, values: list[Any], place: str) -> list[Any]:
        return [self.value(value, None, place) for value in values]

    def _expect(self, there: bool, what: str, place: str) -> None:
        if not there:
            raise TaskError(
                f"{place}: expected {what} to set; make and reset the environments before run.track"
            )

    def _object(self, kind: str, fields: Plain, present: Any, place: str) -> Any:
        self._expect(kind_of(present) == kind, f"a {kind}", place)
        made = copy.copy(present)  # which may be shared beyond the environments
        for name, plain in sorted(fields.items()):
            value = self.value(plain, getattr(present, name, None), f"{place}.{name}")
            object.__setattr__(made, name, value)  # also of a frozen one
        return made

    def _array(self, plain: Plain, place: str) -> Any:
        if "view" in plain:
            owner = self.value(plain["view"], None, place)
            memory, _ = _memory(owner)
            dtype = np.dtype(plain["dtype"])
            return np.ndarray(plain["shape"], dtype, memory, plain["offset"], plain["strides"])
        array = plain["array"].cpu().numpy()
        if "dtype" in plain:
            array = array.copy().view(plain["dtype"]).reshape(plain["shape"])
        return array.transpose(np.argsort(plain["axes"])).copy(order="K")

    def _generator(self, state: Plain, present: Any) -> Any:
        """The present generator if it is of that kind and not yet set for another field, else a new one."""
        kind = state["bit_generator"]
        known = type(present) is np.random.Generator and id(present) not in self.given
        if not known or present.bit_generator.state["bit_generator"] != kind:
            self._expect(kind in GENERATORS, "a generator of numpy", kind)
            present = np.random.Generator(getattr(np.random, kind)())
        present.bit_generator.state = state
        self.given.add(id(present))
        return present


def methods_of(value: Any) -> tuple[str, str] | None:
    """How an object gives its state, and takes it."""
    kind = type(value)
    pairs = (pair for pair in METHODS if hasattr(kind, pair[0]) and hasattr(kind, pair[1]))
    return next(pairs, None)


def kind_of(value: Any) -> str:
    """The name of its class."""
    return type(value).__qualname__


def _spaces(value: Any) -> list[Any]:
    """A space and all spaces in it; empty for what is no space."""
    if not (hasattr(type(value), "sample") and hasattr(type(value), "contains")):
        return []
    inner: list[Any] = []
    for field in vars(value).values():
        parts = field.values() if isinstance(field, Mapping) else field
        inner += parts if isinstance(field, Mapping | list | tuple) else [field]
    return [value, *(space for part in inner for space in _spaces(part))]


def _seeded(space: Any) -> Any:
    """A space's random generator, if somebody gave it a seed: all have one, with 128 bits of chance."""
    generator = space._np_random
    entropy = None if generator is None else generator.bit_generator.seed_seq.entropy
    return generator if isinstance(entropy, int) and entropy.bit_length() <= 64 else None


def _own_fields(value: Any) -> dict[str, Any] | None:
    """The fields of an object that consists of its fields; None for any other value."""
    kind = type(value)
    if kind in SCALARS or methods_of(value):
        return None
    for name in ("__reduce_ex__", "__reduce__", "__getstate__"):
        if getattr(kind, name) is not getattr(object, name):
            return None
    try:
        told: tuple[Any, ...] = object.__reduce_ex__(value, 2)  # type: ignore[assignment]
    except (TypeError, ValueError):  # memory of C behind it
        return None
    _, made_from, fields, *items = told  # as a copy would be made; nothing is pickled
    if made_from != (kind,) or any(items):
        return None
    plain, slots = fields if isinstance(fields, tuple) else (fields, None)
    return {**(plain or {}), **(slots or {})}


def _owner(array: Any) -> Any:
    """The array whose memory an array shows."""
    while type(array.base) is np.ndarray:
        array = array.base
    return array


def _memory(array: Any) -> tuple[Any, list[int]]:
    """An array with its axes in the order of memory, and that order."""
    axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    return array.transpose(axes), axes
