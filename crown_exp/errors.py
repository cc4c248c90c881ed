"""Every error a user can meet, as one tree.

    CrownError                1   the root: one line, no traceback
    ├── ConfigError           2   the command line, a yaml file or a setting is wrong; carries every Problem
    ├── SettingsError         2   the environment is wrong
    ├── NotResumable          2   the saved state does not fit the code or the config
    ├── TaskError             1   the user's function used the contract wrongly
    │   ├── OutOfMemory      78   out of memory at the smallest part
    │   └── Diverged         79   a loss that is not finite
    ├── Superseded           76   another attempt holds the run
    └── StoreError           80   the store cannot be read or written

    Stopped                       no CrownError, so that no `except Exception` of a task swallows it:
                                  a stop was asked for; the code says by whom (75, 77, 130)

The numbers are the exit codes of `crown_exp.outcome.ExitCode`; a test keeps the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class CrownError(Exception):
    """An error with a message made for the user: what is wrong, what was expected, what to type."""

    exit_code = 1


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with the input.

    where: the key, override or option as the user wrote it.
    what: one sentence, with the expectation and the nearest names.
    source: the file that defines what was expected (or holds the mistake), with a line if known.
    """

    where: str
    what: str
    source: str = ""

    def __str__(self) -> str:
        tail = f" ({self.source})" if self.source else ""
        return f"{self.where}: {self.what}{tail}"


class ConfigError(CrownError):
    """The configuration is wrong; nothing was started. Holds all problems found in one pass."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)  # a worker process hands it back

    @classmethod
    def of(cls, where: str, what: str, source: str = "") -> ConfigError:
        """A ConfigError with one problem."""
        return cls([Problem(where, what, source)])


class SettingsError(CrownError):
    """A setting of the environment is missing, malformed or points nowhere. Never holds a secret's value."""

    exit_code = 2


class NotResumable(CrownError):
    """A checkpoint does not fit the task as it is now; it is as good as before."""

    exit_code = 2


class TaskError(CrownError):
    """The user's function used the contract wrongly; the message says how to mend it."""


class OutOfMemory(TaskError):
    """Out of memory with the smallest part of a batch."""

    exit_code = 78


class Diverged(TaskError):
    """A loss is not finite."""

    exit_code = 79


class Superseded(CrownError):
    """Another attempt holds the run."""

    exit_code = 76


class StoreError(CrownError):
    """The store cannot be read or written."""

    exit_code = 80


class Stopped(BaseException):
    """The run was asked to stop and did. `exit_code` says by whom: 75 executor, 77 limit, 130 user."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
