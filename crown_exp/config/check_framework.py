"""Framework keys held against `crown_exp.config.schema`: names, types, ranges, and texts that must be read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from crown_exp.config import kinds, schema, values
from crown_exp.config.check_targets import target_problems, unknown
from crown_exp.config.nearest import did_you_mean
from crown_exp.config.origin import schema_place
from crown_exp.config.units import parse_best, parse_cadence, parse_duration, parse_steps
from crown_exp.config.weights_source import parse_source
from crown_exp.errors import ConfigError, Problem

TEXTS: Mapping[str, Callable[[str, str], object]] = {
    "checkpoint.every": parse_cadence,
    "checkpoint.keep_every": parse_steps,
    "checkpoint.keep_best": parse_best,
    "checkpoint.deadline": parse_duration,
    "checkpoint.mtbf": parse_duration,
    "checkpoint.init_from": parse_source,
    "compute.start_deadline": parse_duration,
    "compute.time": parse_duration,
    "limits.attempt": parse_duration,
    "limits.run": parse_duration,
}
"""Who reads the keys whose values are texts with a grammar of their own."""


def framework_problems(node: Any, section: type, prefix: str = "") -> Iterator[Problem]:
    """Problems of one dataclass section of the schema and of those inside it."""
    types = types_of(section)
    if not isinstance(node, Mapping):
        keys = f"expected keys ({', '.join(types)}), got {values.shown(node)}"
        yield Problem(prefix.removesuffix("."), keys)
        return
    yield from extra_problems(node, types, prefix)
    for item in fields(section):
        if item.name not in node:
            continue
        path, value, only = f"{prefix}{item.name}", node[item.name], schema.default_of(item)
        if is_dataclass(types[item.name]):
            yield from framework_problems(value, types[item.name], f"{path}.")
        elif item.metadata["planned"] and value != only:
            what = f"not available in this version; leave it at {values.shown(only)}"
            yield Problem(path, what)
        elif path in TEXTS and value is not None:
            yield from text_problems(path, str(value))
        elif wrong := values.check(kinds.kind_of_type(types[item.name]), value):
            yield Problem(path, wrong)


def extra_problems(
    node: Mapping[str, Any], types: Collection[str], prefix: str
) -> Iterator[Problem]:
    """Problems of what a section holds beside its own keys: arguments of its `_target_`, if it may have one."""
    group, extra = prefix.removesuffix("."), {k: v for k, v in node.items() if k not in types}
    if group in schema.OPEN_GROUPS and "_target_" in extra:
        yield from target_problems(extra, group)
        return
    for key in extra if prefix else ():
        first = schema_place(prefix + next(iter(types)))
        yield unknown(f"{prefix}{key}", str(key), types, first)


def text_problems(path: str, text: str) -> Iterator[Problem]:
    """The problem of a text that whoever takes the key could not read."""
    try:
        TEXTS[path](text, path)
    except ConfigError as error:
        yield from error.problems


@cache
def types_of(section: type) -> dict[str, Any]:
    """The annotations of a section's fields, in their order."""
    return get_type_hints(section, include_extras=True)


def ignore_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys of identity.ignore that are not in the config."""
    identity = config.get("identity")
    ignored = identity.get("ignore") if isinstance(identity, Mapping) else None
    for key in ignored if isinstance(ignored, list) else ():
        node: Any = config
        for part in str(key).split("."):
            known = list(map(str, node)) if isinstance(node, Mapping) else []
            if part not in known:
                near = did_you_mean(part, known) or "nothing is below it"
                yield Problem("identity.ignore", f"no key {key!r}; {near}")
                break
            node = node[part]
