"""The executors of one command, each made when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from crown_exp.compute.base import Executor
from crown_exp.folder.records import Server

if TYPE_CHECKING:
    from crown_exp.config.settings_model import Settings

Maker = Callable[[], Executor]
"""Makes an executor; costs nothing before the first question to it."""


class Executors:
    """By the names of `compute.executor`, without `local`: what runs here is no job."""

    def __init__(self, makers: Mapping[str, Maker]) -> None:
        self._makers = makers
        self._made: dict[str, Executor] = {}
        self._servers: dict[str, Server | None] = {}

    def __getitem__(self, name: str) -> Executor:
        """The executor of this name."""
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def server(self, name: str, *, anew: bool = False) -> Server | None:
        """Whom the executor of this name asks; asked once, unless anew. Raises ExecutorError."""
        if anew or name not in self._servers:
            self._servers[name] = self[name].server()
        return self._servers[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is one of this name."""
        return name in self._makers

    def close(self) -> None:
        """Let go of all of them. Their jobs go on."""
        while self._made:
            self._made.popitem()[1].close()


@contextmanager
def executors_of(settings: Settings) -> Iterator[Executors]:
    """SkyPilot and Slurm, as the settings say where they are."""

    def skypilot() -> Executor:
        from crown_exp.compute.executors.skypilot.executor import make_executor

        return make_executor(settings.sky.python, settings.sky.home)

    def slurm() -> Executor:
        from crown_exp.compute.executors.slurm.executor import SlurmExecutor

        return SlurmExecutor(settings.home / "slurm")

    executors = Executors({"skypilot": skypilot, "slurm": slurm})
    try:
        yield executors
    finally:
        executors.close()
