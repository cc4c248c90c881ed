"""What the search path of a command holds: groups, their options, and the files behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.object_type import ObjectType

from crown_exp.config.compose import COMPOSING, CONFIG_NAME
from crown_exp.config.places import display


class Tree:
    """The built-in conf, the layers over it, and what `hydra.searchpath` adds.

    overrides: those that can be parsed; only `hydra.searchpath` among them matters.
    """

    def __init__(
        self,
        loader: ConfigLoaderImpl,
        config_name: str = CONFIG_NAME,
        overrides: Sequence[str] = (),
    ) -> None:
        self.repository: Any = loader.repository
        try:
            _, self.repository = loader._parse_overrides_and_create_caching_repo(
                config_name, list(overrides)
            )
        except COMPOSING:
            pass  # a broken primary config, which whoever reads it next will tell

    def groups(self) -> list[str]:
        """The folders at the top, Hydra's own left out."""
        return [name for name in self._below("") if name != "hydra"]

    def all_groups(self, parent: str = "") -> list[str]:
        """Every folder, nested ones as `a/b`."""
        inner = [f"{parent}/{name}" if parent else name for name in self._below(parent)]
        return [path for group in inner for path in (group, *self.all_groups(group))]

    def is_group(self, group: str) -> bool:
        """Whether there is such a folder."""
        return bool(self.repository.group_exists(group))

    def options(self, group: str) -> list[str]:
        """The configs in a folder."""
        return list(self.repository.get_group_options(group))

    def primary(self) -> list[str]:
        """The configs at the top: what --config-name may say."""
        return [name for name in self.options("") if name != "schema" and not name.startswith("_")]

    def has_config(self, path: str) -> bool:
        """Whether there is a config of this path, `group/option` or a primary one."""
        return bool(self.repository.config_exists(path))

    def file(self, path: str) -> Path | None:
        """The yaml file behind a config's path; None if it is none."""
        name = path if path.endswith((".yaml", ".yml")) else f"{path}.yaml"
        for source in self.repository.get_sources():
            if source.scheme() == "file" and (Path(source.path) / name).is_file():
                return Path(source.path) / name
        return None

    def shown(self, path: str) -> str:
        """A config as people find it: its file, else its path."""
        file = self.file(path)
        return display(file) if file else path

    def folder(self, group: str, likely: Sequence[str] = ()) -> str:
        """The folder that holds a group's options, the likely ones if any; "" if they are no files."""
        files = (self.file(f"{group}/{option}") for option in (*likely, *self.options(group)))
        return next((f"{display(file.parent)}/" for file in files if file), "")

    def _below(self, group: str) -> list[str]:
        return list(self.repository.get_group_options(group, ObjectType.GROUP))
