"""What decides the result of a config: the parts of a run's signature."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from crown_exp.config import schema
from crown_exp.identity import canonical_json


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


def deciding_differences(
    old: Mapping[str, Any], new: Mapping[str, Any], bound: Iterable[str]
) -> dict[str, tuple[Any, Any]]:
    """The keys that make the result of `new` another than that of `old`, with both values (None: it is absent).

    bound: the groups that the task is handed. What the old ignores decides nothing in either.
    """
    bound, ignore = list(bound), lookup(old, "identity.ignore", [])
    before, after = (
        deciding_parts(config, [name for name in bound if name in config], ignore)
        for config in (old, new)
    )
    keys = leaves_that_differ(before, after)
    return {key: (lookup(old, key, None), lookup(new, key, None)) for key in keys}


def leaves_that_differ(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """The dotted keys at which two trees differ; the whole of what only one of them has."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{key}" if path else str(key)
            if key in old and key in new:
                yield from leaves_that_differ(old[key], new[key], inner)
            else:
                yield inner
    elif canonical_json(old) != canonical_json(new):
        yield path


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
