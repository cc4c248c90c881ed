"""Anything with a `_target_`, held against the signature of what it names, read without importing it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from crown_exp.config import schema, values
from crown_exp.config.compose import Composition
from crown_exp.config.nearest import did_you_mean
from crown_exp.config.places import display_source
from crown_exp.config.targets import Target, TargetError, find_target
from crown_exp.errors import Problem

TARGET_KEYS = frozenset({"_target_", "_args_", "_partial_", "_recursive_", "_convert_"})


def group_problems(
    composition: Composition, group: str, groups: Collection[str]
) -> Iterator[Problem]:
    """Problems of one group that is not the framework's: its shape, and every `_target_` in it."""
    value, choice = composition.config[group], composition.choices.get(group)
    where = f"{group}={choice}" if choice else group
    if group == "experiment":
        yield Problem(where, misplaced(value))
    elif wrong := misshapen(value, group, choice, group in groups):
        yield Problem(where, wrong)
    else:
        yield from target_problems(value, group)


def misshapen(value: Any, group: str, choice: str | None, is_folder: bool) -> str:
    """Why a group's value is not what a group holds, the description of an object; "" if it is."""
    if value is None or not (is_folder or is_target(group)):
        return ""
    if not isinstance(value, Mapping):
        return f"expected keys, got {values.shown(value)}"
    if "_target_" in value:
        return ""
    if choice:
        return "has no _target_: nothing says what to build" if is_target(group) else ""
    return f"no option of this group is chosen: type {typed_group(group)}" if is_folder else ""


def misplaced(preset: Any) -> str:
    """What is wrong with a preset whose keys are not at the top of the tree."""
    if not preset:
        return "this preset is empty"
    if not isinstance(preset, Mapping):
        return f"expected `key: value` lines, got {values.shown(preset)}"
    return "a preset begins with the line `# @package _global_`; without it, its keys land here"


def is_target(group: str) -> bool:
    """Whether a group of ours is always the description of an object."""
    return group in schema.TARGET_GROUPS


def typed_group(group: str) -> str:
    """How an option of a group is chosen; only ours are in the defaults list."""
    return f"{'' if is_target(group) else '+'}{group}=<name>"


def target_problems(node: Any, path: str) -> Iterator[Problem]:
    """Problems of every `_target_` in a tree of plain values."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from target_problems(item, f"{path}.{index}")
    if not isinstance(node, Mapping):
        return
    if "_target_" in node and node["_target_"] in (None, ""):
        yield Problem(f"{path}._target_", "names nothing: type package.module.function or a class")
    elif "_target_" in node:
        try:
            target = find_target(str(node["_target_"]))
        except TargetError as error:
            yield Problem(f"{path}._target_", str(error))
        else:
            yield from argument_problems(target, node, path)
    for key, value in node.items():
        yield from target_problems(value, f"{path}.{key}")


def argument_problems(target: Target, node: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """Arguments that a target does not have, or not with such a value."""
    for key, value in node.items():
        if key in TARGET_KEYS:
            continue
        parameter = target.parameters.get(str(key))
        if parameter is None:
            if not target.open:
                yield unknown(f"{path}.{key}", str(key), target.parameters, source_of(target))
        elif wrong := values.check(parameter.kind, value):
            yield Problem(f"{path}.{key}", wrong, source_of(target))


def unknown(path: str, name: str, known: Collection[str], source: str) -> Problem:
    """The problem of a key that nothing defines."""
    return Problem(path, f"no such key; {did_you_mean(name, known) or 'it takes none'}", source)


def source_of(target: Target) -> str:
    """The file and line that define a target, as short as they can be told."""
    if target.file is None:
        return target.name
    file = display_source(target.file)
    return f"{file}:{target.line}" if target.line else file
