"""The group `compute` of a command that has no run: composed as a run's is, and checked alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override

from crown_exp.config import schema
from crown_exp.config.check_framework import framework_problems
from crown_exp.config.compose import COMPOSING, CONFIG_NAME, load, resolved
from crown_exp.config.diagnose import diagnose
from crown_exp.config.nearest import nearest
from crown_exp.config.overrides import read
from crown_exp.config.recorded import misplaced
from crown_exp.config.tree import Tree
from crown_exp.errors import ConfigError, Problem

GROUP = "compute"


def machine_of(loader: ConfigLoaderImpl, typed: Sequence[str]) -> dict[str, Any]:
    """The group `compute` of the project's config with `compute=a100 compute.spot=true` as they were typed.

    Raises ConfigError with every problem: what is no key of it, too.
    """
    parsed, problems = read(loader, typed)
    tree = Tree(loader)
    for item in parsed:
        problems += list(foreign(item)) or list(misplaced(tree, item))
    if problems:
        raise ConfigError(problems)
    try:
        cfg = load(loader, typed)
    except COMPOSING as error:
        raise diagnose(loader, list(typed), CONFIG_NAME, error) from error
    config, unresolved = resolved(cfg)
    problems = [it for it in unresolved if it.where.partition(".")[0] == GROUP]
    problems += framework_problems(config[GROUP], schema.Compute, f"{GROUP}.")
    if problems:
        raise ConfigError(problems)
    found: dict[str, Any] = config[GROUP]
    return found


def foreign(item: Override) -> Iterator[Problem]:
    """What an override says that has nothing to do with a machine."""
    first, _, rest = item.key_or_group.partition(".")
    if first != GROUP:
        near = nearest(first, [GROUP])
        known = f"did you mean {GROUP}{'.' if rest else ''}{rest}?" if near else (
            f"expected {GROUP}=<target> or {GROUP}.<key>=<value>; a command follows --"
        )  # fmt: skip
        yield Problem(item.input_line or "", f"says nothing about a machine; {known}")
