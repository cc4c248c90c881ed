"""Trees of values (a config, a result) as rows of plain ones under dotted names."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, NamedTuple

LONGEST = 4000
"""Characters of a value that are kept; of a longer one, its beginning and its hash."""

ALONE = "result"
"""The name of a result that is no mapping."""


class Value(NamedTuple):
    """A plain value: its type as Python has it, the text one would type, the number if it is one."""

    type: str
    text: str
    num: float | None


def flatten(tree: object) -> dict[str, Value]:
    """Every value of a tree of mappings by its dotted name; a list, or an empty mapping, is one value."""
    found = leaves(tree) if isinstance(tree, Mapping) and tree else [(ALONE, tree)]
    return {name: value_of(item) for name, item in found}


def leaves(tree: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a tree as it is, with its dotted name; a list, or an empty mapping, is one value."""
    for key, item in tree.items():
        name = f"{above}{key}"
        if isinstance(item, Mapping) and item:
            yield from leaves(item, f"{name}.")
        else:
            yield name, item


def value_of(item: object) -> Value:
    """A value as a row holds it."""
    if isinstance(item, str):
        return Value("str", _kept(item), None)
    if isinstance(item, bool) or item is None:
        return Value("null" if item is None else "bool", json.dumps(item), None)
    if isinstance(item, int | float):
        return Value(type(item).__name__, _kept(_typed(item)), number(item))
    if isinstance(item, date):  # yaml reads 2026-11-22 so
        return Value("str", item.isoformat(), None)
    kind = "dict" if isinstance(item, Mapping) else "list"
    return Value(kind, _kept(json.dumps(item, ensure_ascii=False, default=str)), None)


def number(value: object) -> float | None:
    """What can be compared as a number; None for nan, for what a float cannot hold and for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return None if math.isnan(found) else found


def _typed(value: float) -> str:
    """A number as yaml reads it back."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"inf": ".inf", "-inf": "-.inf"}.get(str(value), ".nan")
    try:
        return json.dumps(value)
    except ValueError:  # more digits than Python will write
        return hex(value) if isinstance(value, int) else str(value)


def _kept(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{text[: LONGEST - 80]}… sha256:{digest}"


def forked_from(lineage: Any) -> tuple[str, int | None] | None:
    """The run, and its step, that a run was forked from; None if it was not."""
    fork = lineage.get("fork") if isinstance(lineage, Mapping) else None
    if not isinstance(fork, Mapping) or not isinstance(fork.get("run"), str):
        return None
    step = fork.get("step")
    return fork["run"], step if isinstance(step, int) else None
