"""What is wrong with single overrides, before anything is composed of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from crown_exp.config import schema
from crown_exp.config.nearest import did_you_mean, nearest
from crown_exp.config.tree import Tree
from crown_exp.errors import Problem


def read(loader: ConfigLoaderImpl, typed: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """The overrides of a command that can be read, and what is wrong with the others."""
    parser = OverridesParser.create(config_loader=loader)
    parsed, problems = [], []
    for text in typed:
        try:
            override = parser.parse_overrides([text])[0]
        except HydraException as error:
            problems.append(unreadable(text, error))
            continue
        if not override.key_or_group:
            problems.append(Problem(text, "there is no key before the ="))
            continue
        nowhere = list(search_path_problems(override))
        problems += nowhere
        parsed += [] if nowhere else [override]
    problems += twice(loader, parsed)
    return parsed, problems


def resumed_alone(loader: ConfigLoaderImpl, typed: Sequence[str]) -> tuple[str, list[str]] | None:
    """The run of `resume=<run>` and all other overrides, if these choose neither a preset nor a task.

    None for any other command, and for one that cannot be read.
    """
    parsed, problems = read(loader, typed)
    runs = [
        item for item in parsed
        if item.key_or_group == "resume" and item.value() is not None and not item.is_sweep_override()
    ]  # fmt: skip
    chosen = {item.key_or_group for item in parsed} & {"experiment", "task"}
    if problems or chosen or len(runs) != 1 or runs[0].is_delete():
        return None
    return str(runs[0].value()), [text for text in typed if text != runs[0].input_line]


def quoted_run(override: str) -> str:
    """`resume=2345e6` with quotes: the end of an id may look like a number."""
    return re.sub(r"^(\+{0,2}resume=)(\d[\w.-]*)$", r"\1'\2'", override)


def unreadable(text: str, error: HydraException) -> Problem:
    """The problem of an override that is none."""
    if "=" not in text and not text.startswith("~"):
        words = "a word by itself comes first (crown-exp help lists them)"
        return Problem(text, f"expected key=value; {words}")
    key, equals, value = text.partition("=")
    said = str(error).strip().partition("\n")[0].partition(" See https")[0]
    if said.startswith("LexerNoViableAltException"):
        said = "a character in it must be quoted"
    plain = equals and not set(value) & set("'\"[]{}()$")
    how = f"type '{key}=\"{value}\"'" if plain else "quote text: 'key=\"…\"'"
    return Problem(text, f"cannot be read: {said}; {how}")


def twice(loader: ConfigLoaderImpl, parsed: Sequence[Override]) -> Iterator[Problem]:
    """Groups that are chosen more than once. Of a key that is given twice the last value counts."""
    chosen: dict[tuple[str, str | None], list[str]] = {}
    for item in parsed:
        if not isinstance(item.value(), dict):
            texts = chosen.setdefault((item.key_or_group, item.package), [])
            texts.append(item.input_line or "")
    for (group, _), texts in chosen.items():
        if len(texts) > 1 and loader.repository.group_exists(group):
            what = f"group {group} is chosen {len(texts)} times: keep one"
            yield Problem(" ".join(texts), what)


def search_path_problems(override: Override) -> Iterator[Problem]:
    """Directories of hydra.searchpath that are not there."""
    if override.key_or_group != "hydra.searchpath":
        return
    paths = override.value()
    for path in paths if isinstance(paths, list) else [paths]:
        scheme, _, rest = str(path).rpartition("://")
        if scheme in ("", "file") and not Path(rest).is_dir():
            yield Problem("hydra.searchpath", f"no directory {rest}")


def job_count(parsed: Sequence[Override]) -> int | None:
    """How many jobs a grid of these overrides has; None if one of them cannot be enumerated."""
    swept = [item for item in parsed if item.is_sweep_override()]
    if not all(item.is_discrete_sweep() for item in swept):
        return None
    return math.prod(len(list(item.sweep_string_iterator())) for item in swept)


def first_job(parsed: Sequence[Override]) -> list[str]:
    """The overrides with the first value of each sweep: one job of the many."""
    return [
        f"{item.get_key_element()}={next(iter(item.sweep_string_iterator()), '')}"
        if item.is_discrete_sweep()
        else item.input_line or ""
        for item in parsed
        if not item.is_interval_sweep()
    ]


def override_problems(
    loader: ConfigLoaderImpl, tree: Tree, override: Override, listed: Mapping[str, str]
) -> Iterator[Problem]:
    """Names in one override that nothing has: groups, options, top-level keys, keys of hydra.*.

    listed: the groups in the defaults lists, with the places that list them.
    """
    text, key = override.input_line or "", override.key_or_group
    if tree.is_group(key):
        yield from group_problems(tree, override, listed)
    elif "/" in key or override.package is not None:
        known = tree.all_groups()
        if not key.startswith("hydra/"):
            known = [name for name in known if not name.startswith("hydra")]
        keys = [key.replace("/", ".")] if tree.is_group(key.partition("/")[0]) else []
        yield Problem(text, f"no group {key!r}; {did_you_mean(key, [*known, *keys])}")
    elif key.startswith("hydra."):
        yield from hydra_key_problems(loader, override)
    elif "." not in key and key not in (names := top_names(tree)):
        yield Problem(text, f"no such key or group; {did_you_mean(key, names)}")


def group_problems(tree: Tree, override: Override, listed: Mapping[str, str]) -> Iterator[Problem]:
    """An option that a group does not have, or a group that is added or replaced the wrong way."""
    group, text = override.key_or_group, override.input_line or ""
    options = tree.options(group)
    for value in option_values(override):
        if value is None:
            yield Problem(text, f"an empty group is typed ~{group}")
        elif isinstance(value, dict):
            return  # the description of an object in place, not the name of one
        elif str(value) not in options:
            what = f"group {group} has no option {value!r}; {did_you_mean(str(value), options)}"
            yield Problem(text, what, tree.folder(group, nearest(str(value), options)))
    if group.startswith("hydra/"):
        return
    name = f"{group}@{override.package}" if override.package else group
    if name in listed and override.is_add():
        what = f"{name} is in the defaults list already: type it without the plus"
        yield Problem(text, what, listed[name])
    elif name not in listed and not override.is_add() and not override.is_delete():
        yield Problem(text, f"{name} is not in the defaults list: type +{text.lstrip('+')}")


def option_values(override: Override) -> list[Any]:
    """The options that an override of a group names."""
    if override.value_type is None or override.is_interval_sweep():
        return []
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    value = override.value()
    return list(value) if isinstance(value, list) else [value]


def hydra_key_problems(loader: ConfigLoaderImpl, override: Override) -> Iterator[Problem]:
    """A key of `hydra.*` that Hydra's own config does not have."""
    if override.is_add() or override.is_force_add():
        return
    node: Any = loader.load_configuration(None, [], RunMode.RUN).hydra
    for part in override.key_or_group.split(".")[1:]:
        if not isinstance(node, DictConfig) or (part not in node and OmegaConf.is_struct(node)):
            known = list(map(str, node)) if isinstance(node, DictConfig) else []
            text = override.input_line or ""
            yield Problem(text, f"no such key; {did_you_mean(part, known)}", "hydra.conf")
            return
        node = node._get_node(part)


def top_names(tree: Tree) -> list[str]:
    """What may stand before `=` without a dot."""
    return [*(item.name for item in fields(schema.Schema)), *tree.groups()]
