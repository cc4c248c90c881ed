"""`Config[T]`: the part of a config that says how to build a T, as a task is handed it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Config(Generic[T]):
    """A group of the config, not yet built. `run.build(config)` makes the T; `config["lr"]` reads a value."""

    def __init__(self, name: str, values: Mapping[str, Any] | None) -> None:
        self.name = name
        self.values = dict(values or {})

    @property
    def target(self) -> str:
        """The dotted name of what is built; "" if the group names nothing."""
        return str(self.values.get("_target_") or "")

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def __repr__(self) -> str:
        arguments = {key: value for key, value in self.values.items() if key != "_target_"}
        return f"Config({self.name}={self.target}, {arguments})"


def handle(value: Any, name: str) -> Config[Any] | None:
    """A Config as it is; a part of a config with a `_target_` (from `train(run, cfg)`) as one; else None."""
    if isinstance(value, Config):
        return value
    if not isinstance(value, Mapping) or "_target_" not in value:
        return None
    omegaconf = sys.modules.get("omegaconf")
    if omegaconf is not None and omegaconf.OmegaConf.is_config(value):
        value = omegaconf.OmegaConf.to_container(value, resolve=True)
    return Config(name, value)
