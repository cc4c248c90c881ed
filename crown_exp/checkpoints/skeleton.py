"""A state as JSON with its tensors taken out, and back.

    {"$tensor": 3}             the tensor with that number
    {"$dict": [[key, value]]}  a dict with whole numbers as keys, or keys that begin with a dollar
    {"$tuple": [...]}          a tuple
    {"$module": [dict, {...}]} what a module's state_dict is: an OrderedDict with `_metadata`
    {"$int": "-ff"}            a whole number of thousands of digits, hexadecimal

All else is itself, as Python's json writes it (`NaN` and `Infinity` included).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from crown_exp.checkpoints.tree import DEEPEST, KEEPS, is_tensor, leaf, step
from crown_exp.errors import TaskError

MOST_BITS = 4096
"""Python refuses to write whole numbers of more than 4300 digits in decimal."""


class Taken:
    """The tensors that were taken out of a tree: each memory once, with the path it was met at first."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.paths: list[str] = []
        self._numbers: dict[Any, int] = {}

    def number(self, tensor: Any, path: str) -> int:
        """The number of a tensor; tied ones have one. Raises TaskError for one without memory."""
        try:
            place = tensor.data_ptr()
        except RuntimeError:
            kind = type(tensor).__name__
            raise TaskError(f"{path} is a {kind} without memory of its own; {KEEPS}") from None
        view = (tensor.shape, tensor.stride(), tensor.dtype, tensor.is_conj(), tensor.is_neg())
        key = (tensor.device, place, view) if tensor.numel() else len(self.tensors)
        if key not in self._numbers:
            self._numbers[key] = len(self.tensors)
            self.tensors.append(tensor)
            self.paths.append(path)
        return self._numbers[key]


def take_apart(node: Any, path: str, taken: Taken, depth: int = 0) -> Any:
    """The skeleton of a tree; its tensors are added to `taken`. Shares nothing that changes with the tree.

    Raises TaskError, which names the path, for a value or a key that cannot be stored.
    """
    if depth > DEEPEST:
        raise TaskError(f"{path} is nested too deep, or holds itself; {KEEPS}")
    if isinstance(node, Mapping):
        return mapping(node, path, taken, depth)
    if isinstance(node, list | tuple):
        items = [
            take_apart(value, f"{path}[{index}]", taken, depth + 1)
            for index, value in enumerate(node)
        ]
        return items if isinstance(node, list) else {"$tuple": items}
    value = leaf(node, path)
    if is_tensor(value):
        return {"$tensor": taken.number(value, path)}
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > MOST_BITS:
        return {"$int": f"{value:x}"}
    return value


def mapping(node: Mapping[Any, Any], path: str, taken: Taken, depth: int) -> Any:
    """The skeleton of a dict."""
    pairs = [
        (key, take_apart(value, path + step(key, path), taken, depth + 1))
        for key, value in node.items()
    ]
    plain = all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs)
    body: Any = dict(pairs) if plain else {"$dict": [list(pair) for pair in pairs]}
    metadata = getattr(node, "_metadata", None)
    if isinstance(metadata, Mapping):
        return {"$module": [body, take_apart(metadata, f"{path}._metadata", taken, depth + 1)]}
    return body


def put_together(node: Any, tensors: Sequence[Any]) -> Any:
    """The tree of a skeleton. Raises ValueError or LookupError if it is none."""
    if isinstance(node, list):
        return [put_together(value, tensors) for value in node]
    if not isinstance(node, dict):
        return node
    if len(node) == 1:
        ((key, value),) = node.items()
        if key.startswith("$"):
            return special(key, value, tensors)
    return {key: put_together(value, tensors) for key, value in node.items()}


def special(key: str, value: Any, tensors: Sequence[Any]) -> Any:
    """What a dict with a key of ours stands for."""
    match key:
        case "$tensor":
            return tensors[value]
        case "$tuple":
            return tuple(put_together(item, tensors) for item in value)
        case "$dict":
            return {name: put_together(item, tensors) for name, item in value}
        case "$module":
            body, metadata = (put_together(item, tensors) for item in value)
            made = OrderedDict(body)
            made._metadata = metadata  # type: ignore[attr-defined]
            return made
        case "$int":
            return int(value, 16)
    raise ValueError(f"the tree holds {key}, which is not known")
