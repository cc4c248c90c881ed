"""The task: which groups it is handed, and whether each of its parameters is filled with what it accepts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from crown_exp.config import schema
from crown_exp.config.check_targets import (
    argument_problems,
    source_of,
    target_problems,
    typed_group,
)
from crown_exp.config.compose import Composition
from crown_exp.config.nearest import nearest
from crown_exp.config.targets import Parameter, Target
from crown_exp.errors import Problem

TOP_KEYS = frozenset(item.name for item in fields(schema.Schema))

WHOLE = (["cfg"], ["config"])
"""The parameters, after the run, of a task that takes the whole config."""


@dataclass(frozen=True)
class Checked:
    """What a sound config says about its task.

    target: the user's function.
    bound: the groups that are handed to it, by parameter name.
    whole: it takes the whole config instead (`def train(run, cfg)`).
    """

    target: Target
    bound: tuple[str, ...]
    whole: bool


def bind(target: Target, config: Mapping[str, Any]) -> Checked:
    """Which groups of the config the task is handed; all of them if it takes the whole config."""
    names = list(target.parameters)[1:]  # the first one is the run
    whole = names in WHOLE
    groups = [name for name in config if name not in TOP_KEYS and name != "task"]
    bound = [
        name for name in (groups if whole else names)
        if name in groups and isinstance(config[name], Mapping)
    ]  # fmt: skip
    return Checked(target, tuple(bound), whole)


def task_problems(
    checked: Checked, config: Mapping[str, Any], groups: Collection[str]
) -> Iterator[Problem]:
    """Keys the task does not take, values it does not accept, and parameters nobody fills."""
    target, task = checked.target, config["task"]
    if target.kind == "unknown":
        return
    first, *rest = target.parameters.values() if target.parameters else (Parameter(""),)
    if not first.name or first.is_config or first.name in groups:
        got = f"the first is {first.name}" if first.name else "it takes none"
        what = f"the first parameter of a task must be the run; {got}"
        yield Problem("task._target_", what, source_of(target))
        return
    own = {item.name: item for item in rest if item.name not in checked.bound}
    for key in task:
        if key in checked.bound:
            what = f"{target.name} is handed the group {key}; set {key}.… or {key}=<name>"
            yield Problem(f"task.{key}", what)
    settings = {key: value for key, value in task.items() if key not in checked.bound}
    free = target.opened() if checked.whole else target
    yield from argument_problems(free.with_parameters(own), settings, "task")
    for key, value in settings.items():
        yield from target_problems(value, f"task.{key}")
    for parameter in unfilled(checked, config):
        near = misspelt(parameter, checked, config, groups)
        yield unfilled_problem(target, parameter, near, groups)


def unfilled(checked: Checked, config: Mapping[str, Any]) -> list[Parameter]:
    """The parameters of the task that neither a group nor task.* fills."""
    if checked.whole:
        return []
    told = {name for name, value in config.items() if name not in TOP_KEYS and value is not None}
    _, *rest = checked.target.parameters.values()
    return [
        item for item in rest
        if item.required and item.name not in {*checked.bound, *config["task"], *told}
    ]  # fmt: skip


def unfilled_problem(
    target: Target, parameter: Parameter, near: str, groups: Collection[str]
) -> Problem:
    """What to do about a parameter that nothing fills. near: the group that may have been meant by it."""
    name = parameter.name
    where, how = f"task.{name}", f"needs it: type task.{name}=…"
    if name in schema.FRAMEWORK_GROUPS:
        where, how = "task._target_", f"asks for {name}: take run.{name} instead"
    elif near:
        where, how = (
            name,
            f"has a parameter of this name, which nothing fills; did you mean {near}?",
        )
    elif name in groups or parameter.is_config:
        where, how = name, f"needs it: choose {typed_group(name)}"
    return Problem(where, f"{target.name} {how}", source_of(target))


def misspelt(
    parameter: Parameter, checked: Checked, config: Mapping[str, Any], groups: Collection[str]
) -> str:
    """The chosen group, which the task does not take, that a parameter may be a typo of; "" if none."""
    if parameter.name in groups or not (parameter.is_config or parameter.kind.open):
        return ""
    spare = set(config) - TOP_KEYS - {"task", "experiment", *checked.bound}
    near = nearest(parameter.name, [name for name in spare if isinstance(config[name], Mapping)])
    return near[0] if near else ""


def untaken_problems(
    checked: Checked, composition: Composition, groups: Collection[str], referred: Collection[str]
) -> Iterator[Problem]:
    """Groups that the user typed and that go nowhere: the task does not take them, no interpolation reads them.

    What a file chooses may be there for other tasks.
    """
    target, config = checked.target, composition.config
    if checked.whole or target.kind == "unknown" or not target.parameters:
        return
    meant = {misspelt(item, checked, config, groups) for item in unfilled(checked, config)}
    names = {*groups, *checked.bound}
    takes = [
        item.name for item in target.parameters.values() if item.is_config or item.name in names
    ]
    for text in composition.overrides:
        group = text.lstrip("+").partition("=")[0]
        passed_on = {*checked.bound, *referred, *meant, "task", *TOP_KEYS}
        node = None if group in passed_on else config.get(group)
        if isinstance(node, Mapping) and node.get("_target_"):
            what = f"{target.name} does not take {group}; it takes {', '.join(takes) or 'no group'}"
            yield Problem(text, what, source_of(target))
