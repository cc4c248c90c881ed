"""One pass over a composed config: every key that nothing defines, every value of a wrong type or range.

Framework keys are held against `schema`, anything with a `_target_` against the signature of what it names,
read without importing it. All problems are found at once; where they are written, `diagnose` adds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

from crown_exp.config import kinds, schema, values
from crown_exp.config.compose import Composition
from crown_exp.config.nearest import did_you_mean, either, known_names, nearest
from crown_exp.config.origin import schema_place
from crown_exp.config.places import display_source
from crown_exp.config.targets import Parameter, Target, TargetError, find_target
from crown_exp.errors import ConfigError, Problem

TARGET_KEYS = frozenset({"_target_", "_args_", "_partial_", "_recursive_", "_convert_"})

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


def check(
    composition: Composition,
    groups: Collection[str],
    unresolved: Collection[Problem] = (),
    referred: Collection[str] | None = None,
) -> Checked:
    """Raises ConfigError with every problem of the config.

    groups: the group folders there are. unresolved: the problems of keys that the tree lacks therefore.
    referred: the keys of the top that interpolations read; None if nobody looked, and then a group that was
    typed and goes nowhere is none of the problems.
    """
    config, problems = composition.config, list(unresolved)
    target: Target | None = None
    if task_name := target_name(config):
        try:
            target = find_target(task_name)
        except TargetError as error:
            problems.append(Problem("task._target_", str(error)))
    problems += unknown_at_top(config, groups, target)
    problems += framework_problems(config, schema.Schema)
    for key in config:
        if key not in TOP_KEYS and key != "task":
            problems += group_problems(composition, key, groups)
    problems += ignore_problems(config)
    checked = bind(target, config) if target else None
    if checked:
        problems += task_problems(checked, config, groups)
        if referred is not None:
            problems += untaken_problems(checked, composition, groups, referred)
    elif not problems:
        problems.append(no_task(composition))
    if problems or not checked:
        known = {problem.where: problem for problem in unresolved}
        raise ConfigError([known.get(problem.where, problem) for problem in problems])
    return checked


def target_name(config: Mapping[str, Any]) -> str:
    """The function that the task names; "" if it names none."""
    task = config.get("task")
    return str(task.get("_target_") or "") if isinstance(task, Mapping) else ""


def no_task(composition: Composition) -> Problem:
    """The problem of a config that runs nothing."""
    task, preset = composition.config.get("task"), composition.choices.get("experiment")
    if isinstance(task, Mapping):
        how = "set task._target_=package.module.f, or choose one with task=<name>"
        return Problem("task._target_", f"the task names no function: {how}")
    if task:
        return Problem("task", f"expected keys with a _target_, got {values.shown(task)}")
    if preset:
        what = "this preset chooses no task: `override /task: <name>` in its defaults list does"
        return Problem(f"experiment={preset}", what)
    return Problem(
        "task", "nothing to run: choose a preset with +experiment=<name>, or task=<name>"
    )


# --- framework keys -------------------------------------------------------------------------------------


def unknown_at_top(
    config: Mapping[str, Any], groups: Collection[str], target: Target | None
) -> Iterator[Problem]:
    """Top-level keys that are neither the schema's, nor a group's, nor handed to the task."""
    known = {*TOP_KEYS, *schema.TARGET_GROUPS, *groups}
    taken = list(target.parameters)[1:] if target else []
    for key, value in config.items():
        if key in known or (key in taken and isinstance(value, Mapping)):
            continue
        own = {name: f"task.{name}" for name in taken if name not in known}
        near = [own.get(name, name) for name in nearest(str(key), {*known, *own})]
        if key in own:
            near = [own[key]]
        hint = f"did you mean {either(near)}?" if near else known_names(known)
        yield Problem(str(key), f"no such key; {hint}")


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


# --- anything with a _target_ ---------------------------------------------------------------------------


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


# --- the task -------------------------------------------------------------------------------------------


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


# --- words ----------------------------------------------------------------------------------------------


def unknown(path: str, name: str, known: Collection[str], source: str) -> Problem:
    """The problem of a key that nothing defines."""
    return Problem(path, f"no such key; {did_you_mean(name, known) or 'it takes none'}", source)


def source_of(target: Target) -> str:
    """The file and line that define a target, as short as they can be told."""
    if target.file is None:
        return target.name
    file = display_source(target.file)
    return f"{file}:{target.line}" if target.line else file
