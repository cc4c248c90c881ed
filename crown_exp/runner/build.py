"""From a plain tree with `_target_` to the object it describes.

The semantics are those of `hydra.utils.instantiate` for resolved configs (`_args_`, `_partial_`,
`_recursive_`; `_convert_` has nothing to convert), without Hydra: neither ranks nor remote machines see it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from crown_exp.errors import TaskError


def locate(target: str) -> Any:
    """The object behind a dotted name. Raises TaskError if a module or name is missing.

    An error inside an imported module is the module's own and passes through.
    """
    parts = target.split(".")
    for cut in range(len(parts), 0, -1):
        module = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and (module == error.name or module.startswith(f"{error.name}.")):
                continue
            raise
        for name in parts[cut:]:
            if not hasattr(found, name):
                raise TaskError(f"_target_={target}: {module} has no {name!r}")
            found = getattr(found, name)
        return found
    raise TaskError(f"_target_={target}: no module named {parts[0]!r}")


def build(node: Any, **extra: Any) -> Any:
    """Build every `_target_` of a tree, the innermost first; `extra` are arguments of the outermost.

    Raises TaskError where a target does not take the arguments it is given.
    """
    if isinstance(node, list):
        return [build(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    if "_target_" not in node:
        return {key: build(item) for key, item in node.items()}
    target = locate(str(node["_target_"]))
    inner: Callable[[Any], Any] = build if node.get("_recursive_", True) else lambda item: item
    args = [inner(item) for item in node.get("_args_", ())]
    kwargs = {key: inner(item) for key, item in node.items() if not is_directive(key)} | extra
    if node.get("_partial_", False):
        return functools.partial(target, *args, **kwargs)
    return call(str(node["_target_"]), target, args, kwargs)


def is_directive(key: str) -> bool:
    """Whether a key speaks to `build` rather than to the target."""
    return key in ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")


def call(name: str, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call a target; a TypeError of the call itself, not from within it, becomes a TaskError."""
    try:
        return target(*args, **kwargs)
    except TypeError as error:
        inside = error.__traceback__.tb_next if error.__traceback__ else None
        if inside is not None:
            raise
        raise TaskError(f"{name} cannot be built: {error}") from None
