"""A recorded config with other values: `key=value` laid over it, a group's option composed alone.

The files of conf/ as they are now have a say only in the groups that are chosen anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from crown_exp.config.check import Checked, check
from crown_exp.config.compose import (
    COMPOSING,
    CONFIG_NAME,
    Composition,
    load,
    one_line,
    resolved,
    strict,
)
from crown_exp.config.diagnose import diagnose, groups_of
from crown_exp.config.files import Walk
from crown_exp.config.nearest import did_you_mean
from crown_exp.config.overrides import option_values, read
from crown_exp.config.tree import Tree
from crown_exp.errors import ConfigError, Problem


def overridden(
    loader: ConfigLoaderImpl,
    config: Mapping[str, Any],
    typed: Sequence[str],
    *,
    experiment: str | None,
) -> tuple[Composition, Checked]:
    """A recorded config with what was typed, checked as a new one is. Raises ConfigError with every problem.

    experiment: the preset that it was once composed from.
    """
    parsed, problems = read(loader, [strict(item) for item in typed])
    tree = Tree(loader)
    problems += [problem for item in parsed for problem in misplaced(tree, item)]
    if problems:
        raise ConfigError(problems)
    laid = laid_over(loader, tree, config, parsed)
    values, unresolved = resolved(laid)
    # which options were taken is not recorded; that one was is seen from what it left
    choices: dict[str, str | None] = {
        group: group for group in groups_of(loader) if values.get(group) is not None
    }
    composition = Composition(values, choices | {"experiment": experiment}, tuple(typed))
    return composition, check(composition, groups_of(loader), unresolved)


def misplaced(tree: Tree, override: Override) -> Iterator[Problem]:
    """What an override of a recorded config cannot do."""
    text, key = override.input_line or "", override.key_or_group
    if override.is_sweep_override():
        yield Problem(text, "is several runs; one at a time: type one value (a list is key=[a,b])")
    elif key == "hydra" or key.startswith(("hydra.", "hydra/")):
        yield Problem(text, "says how a run is composed; this one has its config already")
    elif key == "experiment":
        yield Problem(text, "a recorded run keeps its preset: type the keys that are to differ")
    elif tree.is_group(key) and override.package is not None:
        yield Problem(text, f"an option is taken where its group is: type {key}=<name>")
    elif tree.is_group(key):
        options = tree.options(key)
        for value in () if isinstance(override.value(), dict) else option_values(override):
            if value is not None and str(value) not in options:
                what = f"group {key} has no option {value!r}; {did_you_mean(str(value), options)}"
                yield Problem(text, what, tree.folder(key))
    elif "/" in key or override.package is not None:
        yield Problem(text, f"no group {key!r}; {did_you_mean(key, tree.all_groups())}")


def laid_over(
    loader: ConfigLoaderImpl, tree: Tree, config: Mapping[str, Any], parsed: Sequence[Override]
) -> DictConfig:
    """The recorded config with the overrides in it, groups first as Hydra has it. Raises ConfigError."""
    laid: DictConfig = OmegaConf.create(escaped(dict(config)))
    chosen = [item for item in parsed if chooses(tree, item)]
    for group, node in composed_alone(loader, tree, chosen).items():
        OmegaConf.update(laid, group, node, merge=False, force_add=True)
    problems = []
    for item in parsed:
        if item in chosen:
            continue
        try:
            lay(laid, item)
        except (OmegaConfBaseException, KeyError, TypeError, ValueError) as error:
            problems.append(Problem(item.input_line or "", one_line(error)))
    if problems:
        raise ConfigError(problems)
    return laid


def chooses(tree: Tree, override: Override) -> bool:
    """Whether an override names the option of a group."""
    is_value = isinstance(override.value(), dict)
    return tree.is_group(override.key_or_group) and not override.is_delete() and not is_value


def lay(laid: DictConfig, override: Override) -> None:
    """Set one key, or remove it."""
    key = override.key_or_group.replace("/", ".")
    if not override.is_delete():
        OmegaConf.update(laid, key, override.value(), merge=True, force_add=True)
        return
    owner, _, name = key.rpartition(".")
    node = OmegaConf.select(laid, owner) if owner else laid
    if not isinstance(node, DictConfig) or name not in node:
        known = list(map(str, node)) if isinstance(node, DictConfig) else []
        raise ValueError(f"no such key; {did_you_mean(name, known) or 'nothing is below it'}")
    del node[name]


def composed_alone(
    loader: ConfigLoaderImpl, tree: Tree, chosen: Sequence[Override]
) -> dict[str, Any]:
    """The unresolved content of each group that is chosen anew, by its dotted place. Raises ConfigError."""
    if not chosen:
        return {}
    walk = Walk(tree, [])
    walk.follow(CONFIG_NAME)
    typed = [typed_choice(item, walk) for item in chosen]
    try:
        cfg = load(loader, typed)
    except COMPOSING as error:
        raise diagnose(loader, typed, CONFIG_NAME, error) from error
    found: dict[str, Any] = {}
    for item in chosen:
        place = item.key_or_group.replace("/", ".")
        node = OmegaConf.select(cfg, place, throw_on_missing=False)
        is_config = OmegaConf.is_config(node)
        found[place] = OmegaConf.to_container(node, resolve=False) if is_config else None
        if item.value() is not None and not is_config:
            what = "its option is no mapping of keys below the group, so it cannot be taken alone"
            raise ConfigError.of(item.input_line or "", f"{what}: type the keys")
    return found


def typed_choice(item: Override, walk: Walk) -> str:
    """The choice as a plain command would have to type it."""
    group, value = item.key_or_group, item.value()
    if value is None:
        return f"{group}=null" if group in walk.listed else f"+{group}=null"
    return f"{'' if group in walk.listed else '+'}{group}={value}"


def escaped(value: Any) -> Any:
    """A plain value whose texts OmegaConf leaves as they are: what was resolved is not resolved again."""
    if isinstance(value, str) and "${" in value:
        return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", value)
    if isinstance(value, Mapping):
        return {key: escaped(item) for key, item in value.items()}
    return [escaped(item) for item in value] if isinstance(value, list) else value


# --- the other way: a value as it is typed --------------------------------------------------------------

_PLAIN = re.compile(r"[A-Za-z_][\w./-]*", re.ASCII)
_WORDS = ("null", "true", "false", "nan", "inf")


def typed_value(value: Any) -> str:
    """A plain value as an override takes it: `0.1`, `[1,2]`, `'two words'`."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            return value
        return str(QuotedString(escaped(value), Quote.single).with_quotes())
    if isinstance(value, Mapping):
        inner = ",".join(f"{typed_value(key)}:{typed_value(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{','.join(map(typed_value, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return repr(value)
