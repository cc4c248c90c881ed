"""What Slurm says of jobs, asked by its own commands; without its accounting, which many clusters lack."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from crown_exp.compute.base import ExecutorError, JobState
from crown_exp.compute.executors.slurm.limits import FIELDS, Machines, parse

TIMEOUT = 60.0
"""Seconds that one of Slurm's commands may take."""

STATES: Mapping[str, JobState] = {
    "PENDING": JobState.WAITING,
    "CONFIGURING": JobState.STARTING,
    "RUNNING": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "REQUEUED": JobState.RECOVERING,
    "REQUEUE_FED": JobState.RECOVERING,
    "REQUEUE_HOLD": JobState.RECOVERING,
    "SPECIAL_EXIT": JobState.RECOVERING,
    "COMPLETED": JobState.SUCCEEDED,
    "CANCELLED": JobState.CANCELLED,
    "REVOKED": JobState.CANCELLED,
    "BOOT_FAIL": JobState.FAILED,
    "DEADLINE": JobState.FAILED,
    "FAILED": JobState.FAILED,
    "NODE_FAIL": JobState.FAILED,
    "OUT_OF_MEMORY": JobState.FAILED,
    "PREEMPTED": JobState.FAILED,
    "TIMEOUT": JobState.FAILED,
}
"""Slurm's words. COMPLETING is said of a job whose processes may still be alive."""


@dataclass(frozen=True)
class Row:
    """One job in the queue. word: Slurm's state; reason: why it waits, "" if it does not."""

    handle: str
    name: str
    word: str
    reason: str

    @property
    def state(self) -> JobState:
        """A word that is not known is that of a job that is not over."""
        return STATES.get(self.word, JobState.RUNNING)


def ask(*argv: str) -> str:
    """What one of Slurm's commands prints. Raises ExecutorError with the last line of what it complains of."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except FileNotFoundError:
        raise ExecutorError(
            f"no {argv[0]} here: Slurm's commands are needed to submit jobs"
        ) from None
    except subprocess.TimeoutExpired:
        raise ExecutorError(f"{argv[0]} has not answered for {TIMEOUT:.0f} s") from None
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        said = complaint[-1].removeprefix(f"{argv[0]}: ")
        raise ExecutorError(f"Slurm does not answer ({argv[0]}: {said}); type: sinfo")
    return done.stdout


def read_queue() -> dict[str, Row]:
    """The jobs of this user that Slurm knows, by handle: also those that ended some minutes ago."""
    text = ask("squeue", "-h", "-t", "all", "-u", str(os.getuid()), "-o", "%i|%T|%r|%j")
    rows = (line.split("|", 3) for line in text.splitlines() if line.count("|") >= 3)
    return {
        handle: Row(handle, name, word, "" if reason == "None" else reason)
        for handle, word, reason, name in rows
    }


def read_cluster() -> str:
    """The cluster's name; "" if it has none."""
    for line in ask("scontrol", "show", "config").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "ClusterName":
            return "" if value.strip() == "(null)" else value.strip()
    return ""


def read_accounts(handles: Iterable[str]) -> dict[str, str]:
    """Slurm's word for jobs that have left the queue, from its accounting; {} where there is none."""
    wanted = ",".join(handles)
    if not wanted or shutil.which("sacct") is None:
        return {}
    try:
        text = ask("sacct", "-n", "-X", "-P", "-o", "JobID,State", "-j", wanted)
    except ExecutorError:
        return {}
    rows = (line.split("|", 1) for line in text.splitlines() if "|" in line)
    return {handle: word.split(" ")[0] for handle, word in rows}  # `CANCELLED by 1000`


def read_machines() -> list[Machines]:
    """What the cluster's partitions have."""
    return parse(ask("sinfo", "-h", "-a", "-e", "-o", FIELDS))
