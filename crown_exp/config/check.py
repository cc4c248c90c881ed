"""One pass over a composed config: every key that nothing defines, every value of a wrong type or range.

Framework keys are held against `schema`, anything with a `_target_` against the signature of what it names,
read without importing it. All problems are found at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from crown_exp.config import kinds, schema, values
from crown_exp.config.nearest import did_you_mean
from crown_exp.config.origin import line_of_field
from crown_exp.config.places import display_source
from crown_exp.config.targets import Target, TargetError, find_target
from crown_exp.errors import ConfigError, Problem

TARGET_KEYS = frozenset({"_target_", "_args_", "_partial_", "_recursive_", "_convert_"})

TOP_KEYS = frozenset(item.name for item in fields(schema.Schema))

Place = Callable[[str], str]
"""Tells in which file and line a key of the config is written; "" if on the command line."""


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


def check(config: Mapping[str, Any], groups: Collection[str], place: Place) -> Checked:
    """Raises ConfigError with every problem of the config; `groups` are the group folders there are."""
    problems = [
        *unknown_at_top(config, groups, place),
        *framework_problems(config, schema.Schema, "", place),
        *(
            problem
            for key, value in config.items()
            if key not in schema.FRAMEWORK_GROUPS and key != "task"
            for problem in target_problems(value, key, place)
        ),
        *ignore_problems(config),
    ]
    task = config.get("task")
    if not isinstance(task, Mapping) or not task.get("_target_"):
        if not problems:
            problems.append(no_task(task))
        raise ConfigError(problems)
    try:
        target = find_target(str(task["_target_"]))
    except TargetError as error:
        raise ConfigError([*problems, target_problem("task._target_", error, place)]) from None
    checked = bind(target, config)
    problems += task_problems(checked, config, groups, place)
    if problems:
        raise ConfigError(problems)
    return checked


def no_task(task: object) -> Problem:
    """The problem of a config that runs nothing."""
    if task:
        return Problem(
            "task._target_", "the task names no function: set task._target_=package.module.f"
        )
    return Problem(
        "task", "nothing to run: choose a preset with +experiment=<name>, or task=<name>"
    )


# --- framework keys -------------------------------------------------------------------------------------


def unknown_at_top(
    config: Mapping[str, Any], groups: Collection[str], place: Place
) -> Iterator[Problem]:
    """Top-level keys that are neither the schema's nor a group folder's."""
    known = TOP_KEYS | set(groups)
    for key in config:
        if key not in known and key not in schema.TARGET_GROUPS:
            yield unknown(str(key), str(key), known, "", place)


def framework_problems(node: Any, section: type, prefix: str, place: Place) -> Iterator[Problem]:
    """Problems of one dataclass section of the schema and of those inside it."""
    types = get_type_hints(section, include_extras=True)
    here = prefix.removesuffix(".")
    if not isinstance(node, Mapping):
        yield Problem(here, f"expected keys ({', '.join(types)}), got {node!r}", place(here))
        return
    for key in node if prefix else ():
        if key not in types:
            source = (
                f"{display_source(schema.__file__)}:{line_of_field(prefix + next(iter(types)))}"
            )
            yield unknown(f"{prefix}{key}", str(key), types, source, place)
    for item in fields(section):
        if item.name not in node:
            continue
        path, value = f"{prefix}{item.name}", node[item.name]
        if is_dataclass(types[item.name]):
            yield from framework_problems(value, types[item.name], f"{path}.", place)
        elif wrong := values.check(kinds.kind_of_type(types[item.name]), value):
            yield Problem(path, wrong, place(path))
        elif item.metadata["planned"] and value != schema.default_of(item):
            only = schema.default_of(item)
            yield Problem(path, f"not available in this version; leave it at {only}", place(path))


def ignore_problems(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys of identity.ignore that are not in the config."""
    for key in (config.get("identity") or {}).get("ignore") or ():
        node: Any = config
        for part in str(key).split("."):
            known = list(node) if isinstance(node, Mapping) else []
            if part not in known:
                yield Problem("identity.ignore", f"no key {key!r}; {did_you_mean(part, known)}")
                break
            node = node[part]


# --- anything with a _target_ ---------------------------------------------------------------------------


def target_problems(node: Any, path: str, place: Place) -> Iterator[Problem]:
    """Problems of every `_target_` in a tree of plain values."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from target_problems(item, f"{path}.{index}", place)
    if not isinstance(node, Mapping):
        return
    if "_target_" in node:
        try:
            target = find_target(str(node["_target_"]))
        except TargetError as error:
            yield target_problem(f"{path}._target_", error, place)
        else:
            yield from argument_problems(target, node, path, place)
    elif path in schema.TARGET_GROUPS and "." not in path:
        yield Problem(path, f"no option of this group is chosen: type {path}=<name>", place(path))
        return
    for key, value in node.items():
        yield from target_problems(value, f"{path}.{key}", place)


def argument_problems(
    target: Target, node: Mapping[str, Any], path: str, place: Place
) -> Iterator[Problem]:
    """Arguments that a target does not have, or not with such a value."""
    for key, value in node.items():
        if key in TARGET_KEYS:
            continue
        parameter = target.parameters.get(str(key))
        if parameter is None:
            if not target.open:
                known = target.parameters
                yield unknown(f"{path}.{key}", str(key), known, source_of(target), place)
        elif is_plain(value) and (wrong := values.check(parameter.kind, value)):
            yield Problem(f"{path}.{key}", wrong, place(f"{path}.{key}") or source_of(target))


def is_plain(value: Any) -> bool:
    """Whether a value is what it says, rather than the description of an object."""
    return not (isinstance(value, Mapping) and "_target_" in value)


# --- the task -------------------------------------------------------------------------------------------


def bind(target: Target, config: Mapping[str, Any]) -> Checked:
    """Which groups of the config the task is handed."""
    names = list(target.parameters)[1:]  # the first one is the run
    whole = names in (["cfg"], ["config"])
    bound = tuple(
        name for name in names if name not in TOP_KEYS and isinstance(config.get(name), Mapping)
    )
    return Checked(target, bound, whole)


def task_problems(
    checked: Checked, config: Mapping[str, Any], groups: Collection[str], place: Place
) -> Iterator[Problem]:
    """Keys the task does not take, values it does not accept, and parameters nobody fills."""
    target, task = checked.target, config["task"]
    if target.kind == "unknown":
        return
    if not target.parameters:
        yield Problem(
            "task._target_",
            f"{target.name} takes no argument; the first one must be the run",
            source_of(target),
        )
        return
    parameters = dict(list(target.parameters.items())[1:])
    own = {name: item for name, item in parameters.items() if name not in checked.bound}
    for key in task:
        if key in checked.bound:
            what = f"{target.name} is handed the group {key}; set {key}.… or {key}=<name>"
            yield Problem(f"task.{key}", what, place(f"task.{key}"))
    free = target.opened() if checked.whole else target
    settings = {key: value for key, value in task.items() if key not in checked.bound}
    narrowed = free.with_parameters(own)
    yield from argument_problems(narrowed, settings, "task", place)
    for value_key, value in settings.items():
        yield from target_problems(value, f"task.{value_key}", place)
    for name, parameter in own.items():
        if (
            parameter.required
            and name not in task
            and not (checked.whole and name in ("cfg", "config"))
        ):
            yield unfilled(target, name, parameter.is_config, groups)


def unfilled(target: Target, name: str, is_config: bool, groups: Collection[str]) -> Problem:
    """The problem of a parameter of the task that neither a group nor task.* fills."""
    if name in schema.FRAMEWORK_GROUPS:
        return Problem(
            name, f"{target.name} asks for {name}: take run.{name} instead", source_of(target)
        )
    if name in groups or is_config:
        return Problem(name, f"{target.name} needs it: choose {name}=<name>", source_of(target))
    return Problem(f"task.{name}", f"{target.name} needs it: type task.{name}=…", source_of(target))


# --- words ----------------------------------------------------------------------------------------------


def unknown(path: str, name: str, known: Collection[str], source: str, place: Place) -> Problem:
    """The problem of a key that nothing defines."""
    written = place(path)
    sources = [source, f"written in {written}" if written else ""]
    return Problem(
        path, f"no such key; {did_you_mean(name, known)}", "; ".join(filter(None, sources))
    )


def target_problem(path: str, error: TargetError, place: Place) -> Problem:
    """The problem of a `_target_` that names nothing."""
    return Problem(path, str(error), place(path))


def source_of(target: Target) -> str:
    """The file and line that define a target, as short as they can be told."""
    if target.file is None:
        return target.name
    return (
        f"{display_source(target.file)}:{target.line}"
        if target.line
        else display_source(target.file)
    )
