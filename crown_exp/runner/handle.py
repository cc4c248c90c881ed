"""`Config[T]`: the part of a config that says how to build a T, as a task is handed it."""

from __future__ import annotations

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
