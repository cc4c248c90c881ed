"""From override strings to a composed config, through Hydra's own loader and without its global state."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from crown_exp.config.changes import filled
from crown_exp.config.nearest import either, nearest
from crown_exp.config.project import builtin_conf
from crown_exp.config.schema import PLAIN_KEYS, defaults
from crown_exp.errors import Problem

CONFIG_NAME = "config"

COMPOSING = (HydraException, OmegaConfBaseException, YAMLError, ValueError, TypeError, OSError)
"""What composing raises: Hydra's own errors, and Python's for files and defaults lists it cannot read."""


@dataclass(frozen=True)
class Composition:
    """One composed config.

    config: the resolved tree as plain dicts, lists and scalars, without `hydra`; framework keys that no
        file sets have the schema's default.
    choices: which option of each group was taken; None where the group is empty.
    overrides: what the user typed, in order, our own marks removed.
    """

    config: dict[str, Any]
    choices: Mapping[str, str | None]
    overrides: tuple[str, ...]


def new_loader() -> ConfigLoaderImpl:
    """A loader over the built-in conf and the layers of `crown_exp.config.layers`.

    `- schema` in a defaults list means `crown_exp.config.schema`.
    """
    version.setbase("1.3")
    setup_globals()
    ConfigStore.instance().store(name="schema", node=defaults(), provider="crown_exp")
    return ConfigLoaderImpl(create_config_search_path(str(builtin_conf())))


def load(
    loader: ConfigLoaderImpl, overrides: Sequence[str], config_name: str = CONFIG_NAME
) -> DictConfig:
    """What Hydra composes of overrides as a user types them, `hydra` included.

    Raises one of COMPOSING; `crown_exp.config.diagnose` turns that into what to mend.
    """
    return loader.load_configuration(config_name, relax(overrides), RunMode.RUN, from_shell=False)


OPEN = re.compile(
    r"(?!hydra\.)([A-Za-z_]\w*(\.[^=.@/\s]+)+=|[A-Za-z_]\w*=\{|(" + "|".join(PLAIN_KEYS) + ")=)"
)
"""Overrides of a key below a group or section, of a whole one (`limits={steps: 3}`), or of a plain key."""


def relax(overrides: Sequence[str]) -> list[str]:
    """Let `optimizer.amsgrad=true` through although no yaml names it: the signature of the target decides.

    Hydra refuses a key that the yaml lacks; the schema of a target is its signature, and framework keys have
    theirs, so that refusal is ours to make (`check` does, with the nearest names). Groups and `hydra.*`
    stay Hydra's.
    """
    return [f"++{item}" if OPEN.match(item) else item for item in overrides]


def strict(override: str) -> str:
    """The inverse of `relax` for one override."""
    return override[2:] if override.startswith("++") and OPEN.match(override[2:]) else override


def plain(cfg: DictConfig, hydra: Any) -> tuple[Composition, list[Problem]]:
    """The resolved tree of what Hydra composed; `hydra` is its node of that name.

    What has no value, and interpolations that lead nowhere, are problems and left out of the tree.
    """
    config, problems = resolved(cfg)
    typed = tuple(map(strict, texts(hydra.overrides.task)))
    return Composition(config, dict(hydra.runtime.choices), typed), problems


def resolved(cfg: DictConfig) -> tuple[dict[str, Any], list[Problem]]:
    """A tree as plain values, with the schema's defaults, and what of it has no value."""
    problems: list[Problem] = []
    return filled(_resolved(cfg, "", problems), defaults()), problems


def texts(overrides: Any) -> list[str]:
    """A list of overrides in Hydra's config; `${…}` in one is its text, not an interpolation there."""
    return list(map(str, OmegaConf.to_container(overrides, resolve=False)))  # type: ignore[arg-type]


def _resolved(node: DictConfig | ListConfig, path: str, problems: list[Problem]) -> Any:
    """A node as plain values; what cannot be resolved is a problem and left out."""
    found: dict[Any, Any] = {}
    keys: list[Any] = list(node if isinstance(node, DictConfig) else range(len(node)))
    for key in keys:
        if not path and key == "hydra":
            continue
        inner = f"{path}.{key}" if path else str(key)
        try:
            value = node[key]
        except MissingMandatoryValue:
            problems.append(Problem(inner, f"needs a value: type {inner}=…"))
        except OmegaConfBaseException as error:
            problems.append(Problem(inner, _unresolved(error, node)))
        else:
            is_node = isinstance(value, DictConfig | ListConfig)
            found[key] = _resolved(value, inner, problems) if is_node else value
            if not isinstance(found[key], dict | list | str | int | float | None):
                found[key] = _simple(found[key], inner, problems)
    return found if isinstance(node, DictConfig) else list(found.values())


def _simple(value: Any, path: str, problems: list[Problem]) -> Any:
    """What yaml and JSON can hold of an unusual value."""
    if not isinstance(value, PurePath):
        kind = type(value).__name__
        problems.append(
            Problem(path, f"is a {kind}; a config holds numbers, strings, lists and mappings")
        )
    return str(value)


def _unresolved(error: OmegaConfBaseException, node: DictConfig | ListConfig) -> str:
    """Why a value cannot be resolved, with what an interpolation may have meant."""
    typed = re.search(r"Interpolation key '(.+)' not found", str(error))
    if not isinstance(error, InterpolationKeyError) or typed is None:
        return one_line(error)
    known = _paths(OmegaConf.to_container(node._get_root(), resolve=False), "")
    near = nearest(typed[1], (path for path in known if not path.startswith("hydra.")))
    hint = f"; did you mean {either([f'${{{path}}}' for path in near])}?" if near else ""
    return f"${{{typed[1]}}} leads nowhere{hint}"


def _paths(node: Any, path: str) -> Iterator[str]:
    """Every dotted key of a tree, sections too."""
    for key, value in node.items() if isinstance(node, dict) else ():
        inner = f"{path}.{key}" if path else str(key)
        yield inner
        yield from _paths(value, inner)


def one_line(error: BaseException) -> str:
    """What Hydra, OmegaConf or Python say, without their paragraphs."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    text = f"{error} {cause or ''}".strip() or type(error).__name__
    text = re.sub(r"^\w+ raised while resolving interpolation: ", "", text)
    text = re.sub(r'^"([^"\n]*)"(?=\n|$)', r"\1", text)  # a KeyError is its message in quotes
    return re.sub(r"\s+", " ", text.split("\n    full_key:")[0]).strip()
