"""The tree that a `state_dict` is: what may be in it, every leaf by its path, a copy that shares nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from crown_exp.errors import TaskError

NUMBERS_AND_TEXT: tuple[type, ...] = (bool, int, float, str)
PLAIN = (*NUMBERS_AND_TEXT, type(None))
KEEPS = "a state holds tensors, numbers, strings, None, and lists, tuples or dicts of them"
DEEPEST = 64

WAYS = {
    "ndarray": "torch.from_numpy(…) makes a tensor of it",
    "set": "a sorted list holds the same",
    "frozenset": "a sorted list holds the same",
    "deque": "a list holds the same",
    "bytes": "torch.frombuffer(bytearray(…), dtype=torch.uint8) makes a tensor of it",
    "bytearray": "torch.frombuffer(…, dtype=torch.uint8) makes a tensor of it",
    "function": "keep its name instead",
    "Generator": "keep its state: get_state() of torch's, bit_generator.state of numpy's",
    "Random": "keep its state: getstate() as a list",
}
"""What to do about values that are met often, by the name of their type."""


def flatten(tree: Any, path: str) -> dict[str, Any]:
    """Every leaf of a tree by its path: `opt.state[0].exp_avg`; an empty container is a leaf, too.

    Leaves are tensors, bools, ints, floats, strings and None. No two leaves have one path. Raises TaskError,
    which names the path, for a value or a key that cannot be stored.
    """
    return dict(leaves(tree, path, 0))


def leaves(node: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """The leaves below a node. Raises as `flatten`."""
    if depth > DEEPEST:
        raise TaskError(f"{path} is nested too deep, or holds itself; {KEEPS}")
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from leaves(value, path + step(key, path), depth + 1)
    elif isinstance(node, list | tuple) and node:
        for index, value in enumerate(node):
            yield from leaves(value, f"{path}[{index}]", depth + 1)
    else:
        yield path, leaf(node, path)


def step(key: Any, path: str) -> str:
    """What a key adds to the path of its dict."""
    if isinstance(key, str):
        return f".{key}" if key.isidentifier() else f"[{key!r}]"
    if isinstance(key, int) and not isinstance(key, bool):
        return f"[{key}]"
    kind = type(key).__name__
    raise TaskError(f"{path} has the key {key!r}, a {kind}; keys are strings or whole numbers")


def leaf(value: Any, path: str) -> Any:
    """A value that can be stored. Raises TaskError for any other."""
    if isinstance(value, (*PLAIN, Mapping, list, tuple)):
        return value
    if not is_tensor(value):
        kind = type(value).__name__
        way = "make it anew in load_state_dict, from such values"
        if hasattr(value, "state_dict"):
            way = "put its state_dict() there"
        elif hasattr(value, "item") and getattr(value, "ndim", None) == 0:
            way = "its .item() is a number"
        raise TaskError(f"{path} is a {kind}; {KEEPS}: {WAYS.get(kind, way)}")
    if value.is_meta or str(value.layout) != "torch.strided":
        what = "a tensor without data (meta)" if value.is_meta else f"a tensor of {value.layout}"
        raise TaskError(f"{path} is {what}; a state holds dense tensors")
    return value


def is_tensor(value: Any) -> TypeGuard[Any]:
    """Whether a value is a tensor; asked without importing torch, which other states need not."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def copied(tree: Any) -> Any:
    """A tree as a checkpoint would give it back: plain containers and values, tensors copied to the CPU.

    tree: one that `flatten` takes.
    """
    if isinstance(tree, Mapping):
        return {key: copied(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [copied(value) for value in tree]
    if isinstance(tree, tuple):
        return tuple(copied(value) for value in tree)
    if is_tensor(tree):
        return tree.detach().to("cpu", copy=True)
    kind = next((kind for kind in NUMBERS_AND_TEXT if isinstance(tree, kind)), None)
    return kind(tree) if kind else None


def difference(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first leaf that is not the same, and how: `envs.rng was 3 and is 4`; "" if all are.

    was: flattened, and copied. now: flattened.
    """
    for path, value in was.items():
        if path not in now:
            return f"{path} is gone"
        if how := unlike(value, now[path]):
            return f"{path} {how}"
    more = next((path for path in now if path not in was), None)
    return f"{more} was not there" if more else ""


def unlike(was: Any, now: Any) -> str:
    """How two leaves differ; "" if they are the same to the bit."""
    if is_tensor(was) and is_tensor(now):
        if (was.dtype, was.shape) != (now.dtype, now.shape):
            return f"was {tensor_words(was)} and is {tensor_words(now)}"
        same = sys.modules["torch"].equal(bits(was), bits(now))
        return "" if same else "has other values"
    if is_tensor(was) or is_tensor(now) or not same_value(was, now):
        return f"was {shown(was)} and is {shown(now)}"
    return ""


def bits(tensor: Any) -> Any:
    """The bytes of a tensor, on the CPU."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return plain.as_strided((plain.numel(),), (1,)).view(sys.modules["torch"].uint8)


def same_value(was: Any, now: Any) -> bool:
    """Whether two plain leaves are the same; NaN is NaN, and a bool is no number."""
    if isinstance(was, float) and isinstance(now, float):
        return float(was).hex() == float(now).hex()
    if isinstance(was, bool) is not isinstance(now, bool):
        return False
    return bool(was == now)


def shown(value: Any) -> str:
    """A leaf, for people."""
    text = tensor_words(value) if is_tensor(value) else repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def tensor_words(value: Any) -> str:
    """`float32 of shape (3, 4)`."""
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
