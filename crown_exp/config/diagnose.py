"""Why Hydra cannot compose: every wrong override and every wrong line of a defaults list, at once.

Called only after a composition failed, so that a sound command pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import ConfigDefault, GroupDefault, InputDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from crown_exp.config import schema
from crown_exp.config.check import check
from crown_exp.config.compose import compose, one_line, strict
from crown_exp.config.nearest import did_you_mean
from crown_exp.config.origin import chain, file_of
from crown_exp.config.places import display
from crown_exp.errors import ConfigError, Problem


def groups_of(loader: ConfigLoader) -> list[str]:
    """The top-level group folders of the search path, Hydra's own left out."""
    return [name for name in loader.list_groups("") if name != "hydra"]


def place_of(loader: Any, config_name: str, overrides: Sequence[str], key: str) -> str:
    """The file and line that last set a key; "" if an override does or nothing can be said."""
    try:
        origins = chain(loader, config_name, overrides, key)
    except (HydraException, OmegaConfBaseException, YAMLError, OSError):
        return ""
    return "" if not origins or origins[-1].is_override else origins[-1].place


def diagnose(
    loader: ConfigLoaderImpl, config_name: str, overrides: Sequence[str], error: Exception
) -> ConfigError:
    """All that is wrong with a command that Hydra refused with `error`."""
    typed = [strict(item) for item in overrides]
    problems, sound = [], []
    for text in typed:
        found = list(override_problems(loader, text))
        problems += found
        if not found:
            sound.append(text)
    problems += defaults_problems(loader, config_name, sound)
    try:
        composition = compose(loader, single_values(sound), config_name)
        check(
            composition.config,
            groups_of(loader),
            lambda key: place_of(loader, config_name, sound, key),
        )
    except ConfigError as wrong:
        problems += [item for item in wrong.problems if not (problems and item.where == "task")]
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError):
        pass  # what Hydra said first is told below, unless we found better words
    return ConfigError(problems or [Problem("config", hydra_says(error))])


def hydra_says(error: Exception) -> str:
    """Hydra's own message on one line."""
    if isinstance(error, HydraException | OmegaConfBaseException):
        return one_line(error)
    return " ".join(str(error).split())


def single_values(overrides: Sequence[str]) -> list[str]:
    """The overrides with the first value of each sweep: one job of the many."""
    parser = OverridesParser.create()
    single = []
    for text in overrides:
        override = parser.parse_override(text)
        if override.is_discrete_sweep():
            text = f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
        single.append(text)
    return single


# --- overrides ------------------------------------------------------------------------------------------


def override_problems(loader: ConfigLoaderImpl, text: str) -> Iterator[Problem]:
    """What is wrong with one override, before anything is composed."""
    if "=" not in text and not text.startswith("~"):
        words = "a word by itself comes first (crown-exp --help lists them)"
        yield Problem(text, f"expected key=value; {words}")
        return
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        yield Problem(text, f"cannot be read: {' '.join(str(error).split())}")
        return
    repository = loader.repository
    key = override.key_or_group
    if repository.group_exists(key):
        yield from group_problems(loader, override)
    elif "/" in key or override.package is not None:
        known = all_groups(loader)
        yield Problem(text, f"no group {key!r}; {did_you_mean(key, known)}")
    elif key.startswith("hydra."):
        yield from hydra_key_problems(loader, text, key)
    elif "." not in key and key not in (names := top_names(loader)):
        yield Problem(text, f"no such key or group; {did_you_mean(key, names)}")


def group_problems(loader: ConfigLoaderImpl, override: Override) -> Iterator[Problem]:
    """An option that a group does not have, or a group that is added or replaced the wrong way."""
    group, text = override.key_or_group, override.input_line or ""
    options = loader.get_group_options(group)
    for value in option_values(override):
        if value is None:
            yield Problem(text, f"an empty group is typed ~{group}")
        elif str(value) not in options:
            known = did_you_mean(str(value), options)
            yield Problem(
                text, f"group {group} has no option {value!r}; {known}", folder_of(loader, group)
            )
    if group.startswith("hydra/"):
        return
    listed = group in (*schema.TARGET_GROUPS, *schema.FRAMEWORK_GROUPS)
    if listed and override.is_add() and not override.is_force_add():
        yield Problem(text, f"{group} is in the defaults list already: type it without the plus")
    elif not listed and not override.is_add() and not override.is_delete():
        yield Problem(text, f"{group} is not in the defaults list: type +{text.lstrip('+')}")


def option_values(override: Override) -> list[Any]:
    """The options that an override of a group names."""
    if override.is_delete() and override.value_type is None:
        return []
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    value = override.value()
    return list(value) if isinstance(value, list) else [value]


def hydra_key_problems(loader: ConfigLoaderImpl, text: str, key: str) -> Iterator[Problem]:
    """A key of `hydra.*` that Hydra's own config does not have."""
    if text.startswith("+"):
        return
    from hydra.types import RunMode

    node: Any = loader.load_configuration("config", [], RunMode.RUN).hydra
    for part in key.split(".")[1:]:
        if not isinstance(node, DictConfig) or (part not in node and OmegaConf.is_struct(node)):
            known = list(node) if isinstance(node, DictConfig) else []
            yield Problem(text, f"no such key; {did_you_mean(part, map(str, known))}", "hydra.conf")
            return
        node = node._get_node(part)


def top_names(loader: ConfigLoader) -> list[str]:
    """What may stand before `=` without a dot."""
    return [*(item.name for item in fields(schema.Schema)), *groups_of(loader)]


def all_groups(loader: ConfigLoader, parent: str = "") -> list[str]:
    """Every group of the search path, nested ones as `a/b`."""
    found = []
    for name in loader.list_groups(parent):
        path = f"{parent}/{name}" if parent else name
        found += [path, *all_groups(loader, path)]
    return found


def folder_of(loader: ConfigLoaderImpl, group: str) -> str:
    """The folder of the search path that holds a group's options; "" if they are no files."""
    for option in loader.get_group_options(group):
        if file := file_of(loader.repository, f"{group}/{option}"):
            return f"{display(file.parent)}/"
    return ""


# --- defaults lists in files ----------------------------------------------------------------------------


def defaults_problems(
    loader: ConfigLoaderImpl, config_name: str, overrides: Sequence[str]
) -> Iterator[Problem]:
    """Lines of the defaults lists of the primary config and of every chosen option that name nothing."""
    parser = OverridesParser.create()
    parsed = [parser.parse_override(text) for text in overrides]
    queue = [config_name] + [
        f"{item.key_or_group}/{value}"
        for item in parsed
        if loader.repository.group_exists(item.key_or_group)
        for value in option_values(item)
        if value is not None
    ]
    seen: set[str] = set()
    while queue:
        path = queue.pop(0)
        if path in seen or path.startswith("hydra/"):
            continue
        seen.add(path)
        try:
            loaded = loader.repository.load_config(path)
        except YAMLError as error:
            yield Problem(path, f"is not valid YAML: {' '.join(str(error).split())}")
            continue
        for default in (loaded.defaults_list if loaded else None) or ():
            yield from default_problems(loader, path, default)
            queue += [
                f"{group_of(default, path)}/{name}"
                for name in default_options(default)
                if group_of(default, path)
            ]


def default_problems(
    loader: ConfigLoaderImpl, path: str, default: InputDefault
) -> Iterator[Problem]:
    """What one line of the defaults list of the config `path` gets wrong."""
    file = file_of(loader.repository, path)
    where = display(file) if file else path
    if isinstance(default, ConfigDefault):
        name = str(default.path)
        if name not in ("_self_", "schema") and not loader.repository.config_exists(
            name.lstrip("/") if name.startswith("/") else join(path, name)
        ):
            yield Problem(where, f"defaults list: no config {name!r}")
        return
    group = group_of(default, path)
    if group is None:
        return
    if not loader.repository.group_exists(group):
        yield Problem(
            where, f"defaults list: no group {group!r}; {did_you_mean(group, all_groups(loader))}"
        )
        return
    options = loader.get_group_options(group)
    for name in default_options(default):
        if name not in options and not default.is_optional():
            known = did_you_mean(name, options)
            yield Problem(where, f"defaults list: group {group} has no option {name!r}; {known}")


def group_of(default: InputDefault, parent: str) -> str | None:
    """The absolute group that a line of a defaults list names; None if it names none."""
    if not isinstance(default, GroupDefault) or default.group is None:
        return None
    if default.group.startswith("/"):
        return default.group.lstrip("/")
    return join(parent, default.group) if not default.override else default.group


def join(parent: str, name: str) -> str:
    """A name relative to the folder of the config `parent`."""
    folder = parent.rpartition("/")[0]
    return f"{folder}/{name}" if folder else name


def default_options(default: InputDefault) -> list[str]:
    """The options that a line of a defaults list names."""
    if not isinstance(default, GroupDefault) or default.value is None:
        return []
    value = default.value
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
