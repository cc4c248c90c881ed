"""Nested batches: put on a device, cut into parts, counted.

Structures that are walked: list, tuple, namedtuple, dict (and kinds of it), dataclass.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections import UserDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from itertools import pairwise
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crown_exp.errors import TaskError

WIDE = {torch.float64: torch.float32, torch.complex128: torch.complex64}
"""What MPS has no kernels for, and what it has instead."""

DEEP = 4
"""Objects within objects that are looked into for a tensor that would stay behind."""


PLAIN = (str, bytes, int, float, type, ModuleType, FunctionType, BuiltinFunctionType)
"""What is not looked into."""


class _Unfit(Exception):
    """A part of a batch that cannot be handled, and why; `_walk` finds where it is."""


def move_to(device: torch.device | str, dtype: torch.dtype | None = None) -> Callable[[Any], Any]:
    """A function that returns a batch with every tensor on `device`, floating ones as `dtype`.

    Objects with a method `to` (packed sequences, graph batches) move themselves, without `dtype`.
    Whatever holds no tensor (text, numbers, None, arrays) passes through as it is; an object that
    holds one and cannot be moved is a TaskError that says where in the batch it is, and so is what
    can be read once (a generator), and float64 for mps. The batch given is not changed; tensors which
    are already there are shared with it.
    """
    target = torch.device(device)
    # To CUDA only: from the device a copy that is not awaited hands over unfinished memory.
    ahead = target.type == "cuda"
    narrow = target.type == "mps" and dtype is None

    def move(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            if narrow and leaf.dtype in WIDE:
                raise _Unfit(leaf, f"is {_name(leaf.dtype)}, which mps does not compute in; make it "
                                   f"{_name(WIDE[leaf.dtype])} in the dataset")  # fmt: skip
            cast = dtype if leaf.is_floating_point() else None
            return leaf.to(target, cast, non_blocking=ahead)
        return leaf.to(target)

    return lambda batch: _walk(batch, move, movable=True)


def pin(batch: Any) -> Any:
    """A batch with every tensor in page-locked memory, and whatever has a method `pin_memory`."""

    def pinned(leaf: Any) -> Any:
        return leaf.pin_memory() if hasattr(leaf, "pin_memory") else leaf

    return _walk(batch, pinned, movable=True)


def split(batch: Any, parts: int) -> list[Any]:
    """Cuts a nested batch into `parts` non-empty parts of the same structure, views of the batch.

    All tensors are cut along dimension 0, n → sizes that differ by at most one, the larger first
    (as `torch.tensor_split`). So are lists and tuples of n strings or bytes, which is what torch
    makes of text. Everything else goes into every part.
    Raises TaskError if tensors differ in dimension 0, or if `parts` is not in 1..n.
    """
    total = leading(batch)
    if not 1 <= parts <= total:
        raise TaskError(f"cannot cut a batch of {total} samples into {parts} parts")
    size, larger = divmod(total, parts)
    edges = [part * size + min(part, larger) for part in range(parts + 1)]
    return [_part(batch, slice(start, stop), total) for start, stop in pairwise(edges)]


def _part(batch: Any, at: slice, total: int) -> Any:
    return _walk(batch, lambda leaf: leaf[at], texts=total)


def leading(batch: Any) -> int:
    """The samples in a nested batch: dimension 0 of its tensors.

    Raises TaskError if it holds no tensor, or tensors that do not agree.
    """
    shapes: list[tuple[int, ...]] = []
    _walk(batch, lambda leaf: shapes.append(tuple(leaf.shape)))
    if not shapes:
        raise TaskError(f"a batch without tensors ({type(batch).__name__}) has no samples to count")
    if len({shape[:1] for shape in shapes}) > 1 or shapes[0] == ():
        found = ", ".join(map(str, shapes))
        raise TaskError(f"the tensors of a batch must agree in their first dimension: {found}")
    return shapes[0][0]


def _walk(
    value: Any, change: Callable[[Any], Any], *, movable: bool = False, texts: int = -1
) -> Any:
    """A copy of `value` with its tensors changed; with `movable` also what has a method `to`, and
    lists of `texts` strings."""

    def walk(item: Any) -> Any:
        if isinstance(item, Tensor):
            return change(item)
        if item is None or isinstance(item, str | bytes | int | float):
            return item
        if movable and callable(getattr(item, "to", None)):
            return change(item)
        if isinstance(item, list | tuple):
            if len(item) == texts and all(isinstance(text, str | bytes) for text in item):
                return change(item)
            return _rebuilt(item, map(walk, item))
        if type(item) is dict:
            return {key: walk(part) for key, part in item.items()}
        if isinstance(item, dict | UserDict):
            return _with_items(item, walk)
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            return _with_fields(item, walk)
        if isinstance(item, Iterator):
            raise _Unfit(item, f"is a {type(item).__name__}, which is read once; make it a list")
        if _holds_tensor(item):
            raise _Unfit(
                item,
                f": {type(item).__name__} holds tensors that cannot be reached; make it a dict or a "
                "dataclass, or give it a method to(device)",
            )
        return item

    try:
        return walk(value)
    except _Unfit as error:
        part, why = error.args
        gap = "" if why.startswith(":") else " "
        raise TaskError(f"{_path(value, part)}{gap}{why}") from None


def _path(value: Any, part: Any, path: str = "batch") -> str:
    """Where a part is: `batch["image"][0]`; "" if not within `value`."""
    if value is part:
        return path
    inside: Iterable[tuple[str, Any]] = ()
    if isinstance(value, list | tuple):
        names = getattr(value, "_fields", None)
        inside = ((f".{names[at]}" if names else f"[{at}]", item) for at, item in enumerate(value))
    elif isinstance(value, dict | UserDict):
        inside = (
            (f"[{json.dumps(key) if isinstance(key, str) else repr(key)}]", item)
            for key, item in value.items()
        )
    elif dataclasses.is_dataclass(value):
        inside = (
            (f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)
        )
    return next((found for step, item in inside if (found := _path(item, part, path + step))), "")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _rebuilt(old: Any, items: Iterator[Any]) -> Any:
    return old._make(items) if hasattr(old, "_make") else type(old)(items)


def _with_items(old: Any, walk: Callable[[Any], Any]) -> Any:
    new = copy.copy(old)
    for key, item in old.items():
        new[key] = walk(item)
    return new


def _with_fields(old: Any, walk: Callable[[Any], Any]) -> Any:
    # Not dataclasses.replace: it would run __init__ again.
    new = copy.copy(old)
    for field in dataclasses.fields(old):
        object.__setattr__(new, field.name, walk(getattr(old, field.name)))
    return new


def _holds_tensor(value: Any) -> bool:
    """Among the attributes and elements of an object that is not walked, and of those in it."""
    seen: set[int] = set()
    inside = [(value, 0)]
    while inside:
        item, depth = inside.pop()
        if isinstance(item, Tensor):
            return True
        if depth <= DEEP and id(item) not in seen and not isinstance(item, PLAIN):
            seen.add(id(item))
            inside += [(part, depth + 1) for part in _parts(item)]
    return False


def _parts(item: Any) -> Iterator[Any]:
    if isinstance(item, Mapping):
        yield from item.values()
    elif isinstance(item, list | tuple | Set | deque):
        yield from item
    elif isinstance(item, np.ndarray):
        yield from item.flat if item.dtype == object else ()
    yield from getattr(item, "__dict__", {}).values()
    for slot in getattr(type(item), "__slots__", ()):
        yield getattr(item, slot, None)
