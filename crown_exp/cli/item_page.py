"""What a loop went over in one turn, for people and for files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crown_exp.cli.letters import cut
from crown_exp.errors import ConfigError

IN_FULL = 16
"""Elements of a tensor that is shown in full."""
FIRST = 6
WIDTH = 100
MOST_LEAVES = 200


def lines_of(item: Any) -> Iterator[str]:
    """A line for each leaf: its path, form, range and first values."""
    found = list(leaves(item, ""))
    wide = max((len(path) for path, _ in found[:MOST_LEAVES]), default=0)
    for path, leaf in found[:MOST_LEAVES]:
        yield cut(f"  {path or 'item':<{wide}}  {words(leaf)}", WIDTH)
    if len(found) > MOST_LEAVES:
        yield f"  and {len(found) - MOST_LEAVES} more; --save keeps all"


def leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What is in containers, by its path: `[0]`, `.images`, `['a b']`."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            plain = isinstance(key, str) and key.isidentifier()
            yield from leaves(value, f"{path}.{key}" if plain else f"{path}[{key!r}]")
    elif isinstance(node, tuple) and hasattr(node, "_fields"):
        for name in node._fields:
            yield from leaves(getattr(node, name), f"{path}.{name}")
    elif isinstance(node, list | tuple) and not is_flat(node):
        for index, value in enumerate(node):
            yield from leaves(value, f"{path}[{index}]")
    else:
        yield path, node


def is_flat(node: list[Any] | tuple[Any, ...]) -> bool:
    """Whether a list holds nothing but numbers or texts, which are shown together."""
    return all(isinstance(value, bool | int | float | str) for value in node)


def words(leaf: Any) -> str:
    """What is shown of a leaf."""
    array = array_of(leaf)
    if array is None:
        return f"{type(leaf).__name__} {leaf!r}"
    kind = str(leaf.dtype).removeprefix("torch.")
    form = f"{kind} {tuple(array.shape)}"
    if array.size == 0:
        return form
    first = array.reshape(-1)[: array.size if array.size <= IN_FULL else FIRST].tolist()
    told = ", ".join(short(value) for value in first)
    rest = "" if array.size <= IN_FULL else ", …"
    return f"{form}  {spread(array)}[{told}{rest}]"


def spread(array: Any) -> str:
    """The range and the mean of numbers; nothing of others."""
    if array.dtype.kind not in "biuf":
        return ""
    low, high, mean = float(array.min()), float(array.max()), float(array.mean(dtype="float64"))
    return f"min {low:.6g}  max {high:.6g}  mean {mean:.6g}  "


def short(value: Any) -> str:
    """One element."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def array_of(leaf: Any) -> Any:
    """A tensor or array as numpy has it, values unchanged but for dtypes that numpy lacks; None for others."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(leaf, torch.Tensor):
        plain = leaf.detach().cpu().resolve_conj().resolve_neg()
        if plain.is_floating_point() and plain.dtype not in (
            torch.float16, torch.float32, torch.float64,
        ):  # fmt: skip
            plain = plain.float()
        return plain.numpy()
    if numpy is not None and isinstance(leaf, numpy.ndarray | numpy.generic):
        return numpy.asarray(leaf)
    return None


def save(file: Path, item: Any) -> None:
    """Write an item as the file's ending says. Raises ConfigError if it cannot be written so."""
    try:
        if file.suffix == ".pt":
            import torch

            torch.save(item, file)
        elif file.suffix == ".npz":
            import numpy

            named = {name_of(path): made(leaf) for path, leaf in leaves(item, "")}
            numpy.savez(file, **named)
        else:
            tree = {name_of(path): listed(leaf) for path, leaf in leaves(item, "")}
            file.write_text(json.dumps(tree, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError.of(f"--save {file}", f"cannot be written: {error.strerror}") from None
    except Exception as error:  # what a user's own type makes of being written
        what = f"cannot be written as {file.suffix}: {error}; .pt takes most"
        raise ConfigError.of(f"--save {file}", what) from None


def name_of(path: str) -> str:
    """A leaf's path as the name of an array."""
    return path.lstrip(".") or "item"


def made(leaf: Any) -> Any:
    """An array of a leaf. Raises TypeError if that would be one of objects."""
    import numpy

    array = array_of(leaf)
    array = numpy.asarray(leaf) if array is None else array
    if array.dtype.kind == "O":
        raise TypeError(f"a {type(leaf).__name__} is no array")
    return array


def listed(leaf: Any) -> Any:
    """A leaf as JSON has it."""
    array = array_of(leaf)
    return leaf if array is None else array.tolist()
