"""From a command to a sound config, or to everything that is wrong with it at once.

`sound` is the one gate: compose, then check. Why Hydra cannot compose is asked only after it failed, so that
a sound command pays nothing for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from crown_exp.config import schema
from crown_exp.config.check import Checked, check
from crown_exp.config.compose import (
    COMPOSING,
    CONFIG_NAME,
    Composition,
    load,
    one_line,
    plain,
    strict,
)
from crown_exp.config.files import Walk
from crown_exp.config.nearest import did_you_mean
from crown_exp.config.origin import MISSING, Origins, select
from crown_exp.config.overrides import first_job, job_count, override_problems, read
from crown_exp.config.places import display
from crown_exp.config.project import builtin_conf
from crown_exp.config.tree import Tree
from crown_exp.errors import ConfigError, Problem


def sound(
    loader: ConfigLoaderImpl, typed: Sequence[str], config_name: str = CONFIG_NAME
) -> tuple[Composition, Checked]:
    """One composed and checked config. Raises ConfigError with all that is wrong."""
    overrides = one_job(loader, typed, config_name)
    try:
        cfg = load(loader, overrides, config_name)
    except COMPOSING as error:
        raise diagnose(loader, typed, config_name, error) from error
    return examined(loader, cfg, overrides, config_name)


def one_job(loader: ConfigLoaderImpl, typed: Sequence[str], config_name: str) -> list[str]:
    """The overrides of a command that makes one job. Raises ConfigError for more, with all else wrong."""
    overrides, problems = read(loader, typed)
    if problems:
        raise diagnose(loader, typed, config_name)
    jobs = job_count(overrides)
    if jobs == 1:
        return first_job(overrides)
    swept = " ".join(item.input_line or "" for item in overrides if item.is_sweep_override())
    several = "is a search" if jobs is None else f"is a sweep of {jobs} runs"
    how = "add -m to run them all; a list is typed key=[a,b]"
    refusal = Problem(swept, f"{several}; nothing was started: {how}")
    try:
        sound(loader, first_job(overrides), config_name)
    except ConfigError as error:
        raise ConfigError([refusal, *error.problems]) from None
    raise ConfigError([refusal])


def examined(
    loader: ConfigLoaderImpl, cfg: DictConfig, overrides: Sequence[str], config_name: str
) -> tuple[Composition, Checked]:
    """What Hydra composed, resolved and checked. Raises ConfigError, each problem with its file and line."""
    composition, unresolved = plain(cfg, cfg.hydra)
    try:
        return composition, check(composition, groups_of(loader), unresolved, referred(cfg))
    except ConfigError as error:
        origins = Origins(loader, config_name, overrides)
        raise ConfigError([located(problem, origins) for problem in error.problems]) from None


def referred(cfg: DictConfig) -> set[str]:
    """The keys of the top that interpolations anywhere in the config read."""
    nodes = (cfg._get_node(key) for key in cfg if key != "hydra")
    raw = [
        OmegaConf.to_container(node, resolve=False) for node in nodes if OmegaConf.is_config(node)
    ]
    return set(re.findall(r"\$\{\.*(\w+)", f"{raw}"))


def groups_of(loader: ConfigLoader) -> list[str]:
    """The top-level group folders of the search path, Hydra's own left out."""
    found: list[str] = loader.repository.get_group_options("", ObjectType.GROUP)  # type: ignore[attr-defined]
    return [name for name in found if name != "hydra"]


def located(problem: Problem, origins: Origins) -> Problem:
    """The problem with the file and line that it is written in, if it is written in one."""
    place = origins.place(problem.where)
    is_option = "=" in problem.where  # whose file is not to blame, if a source is
    if not place or place == problem.source or (problem.source and is_option):
        return problem
    source = f"{problem.source}; written in {place}" if problem.source else place
    return Problem(problem.where, problem.what, source)


def diagnose(
    loader: ConfigLoaderImpl,
    typed: Sequence[str],
    config_name: str = CONFIG_NAME,
    error: BaseException | None = None,
) -> ConfigError:
    """All that is wrong with a command; what Hydra said (`error`) if we find no better words."""
    parsed, problems = read(loader, [strict(item) for item in typed])
    tree = Tree(loader, config_name, [item.input_line or "" for item in parsed])
    walk = Walk(tree, parsed)
    walk.follow(config_name)
    if hiding := hides_ours(tree, walk, config_name):
        return ConfigError([*problems, hiding])
    sensible: list[Override] = []
    dropped: set[str] = set()
    for override in parsed:
        if found := list(override_problems(loader, tree, override, walk.listed)):
            problems += found
            dropped.add(override.key_or_group)
        else:
            sensible.append(override)
    problems += walk.problems
    if not walk.problems:
        late = composed_problems(loader, tree, sensible, config_name)
        if dropped & {"experiment", "task"}:
            dropped |= {*schema.TARGET_GROUPS, *tree.groups()}
        problems += [item for item in late if item.where not in dropped]  # these follow from others
    told = [item for item in problems if item.where != "task" or len(problems) == 1]
    return ConfigError(told or [Problem("config", hydra_says(tree, error))])


def hides_ours(tree: Tree, walk: Walk, config_name: str) -> Problem | None:
    """The problem of a config.yaml that stands in the place of the framework's and lists none of its groups."""
    file = tree.file(config_name)
    ours = builtin_conf() / "config.yaml"
    if file is None or file.samefile(ours) or {*schema.TARGET_GROUPS} & walk.listed.keys():
        return None
    if config_name != CONFIG_NAME or any(
        item.where.startswith(display(file)) for item in walk.problems
    ):
        return None
    what = "hides the framework's config.yaml, which lists the groups: delete it, or begin it as that begins"
    return Problem(display(file), what, display(ours))


def composed_problems(
    loader: ConfigLoaderImpl, tree: Tree, parsed: Sequence[Override], config_name: str
) -> list[Problem]:
    """What only a composed config can tell, of the first job of a sweep."""
    problems: list[Problem] = []
    edits = [item for item in parsed if is_edit(item) and not tree.is_group(item.key_or_group)]
    try:
        if edits:
            others = [item for item in parsed if item not in edits]
            base = load(loader, first_job(others), config_name)
            wrong = {id(item): found for item in edits if (found := edit_problem(base, item))}
            problems += wrong.values()
            parsed = [item for item in parsed if id(item) not in wrong]
        overrides = first_job(parsed)
        cfg = load(loader, overrides, config_name)
    except COMPOSING:
        return problems  # told in Hydra's words, if by nobody else
    try:
        examined(loader, cfg, overrides, config_name)
    except ConfigError as error:
        problems += error.problems
    return problems


def is_edit(override: Override) -> bool:
    """Whether it adds or removes a key, which Hydra refuses for one that is, or is not, there."""
    return override.is_add() or override.is_delete()


def edit_problem(cfg: DictConfig, override: Override) -> Problem | None:
    """The problem of a key that is added though it is there, or removed though it is not."""
    key, text = override.key_or_group, override.input_line or ""
    tree = OmegaConf.to_container(cfg, resolve=False)
    there = select(tree, key) is not MISSING
    if override.is_add() and there:
        return Problem(text, f"{key} is there already: type it without the plus")
    if override.is_delete() and not there:
        owner, _, name = key.rpartition(".")
        section = select(tree, owner) if owner else tree
        known = list(map(str, section)) if isinstance(section, dict) else []
        return Problem(text, f"no such key; {did_you_mean(name, known) or 'nothing is below it'}")
    return None


def hydra_says(tree: Tree, error: BaseException | None) -> str:
    """Hydra's own message on one line, its config paths as files."""
    text = one_line(error) if error else "cannot be composed"
    return re.sub(r"[\w.-]+/[\w./-]+", lambda path: tree.shown(path[0].rstrip(".")), text)
