"""Where a key gets its value: every file and override that sets it, in the order they apply."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from crown_exp.config import schema
from crown_exp.config.compose import relax, strict
from crown_exp.config.places import display

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

    place: str
    path: Path | None
    package: str
    content: DictConfig


def files(
    loader: ConfigLoaderImpl, config_name: str, overrides: Sequence[str]
) -> Iterator[ConfigFile]:
    """Every config file of a composition that Hydra accepts, in merge order, Hydra's own left out."""
    relaxed = relax(overrides)
    found = loader.compute_defaults_list(config_name, relaxed, RunMode.MULTIRUN)
    _, repository = loader._parse_overrides_and_create_caching_repo(config_name, relaxed)
    for default in found.defaults:
        path = default.config_path
        if path is None or path.startswith("hydra/") or (default.package or "").startswith("hydra"):
            continue
        loaded = repository.load_config(path)
        if loaded is None or not isinstance(loaded.config, DictConfig):
            continue
        if loaded.provider == "crown_exp":
            yield ConfigFile(display(Path(schema.__file__)), None, "", loaded.config)
            continue
        file = file_of(repository, path)
        package = default.package or ""
        yield ConfigFile(display(file) if file else path, file, package, loaded.config)


def file_of(repository: Any, config_path: str) -> Path | None:
    """The yaml file that a config path of the repository stands for; None if it is no file."""
    name = config_path if config_path.endswith((".yaml", ".yml")) else f"{config_path}.yaml"
    for source in repository.get_sources():
        if source.scheme() == "file" and (Path(source.path) / name).is_file():
            return Path(source.path) / name
    return None


def chain(
    loader: ConfigLoaderImpl, config_name: str, overrides: Sequence[str], key: str
) -> list[Origin]:
    """Every place that sets `key` (or, for a section, anything in it), the last one deciding."""
    found = []
    for file in files(loader, config_name, overrides):
        inner = within(key, file.package)
        value = MISSING if inner is None else select(file.content, inner)
        if value is not MISSING:
            line = line_of(file.path, (inner or "").split(".")) if file.path else line_of_field(key)
            found.append(Origin(f"{file.place}:{line}" if line else file.place, value))
    parser = OverridesParser.create()
    for text in overrides:
        override = parser.parse_override(text)
        if override.key_or_group == key and override.package is None:
            found.append(Origin(strict(text), override.value(), is_override=True))
    return found


def within(key: str, package: str) -> str | None:
    """`key` as it is written inside a file mounted at `package`; None if it lies elsewhere."""
    if not package:
        return key
    if key == package:
        return ""
    return key.removeprefix(f"{package}.") if key.startswith(f"{package}.") else None


def select(content: DictConfig, key: str) -> Any:
    """The unresolved value at `key` of a raw file; MISSING if the file does not set it."""
    node: Any = OmegaConf.to_container(content, resolve=False)
    for part in filter(None, key.split(".")):
        if not isinstance(node, dict) or part not in node:
            return MISSING
        node = node[part]
    return node if node != {} or key else MISSING


def line_of(file: Path, parts: Sequence[str]) -> int | None:
    """The line on which a yaml file sets the key with these parts; the first line of the file for none."""
    node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line = 1
    for part in filter(None, parts):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        match = next((pair for pair in pairs if pair[0].value == part), None)
        if match is None:
            return None
        line, node = match[0].start_mark.line + 1, match[1]
    return line


def line_of_field(key: str) -> int | None:
    """The line of the schema's source that declares a framework key."""
    *sections, name = key.split(".")
    owner = f"class {sections[-1].capitalize()}:" if sections else "class Schema:"
    lines = Path(schema.__file__).read_text(encoding="utf-8").splitlines()
    start = next((n for n, text in enumerate(lines) if text == owner), 0)
    wanted = f"    {name}:"
    return next((n + 1 for n in range(start, len(lines)) if lines[n].startswith(wanted)), None)
