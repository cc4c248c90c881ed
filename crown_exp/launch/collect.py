"""How a run ended, for the command that started it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.errors import HydraException

from crown_exp.config.compose import strict
from crown_exp.errors import CrownError
from crown_exp.folder import Facts, RunRecord
from crown_exp.launch.invocation import Ended, Invocation
from crown_exp.outcome import ExitCode
from crown_exp.storage import BlobStore
from crown_exp.storage.runs import read_facts

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.plugins.launcher import Launcher

KILLED = {-signal.SIGINT: ExitCode.INTERRUPTED, -signal.SIGTERM: ExitCode.PREEMPTED}
"""What a process means that was killed before it could answer; any other signal is the machine's."""


class RunFailed(CrownError):
    """A run did not complete; `exit_code` is its own."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type[RunFailed], tuple[str, int]]:
        return RunFailed, (str(self), self.exit_code)


async def collect(blobs: BlobStore, record: RunRecord, status: int) -> Ended:
    """The end of a run whose process ended with `status` (negative: killed by that signal).

    Read from the run's folder: the process is gone.
    """
    facts = await read_facts(blobs, record.id)
    typed = tuple(record.overrides)
    if facts.result is not None and status == ExitCode.OK:
        return Ended(record.id, record.name, status, facts.result.result, overrides=typed)
    if status < 0:
        code = KILLED.get(status, ExitCode.INFRASTRUCTURE)
        killed = f"its process was ended by {signal.Signals(-status).name} before it could answer"
        return Ended(record.id, record.name, int(code), None, killed, typed)
    reason = last_words(facts) or f"its process ended without a word (exit code {status})"
    if not facts.attempts:
        reason = "its process ended before the task began"
    return Ended(record.id, record.name, status, None, reason, typed)


def last_words(facts: Facts) -> str:
    """The reason in the end record of the newest attempt; empty if it has none."""
    newest = max((item.attempt for item in facts.attempts), default=0)
    return next((end.reason for end in facts.ends if end.attempt == newest), "")


def ended_elsewhere(job: JobReturn) -> Ended:
    """The end of a job that a stock launcher ran in another process, which alone knew the run's id."""
    typed = tuple(strict(str(item)) for item in job.overrides or ())
    name, value = " ".join(typed), job._return_value
    if job.status.name == "COMPLETED":
        return Ended("", name, int(ExitCode.OK), value, overrides=typed)
    code = getattr(value, "exit_code", ExitCode.RAISED)
    return Ended("", name, int(code), None, str(value).partition("\n")[0], typed)


def launched(
    invocation: Invocation, launcher: Launcher, jobs: Sequence[Sequence[str]], first: int
) -> Sequence[JobReturn]:
    """Launch a batch and note how its runs ended, if the launcher did not do so itself.

    Raises CrownError for what a launcher that is not ours cannot do (no Slurm here, say).
    """
    known = len(invocation.ended)
    try:
        returned = launcher.launch(jobs, initial_job_idx=first)
    except (CrownError, HydraException):
        raise
    except Exception as error:
        plugin = type(launcher).__module__
        if plugin.startswith("hydra_plugins.crown_"):
            raise
        raise CrownError(f"hydra/launcher ({plugin}): {' '.join(str(error).split())}") from error
    if len(invocation.ended) == known:
        invocation.ended += map(ended_elsewhere, returned)
    return returned
