"""From override strings to a composed config, through Hydra's own loader and without its global state."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from crown_exp.config.project import builtin_conf
from crown_exp.config.schema import defaults
from crown_exp.errors import ConfigError, Problem

CONFIG_NAME = "config"


@dataclass(frozen=True)
class Composition:
    """One composed config.

    config: the resolved tree as plain dicts, lists and scalars, without `hydra`.
    choices: which option of each group was taken; None where the group is empty.
    overrides: what the user typed, in order, our own marks removed.
    """

    config: dict[str, Any]
    choices: Mapping[str, str | None]
    overrides: tuple[str, ...]


def register_schema() -> None:
    """Make `- schema` of conf/config.yaml mean `crown_exp.config.schema`."""
    ConfigStore.instance().store(name="schema", node=defaults(), provider="crown_exp")


def new_loader() -> ConfigLoaderImpl:
    """A loader over the built-in conf and the layers of `crown_exp.config.layers`."""
    setup_globals()
    register_schema()
    return ConfigLoaderImpl(create_config_search_path(str(builtin_conf())))


def compose(
    loader: ConfigLoaderImpl, overrides: Sequence[str], config_name: str = CONFIG_NAME
) -> Composition:
    """One config from overrides as a user types them; not yet checked.

    Raises HydraException if Hydra cannot compose (`diagnose` turns that into what to mend) and
    ConfigError if a value cannot be resolved.
    """
    cfg = loader.load_configuration(config_name, relax(overrides), RunMode.RUN, from_shell=False)
    return plain(cfg)


def plain(cfg: DictConfig) -> Composition:
    """The resolved tree of what Hydra composed.

    Raises ConfigError naming every key without a value and every interpolation that leads nowhere.
    """
    config: dict[str, Any] = {}
    problems = [
        Problem(key, f"needs a value: type {key}=…")
        for key in sorted(OmegaConf.missing_keys(cfg))
        if not key.startswith("hydra.")
    ]
    for key in map(str, cfg) if not problems else ():
        if key == "hydra":
            continue
        try:
            value = cfg[key]
            is_node = OmegaConf.is_config(value)
            config[key] = OmegaConf.to_container(value, resolve=True) if is_node else value
        except OmegaConfBaseException as error:
            problems.append(Problem(error.full_key or key, one_line(error)))
    if problems:
        raise ConfigError(problems)
    typed = tuple(strict(item) for item in cfg.hydra.overrides.task)
    return Composition(config, dict(cfg.hydra.runtime.choices), typed)


NESTED = re.compile(r"(?!hydra\.)[A-Za-z_]\w*(\.[^=.@/\s]+)+=")


def relax(overrides: Sequence[str]) -> list[str]:
    """Let `optimizer.amsgrad=true` through although no yaml names it: the signature of the target decides.

    Hydra refuses a key that the yaml lacks; the schema of a target is its signature, so that refusal is
    ours to make (`check` does, with the nearest names). Groups, top-level keys and `hydra.*` stay Hydra's.
    """
    return [f"++{item}" if NESTED.match(item) else item for item in overrides]


def strict(override: str) -> str:
    """The inverse of `relax` for one override."""
    return override[2:] if override.startswith("++") and NESTED.match(override[2:]) else override


def one_line(error: HydraException | OmegaConfBaseException) -> str:
    """What Hydra or OmegaConf say, without their paragraphs."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    text = f"{error} {cause or ''}".strip()
    first = text.split("\n    full_key:")[0]
    return re.sub(r"\s+", " ", first).strip()
