"""One pass over a composed config: every key that nothing defines, every value of a wrong type or range.

Framework keys are held against `schema`, anything with a `_target_` against the signature of what it names,
read without importing it. All problems are found at once; where they are written, `diagnose` adds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from crown_exp.config import schema, values
from crown_exp.config.check_framework import framework_problems, ignore_problems
from crown_exp.config.check_targets import group_problems
from crown_exp.config.check_task import (
    TOP_KEYS,
    Checked,
    bind,
    task_problems,
    untaken_problems,
)
from crown_exp.config.compose import Composition
from crown_exp.config.nearest import either, known_names, nearest
from crown_exp.config.targets import Target, TargetError, find_target
from crown_exp.errors import ConfigError, Problem

__all__ = ["Checked", "check"]


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
