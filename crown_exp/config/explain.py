"""Everything there is to say about one key of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from crown_exp.config import kinds, schema
from crown_exp.config.compose import CONFIG_NAME, compose, new_loader
from crown_exp.config.layers import conf_layers, layered
from crown_exp.config.nearest import did_you_mean
from crown_exp.config.origin import Origin, chain, line_of_field
from crown_exp.config.places import display_source
from crown_exp.config.project import find_project
from crown_exp.config.targets import TargetError, find_target
from crown_exp.errors import ConfigError


@dataclass(frozen=True)
class Explanation:
    """A key, its value in this composition, what it means, and who set it (the last one counts)."""

    key: str
    value: Any
    type: str
    unit: str
    doc: str
    defined: str
    origins: list[Origin]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Meaning:
    """What a key is by its definition: the schema's or a target's."""

    type: str = ""
    unit: str = ""
    doc: str = ""
    defined: str = ""
    default: Any = None


def explain(key: str, overrides: Sequence[str]) -> Explanation:
    """Raises ConfigError for overrides that do not compose and for a key that nothing defines."""
    from crown_exp.config.diagnose import diagnose

    with layered(conf_layers(find_project(Path.cwd()))):
        loader = new_loader()
        try:
            config = compose(loader, overrides).config
            origins = chain(loader, CONFIG_NAME, overrides, key)
        except (HydraException, OmegaConfBaseException, YAMLError) as error:
            raise diagnose(loader, CONFIG_NAME, overrides, error) from error
    meaning = meaning_of(key, config)
    value, there = value_at(key, config)
    if not there and not meaning.defined:
        raise ConfigError.of(key, f"no such key; {nearest_keys(key, config)}")
    return Explanation(
        key, value if there else meaning.default, meaning.type, meaning.unit, meaning.doc,
        meaning.defined, origins,
    )  # fmt: skip


def value_at(key: str, config: Mapping[str, Any]) -> tuple[Any, bool]:
    """The value at a dotted key, and whether the config has it."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None, False
        node = node[part]
    return node, True


def meaning_of(key: str, config: Mapping[str, Any]) -> Meaning:
    """What the schema, or the signature of the target that the key belongs to, says of it."""
    for item in schema.leaves():
        if item.path == key:
            defined = f"{display_source(schema.__file__)}:{line_of_field(key)}"
            kind = str(kinds.kind_of_type(item.type))
            return Meaning(kind, item.unit, item.doc, defined, item.default)
    owner, _, name = key.rpartition(".")
    node, _ = value_at(owner, config) if owner else (None, False)
    if not isinstance(node, Mapping) or "_target_" not in node:
        return Meaning()
    try:
        target = find_target(str(node["_target_"]))
    except TargetError:
        return Meaning()
    if name == "_target_":
        return Meaning("a function or class", "", target.doc, target.name)
    parameter = target.parameters.get(name)
    if parameter is None:
        return Meaning()
    source = f"{display_source(parameter.file)}:{parameter.line}" if parameter.file else target.name
    return Meaning(str(parameter.kind), "", parameter.doc, source, parameter.default_text)


def nearest_keys(key: str, config: Mapping[str, Any]) -> str:
    """The names that may have been meant for the first part of a key that is not there."""
    node: Any = config
    parts = key.split(".")
    for index, part in enumerate(parts):
        known = list(node) if isinstance(node, Mapping) else []
        if part not in known:
            near = [".".join([*parts[:index], name]) for name in known]
            return did_you_mean(".".join(parts[: index + 1]), near) or "nothing is below it"
        node = node[part]
    return ""
