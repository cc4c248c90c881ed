"""One command of the user: what was asked, and how its runs ended.

Set by our entrances, read by the plugins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from crown_exp.config.project import Project
from crown_exp.errors import ConfigError
from crown_exp.folder.records import SweepPlace
from crown_exp.outcome import STOPS, ExitCode


@dataclass(frozen=True)
class Ended:
    """How one run of the command ended. error: one line; "" if it completed."""

    run: str
    name: str
    exit_code: int
    result: Any
    error: str = ""


@dataclass
class Invocation:
    """A command that makes runs.

    multirun: whether -m was given. project: whose conf/ and code this is. planned: how many runs it will
    make, if its sweeper knows. composed: whether Hydra is done, so that an error is no longer the
    config's. ended: its runs so far, in order.
    """

    multirun: bool
    project: Project | None
    planned: int | None = None
    composed: bool = False
    ended: list[Ended] = field(default_factory=list)

    def plan(self, jobs: int, swept: Sequence[str]) -> None:
        """A sweeper says how many runs there will be. Raises ConfigError for several without -m."""
        if jobs > 1 and not self.multirun:
            what = f"is a sweep of {jobs} runs; nothing was started. Add -m to run them all"
            raise ConfigError.of(" ".join(swept) or "this command", what)
        self.planned = jobs

    def place(self, sweep: str, number: int) -> SweepPlace | None:
        """Where a run stands in its sweep, `number` counted from 1; None for a single run."""
        alone = self.planned == 1 or not self.multirun
        return None if alone else SweepPlace(id=sweep, number=number, of=self.planned)

    @property
    def stopped(self) -> bool:
        """Whether the last run was asked to stop, so that no other should start."""
        return bool(self.ended) and self.ended[-1].exit_code in STOPS

    def exit_code(self) -> int:
        """A single run's own code; of several 130, 75 or 77 if one was stopped so, 1 if any failed, else 0."""
        codes = [item.exit_code for item in self.ended]
        if len(codes) == 1:
            return codes[0]
        stops = (ExitCode.INTERRUPTED, ExitCode.PREEMPTED, ExitCode.CAPPED)
        stopped = next((code for code in stops if code in codes), None)
        return int(stopped) if stopped else int(ExitCode.RAISED if any(codes) else ExitCode.OK)


_CURRENT: ContextVar[Invocation | None] = ContextVar("crown_exp_invocation", default=None)


def current() -> Invocation | None:
    """The command being carried out; None in a Hydra application that is not ours."""
    return _CURRENT.get()


@contextmanager
def invoked(invocation: Invocation) -> Iterator[Invocation]:
    """Carry out a command."""
    token = _CURRENT.set(invocation)
    try:
        yield invocation
    finally:
        _CURRENT.reset(token)
