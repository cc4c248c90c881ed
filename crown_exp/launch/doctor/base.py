"""What is examined, and what is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from crown_exp.config.project import Project
    from crown_exp.config.settings_model import Settings

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """check: its name. found: what is there, in a sentence. fix: what to type or do; empty if nothing."""

    check: str
    status: Status
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Place:
    """Where we are. known: the environment and `.env`.

    problem: why there is no project or no settings, one line for each mistake; then those are None.
    """

    project: Project | None
    settings: Settings | None
    known: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def root(self) -> Path:
        """The project's directory, or the current one."""
        return self.project.root if self.project else Path.cwd()


Check = Callable[[Place], Sequence[Finding]]
"""Looks at one thing. It may take its time, which is bounded for it, and raise."""


@dataclass(frozen=True, slots=True)
class Named:
    """A check, and how many seconds it is waited for."""

    name: str
    look: Check
    seconds: float
