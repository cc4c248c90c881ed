"""What decides the result of a config: the parts of a run's signature."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from crown_exp.config import schema


def deciding_parts(
    config: Mapping[str, Any], bound: Iterable[str], ignore: Iterable[str] = ()
) -> dict[str, Any]:
    """The task, each group it is handed, and the framework keys that decide the result.

    A framework key counts only where it differs from the schema's default, so that a key added later
    changes no signature, neither of a config that has it nor of one that was stored before. `ignore` are
    dotted keys that the user says decide nothing.
    """
    parts: dict[str, Any] = {"task": config["task"]}
    parts |= {name: config[name] for name in bound}
    parts |= {
        key.path: value
        for key in schema.leaves()
        if key.decides and (value := lookup(config, key.path, key.default)) != key.default
    }
    parts = copy.deepcopy(parts)
    for key in ignore:
        drop(parts, key)
    return parts


def lookup(config: Mapping[str, Any], path: str, default: Any) -> Any:
    """The value at a dotted path, or the default."""
    node: Any = config
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return default
        node = node[part]
    return node


def drop(tree: dict[str, Any], path: str) -> None:
    """Remove a dotted path from a tree of the signature's parts, if it is there.

    Framework keys stand in it under their whole path, all others in their group.
    """
    if path in tree:
        del tree[path]
        return
    *parents, last = path.split(".")
    node: Any = tree
    for part in parents:
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(last, None)
