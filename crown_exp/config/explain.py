"""Everything there is to say about one key of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from crown_exp.config import kinds, schema
from crown_exp.config.check import check
from crown_exp.config.compose import COMPOSING, CONFIG_NAME, Composition, load, new_loader, plain
from crown_exp.config.layers import conf_layers, layered
from crown_exp.config.nearest import did_you_mean
from crown_exp.config.origin import Origin, Origins, schema_place
from crown_exp.config.places import display_source
from crown_exp.config.project import Project, find_project
from crown_exp.config.secrets import guard
from crown_exp.config.settings import known_secrets, variables
from crown_exp.config.targets import TargetError, find_target
from crown_exp.errors import ConfigError, Problem


@dataclass(frozen=True)
class Explanation:
    """A key, its value in this composition, what it means, and who set it (the last one counts).

    options: what can be chosen, if the key is a group.
    """

    key: str
    value: Any
    type: str
    unit: str
    doc: str
    defined: str
    options: list[str]
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
    """Raises ConfigError for overrides that do not compose or are wrong, and for a key that nothing defines.

    What is wrong elsewhere, in a file, does not matter here. A secret is refused, not shown.
    """
    from crown_exp.config.diagnose import diagnose, groups_of

    project = find_project(Path.cwd())
    with layered(conf_layers(project)):
        loader = new_loader()
        try:
            refuse_sweeps(overrides)
            cfg = load(loader, overrides)
            origins = Origins(loader, CONFIG_NAME, overrides).chain(key)
        except COMPOSING as error:
            raise diagnose(loader, overrides, CONFIG_NAME, error) from error
        groups = {name: loader.repository.get_group_options(name) for name in groups_of(loader)}
    composition, unresolved = plain(cfg, cfg.hydra)
    if wrong := [item for item in unresolved if f"{item.where}.".startswith(f"{key}.")]:
        raise ConfigError(wrong)
    config = composition.config
    refuse_typos(composition, list(groups), overrides)
    refuse_secret(key, config, project)
    meaning = meaning_of(key, config)
    value, there = value_at(key, config)
    if not there and not meaning.defined and key not in groups:
        raise ConfigError.of(key, f"no such key; {nearest_keys(key, config, groups)}")
    if not there:
        value = composition.choices.get(key) if key in groups else meaning.default
    return Explanation(
        key, value, meaning.type, meaning.unit, meaning.doc,
        meaning.defined, groups.get(key, []), origins,
    )  # fmt: skip


def refuse_sweeps(overrides: Sequence[str]) -> None:
    """Raises ConfigError for overrides with several values: there is one chain for each."""
    parser = OverridesParser.create()
    swept = [text for text in overrides if parser.parse_override(text).is_sweep_override()]
    if swept:
        raise ConfigError([Problem(text, "is a sweep: give one of its values") for text in swept])


def refuse_typos(composition: Composition, groups: list[str], overrides: Sequence[str]) -> None:
    """Raises ConfigError for what the overrides, rather than any file, get wrong."""
    typed = [item.lstrip("+~").partition("=")[0] for item in overrides]
    try:
        check(composition, groups)
    except ConfigError as wrong:
        ours = [
            problem
            for problem in wrong.problems
            if any(f"{key}.".startswith(f"{problem.where}.") for key in typed)
        ]
        if ours:
            raise ConfigError(ours) from None


def refuse_secret(key: str, config: Mapping[str, Any], project: Project | None) -> None:
    """Raises ConfigError if the value of a key is a secret, or holds one."""
    found = guard(config, known_secrets(variables(project)))
    if ours := [item for item in found if f"{item.where}.".startswith(f"{key}.")]:
        raise ConfigError(ours)


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
            kind = str(kinds.kind_of_type(item.type))
            return Meaning(kind, item.unit, item.doc, schema_place(key), item.default)
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


def nearest_keys(key: str, config: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> str:
    """What may have been meant by a key that is not there: near names, or a group that is still empty."""
    node: Any = config
    parts = key.split(".")
    if parts[0] in groups and parts[0] not in config:
        options = ", ".join(groups[parts[0]])
        return f"no {parts[0]} is chosen: add {parts[0]}=<name> ({options}) or +experiment=<name>"
    for index, part in enumerate(parts):
        known = list(node) if isinstance(node, Mapping) else []
        if part not in known:
            known += groups if not index else ()
            near = [".".join([*parts[:index], name]) for name in known]
            return did_you_mean(".".join(parts[: index + 1]), near) or "nothing is below it"
        node = node[part]
    return ""
