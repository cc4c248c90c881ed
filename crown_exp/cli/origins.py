"""Where the values of a recorded config come from: what its overrides tell, or today's files.

A run records its overrides and what they composed to, not the files in between. So the overrides are told
as they are, and a file only where it gives the same value today.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crown_exp.registry.values import flatten

TYPED = "typed"
CHANGED = "as recorded; today's files say"


def deciding_values(config: Mapping[str, Any]) -> dict[str, str]:
    """Every value by its dotted key, as one would type it, but those that are the schema's default."""
    from crown_exp.config.schema import defaults

    usual = flatten(defaults())
    return {
        key: value.text
        for key, value in flatten(config).items()
        if key not in usual or usual[key] != value
    }


def from_overrides(values: Mapping[str, str], overrides: Sequence[str]) -> dict[str, str]:
    """What the overrides tell of each key: `typed`, or the override that brought the value along; else nothing.

    A preset (`+experiment=x`) sets keys that it does not name, so nothing is told of those.
    """
    found: dict[str, str] = {}
    for override in overrides:
        typed, equals, text = override.lstrip("+~").partition("=")
        for key in values if equals else ():
            if key == typed or key.startswith(f"{typed}."):
                found[key] = TYPED if values[key] == text.strip("'\"") else override
    return found


def from_files(values: Mapping[str, str], overrides: Sequence[str]) -> dict[str, str]:
    """The file and line, or the override, that gives each key its value today.

    Where it gives another value, that is said. Raises ConfigError if the overrides compose no more.
    """
    from crown_exp.config.compose import COMPOSING, CONFIG_NAME, load, new_loader, plain
    from crown_exp.config.diagnose import diagnose
    from crown_exp.config.layers import conf_layers, layered, make_importable
    from crown_exp.config.origin import Origins
    from crown_exp.config.project import find_project

    project = find_project(Path.cwd())
    make_importable(project.root if project else Path.cwd())
    with layered(conf_layers(project)):
        loader = new_loader()
        try:
            cfg = load(loader, overrides)
            today = flatten(plain(cfg, cfg.hydra)[0].config)
            origins = Origins(loader, CONFIG_NAME, overrides)
            told = dict(_places(values, origins))
        except COMPOSING as error:
            raise diagnose(loader, overrides, CONFIG_NAME, error) from error
    texts = {key: value.text for key, value in today.items()}
    return {
        key: place if texts.get(key) == values[key] else f"{CHANGED} {texts.get(key, 'nothing')}"
        for key, place in told.items()
    }


def _places(values: Mapping[str, str], origins: Any) -> Iterator[tuple[str, str]]:
    """Each key with the last place that sets it; of an override that names it, `typed`."""
    for key in values:
        chain = origins.chain(key)
        if not chain:
            yield key, "a default"
        elif chain[-1].is_override and chain[-1].place.lstrip("+").startswith(f"{key}="):
            yield key, TYPED
        else:
            yield key, chain[-1].place
