"""What was changed against a recorded config: values by dotted key, a whole mapping where keys went away.

`changes_of(old, new)` and `changed(old, changes)` are each other's inverse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def changes_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What to change in `old` so that it is `new`, which must have all keys of its top."""
    return {
        path: value
        for key in new
        for path, value in _changes(old.get(key, _MISSING), new[key], str(key))
    }


_MISSING = object()


def _changes(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any]]:
    both = isinstance(old, Mapping) and isinstance(new, Mapping)
    if both and new and old.keys() <= new.keys() and all(map(_is_name, new)):
        for key, value in new.items():
            yield from _changes(old.get(key, _MISSING), value, f"{path}.{key}")
    elif not same(old, new):
        yield path, new


def _is_name(key: Any) -> bool:
    """Whether a key can stand in a dotted one."""
    return isinstance(key, str) and "." not in key


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are written alike: 1 is not true, nan is nan."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


def changed(config: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The config with these changes; what neither holds is shared with the old one."""
    found = dict(config)
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        node = found
        for parent in parents:
            inner = node.get(parent)
            node[parent] = node = dict(inner) if isinstance(inner, Mapping) else {}
        node[last] = value
    return found


def merged(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Changes upon changes as one: what lies below a key that is changed as a whole is gone."""
    kept = {
        path: value
        for path, value in earlier.items()
        if not any(path == key or path.startswith(f"{key}.") for key in later)
    }
    return {**kept, **later}


def filled(config: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The config, with what it lacks of `base`; keys in the order of `base`, then its own."""
    return {
        **{
            key: filled(config[key], value)
            if isinstance(value, Mapping) and isinstance(config.get(key), Mapping)
            else config.get(key, value)
            for key, value in base.items()
        },
        **{key: value for key, value in config.items() if key not in base},
    }
