"""States of a run and exit codes of an attempt: the contract with executors, shells and sweeps."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class State(StrEnum):
    """What a run is doing. Never stored: `crown_exp.folder.state` computes it from the run's records."""

    PLANNED = "planned"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    PRUNED = "pruned"
    FAILED = "failed"
    STOPPED = "stopped"
    CAPPED = "capped"
    PREEMPTED = "preempted"
    LOST = "lost"


class ExitCode(IntEnum):
    """How an attempt, or a command, ended."""

    OK = 0
    RAISED = 1
    USAGE = 2
    PREEMPTED = 75
    SUPERSEDED = 76
    CAPPED = 77
    OUT_OF_MEMORY = 78
    DIVERGED = 79
    INFRASTRUCTURE = 80
    INTERRUPTED = 130


STATE_OF_EXIT: dict[ExitCode, State] = {
    ExitCode.OK: State.COMPLETED,
    ExitCode.RAISED: State.FAILED,
    ExitCode.USAGE: State.STOPPED,
    ExitCode.PREEMPTED: State.PREEMPTED,
    ExitCode.CAPPED: State.CAPPED,
    ExitCode.OUT_OF_MEMORY: State.FAILED,
    ExitCode.DIVERGED: State.FAILED,
    ExitCode.INFRASTRUCTURE: State.LOST,
    ExitCode.INTERRUPTED: State.STOPPED,
}
"""The state of a run whose last attempt ended so.

USAGE: it was resumed with code that does not fit. SUPERSEDED is absent: it ends an attempt, not a run.
"""

FINAL = frozenset({State.COMPLETED, State.PRUNED, State.FAILED})
"""States that no resume changes."""

STOPS = frozenset({ExitCode.PREEMPTED, ExitCode.CAPPED, ExitCode.INTERRUPTED})
"""Ends that were asked for: a sweep starts no further run after one."""
