"""Where a key gets its value: every file and override that sets it, in the order they apply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from crown_exp.config import schema
from crown_exp.config.compose import COMPOSING, relax, strict
from crown_exp.config.places import display, display_source
from crown_exp.config.tree import Tree

MISSING = object()


@dataclass(frozen=True)
class Origin:
    """One place that sets a key: a file (with its line, if it has any) or an override, and the value there."""

    place: str
    value: Any
    is_override: bool = False


@dataclass(frozen=True)
class ConfigFile:
    """One file of the composition and the place of the tree it is mounted at (`""`: the top)."""

    path: Path | None
    name: str
    package: str
    content: DictConfig | ListConfig

    def origin(self, key: str) -> Origin | None:
        """What it says of a key of the whole tree; None if nothing."""
        inner = within(key, self.package)
        value = MISSING if inner is None else select(plain(self.content), inner)
        if inner is None or value is MISSING:
            return None
        if self.path is None:
            return Origin(schema_place(key) if self.name == "schema" else self.name, value)
        line = line_of(self.path, inner)
        return Origin(f"{display(self.path)}:{line}" if line else display(self.path), value)


class Origins:
    """Where the keys of one command's composition are set."""

    def __init__(
        self, loader: ConfigLoaderImpl, config_name: str, overrides: Sequence[str]
    ) -> None:
        self.loader, self.config_name, self.overrides = loader, config_name, list(overrides)

    def chain(self, key: str) -> list[Origin]:
        """Every place that sets `key` (or, for a section, anything in it), the last one deciding.

        The choice of a group's option comes before the files that it brings in.
        Raises one of COMPOSING if Hydra does not accept the command.
        """
        said = list(self.said(key))
        chosen = [origin for is_choice, origin in said if is_choice]
        typed = [origin for is_choice, origin in said if not is_choice]
        return [*chosen, *filter(None, (file.origin(key) for file in self.files)), *typed]

    def said(self, key: str) -> Iterator[tuple[bool, Origin]]:
        """The overrides that set a key; whether each chooses an option of a group."""
        parser = OverridesParser.create()
        for override in map(parser.parse_override, self.overrides):
            value = said_of(key, override)
            if value is not MISSING:
                is_group = self.tree.is_group(override.key_or_group)
                origin = Origin(strict(override.input_line or ""), value, is_override=True)
                yield is_group and not isinstance(value, dict), origin

    def place(self, where: str) -> str:
        """The file and line that last set a key, or the file of `group=option`.

        "" if an override set it, or nothing can be said.
        """
        group, equals, option = where.partition("=")
        try:
            if equals:
                path = f"{group}/{option}"
                return self.tree.shown(path) if self.tree.file(path) else ""
            if any(not is_choice for is_choice, _ in self.said(where)):
                return ""
            found = [origin for file in self.files if (origin := file.origin(where))]
        except (*COMPOSING, AssertionError):
            return ""
        return found[-1].place if found else ""

    @cached_property
    def tree(self) -> Tree:
        """The search path of the command."""
        return Tree(self.loader, self.config_name, self.overrides)

    @cached_property
    def files(self) -> list[ConfigFile]:
        """Every config file of the composition, in merge order, Hydra's own left out."""
        return list(self._files())

    def _files(self) -> Iterator[ConfigFile]:
        relaxed = relax(self.overrides)
        found = self.loader.compute_defaults_list(self.config_name, relaxed, RunMode.MULTIRUN)
        for default in found.defaults:
            path, package = default.config_path, default.package or ""
            if path is None or path.startswith("hydra/") or package.startswith("hydra"):
                continue
            loaded = self.tree.repository.load_config(path)
            if loaded is not None:
                yield ConfigFile(self.tree.file(path), path, package, loaded.config)


def said_of(key: str, override: Override) -> Any:
    """What an override says of a key, by itself or with a key above or below it; MISSING if nothing."""
    typed, value = override.key_or_group, override.value()
    if override.package is not None:
        return MISSING
    if typed == key or typed.startswith(f"{key}."):
        return value
    return select(value, key.removeprefix(f"{typed}.")) if key.startswith(f"{typed}.") else MISSING


def plain(content: DictConfig | ListConfig) -> Any:
    """A raw file as plain values, its interpolations as they are written."""
    return OmegaConf.to_container(content, resolve=False)


def within(key: str, package: str) -> str | None:
    """`key` as it is written inside a file mounted at `package`; None if it lies elsewhere."""
    if not package:
        return key
    if key == package:
        return ""
    return key.removeprefix(f"{package}.") if key.startswith(f"{package}.") else None


def select(node: Any, key: str) -> Any:
    """The value at a dotted key of plain values; MISSING if there is none, or they are empty and key is ""."""
    for part in filter(None, key.split(".")):
        if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            return MISSING
    return node if node != {} or key else MISSING


def line_of(file: Path, key: str) -> int | None:
    """The line on which a yaml file sets a dotted key; the first line that sets anything for ""."""
    node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line = node.start_mark.line + 1 if node else 1
    for part in filter(None, key.split(".")):
        if isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
            continue
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        match = next((pair for pair in pairs if pair[0].value == part), None)
        if match is None:
            return None
        line, node = match[0].start_mark.line + 1, match[1]
    return line


def schema_place(key: str) -> str:
    """Where the schema declares a framework key, or the first key of a section."""
    line = line_of_field(key)
    file = display_source(schema.__file__)
    return f"{file}:{line}" if line else file


def line_of_field(key: str) -> int | None:
    """The line of the schema's source that declares a framework key."""
    *sections, name = key.split(".")
    owner = f"class {sections[-1].capitalize()}:" if sections else "class Schema:"
    lines = Path(schema.__file__).read_text(encoding="utf-8").splitlines()
    start = next((n for n, text in enumerate(lines) if text == owner), 0)
    wanted = f"    {name}:"
    return next((n + 1 for n in range(start, len(lines)) if lines[n].startswith(wanted)), None)
