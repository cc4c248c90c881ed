"""What the compute room speaks of: a target, a job on it, and who carries jobs out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from crown_exp.errors import CrownError, Problem
from crown_exp.folder.records import Rate, Server


class ExecutorError(CrownError):
    """An executor cannot be reached or does not answer as it should; what it holds is as it was."""

    exit_code = 80


class NotSubmitted(CrownError):
    """An executor refused a job: quota, no such machine, a name that is taken. Nothing of it is left."""

    exit_code = 1


@dataclass(frozen=True)
class Target:
    """Where and on what a run happens: the group `compute` of a config, read.

    accelerators: `A100:1`, in fall-back order; cpus, memory_gb: at least so many; time, start_deadline in
    seconds, this infinite if there is none; max_usd_per_hour, usd_per_hour: all nodes together. The other
    fields are those of `config.schema.Compute`.
    """

    name: str = "local"
    executor: str = "local"
    accelerators: tuple[str, ...] = ()
    spot: bool = False
    infra: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    cpus: int | None = None
    memory_gb: int | None = None
    disk_gb: int | None = None
    image: str | None = None
    nodes: int = 1
    partition: str | None = None
    time: float | None = None
    setup: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    environment: str = "lock"
    shared: bool = False
    managed: bool = True
    recovery: str = "anywhere"
    start_deadline: float = 2700.0
    autostop_minutes: int = 10
    max_usd_per_hour: float | None = None
    usd_per_hour: float | None = None

    @property
    def is_here(self) -> bool:
        """Whether its runs happen on this machine."""
        return self.executor == "local"


@dataclass(frozen=True)
class Job:
    """One job to submit.

    name: of the job, unique. argv: what it runs, after the machine is set up: a list, never a shell's line.
    target: where. bundle: a folder here that travels as it is and is the job's working directory; None: the
    machines see this one's files, and the job begins in `directory`. env, secrets: environment variables;
    secrets are never shown or written where others can read. setup: argv that prepares a new machine; ().
    Of this process's own environment nothing travels that may hold a secret.
    """

    name: str
    argv: Sequence[str]
    target: Target
    bundle: Path | None = None
    directory: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    setup: Sequence[str] = ()

    @property
    def variables(self) -> dict[str, str]:
        """All environment variables of the job, with its secrets, and CROWN_JOB."""
        return {**self.target.env, **self.env, **self.secrets, "CROWN_JOB": self.name}


class JobState(StrEnum):
    """What an executor says of a job. `GONE`: it does not know it (any more)."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    RECOVERING = "recovering"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    GONE = "gone"


OVER = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.GONE})
"""States of a job that will not change. Its process may live on for a while: seen, 6 s after CANCELLED."""


@dataclass(frozen=True)
class JobStatus:
    """What an executor says of a job.

    reason: one line, "" if there is nothing to say. exit_code: of its last process, if the executor knows it.
    began_nothing: it is over and its command was never started (setup failed, no machine was to be had).
    recoveries: how often it was started again. setup_failed: it is over because the setting up of a machine
    failed, or took too long.
    """

    state: JobState
    reason: str = ""
    exit_code: int | None = None
    began_nothing: bool = False
    recoveries: int = 0
    setup_failed: bool = False


@dataclass(frozen=True)
class Listed:
    """A job that an executor holds. name: as in Job; handle: the executor's own id."""

    name: str
    handle: str
    status: JobStatus


@dataclass(frozen=True)
class Candidate:
    """A machine that a target may be given, with its price for all nodes together.

    usd_per_hour: None if it has no price (a cluster of one's own costs 0). enabled: None if it is not known
    whether its cloud is enabled here.
    """

    cloud: str
    region: str
    machine: str
    accelerators: str
    spot: bool
    usd_per_hour: float | None
    enabled: bool | None = None

    @property
    def is_off(self) -> bool:
        """Whether it would cost nothing, but will not be given: its cluster is not enabled here."""
        return self.enabled is False and not self.usd_per_hour

    @property
    def rate(self) -> Rate:
        """As it is recorded. A machine without a price costs nothing."""
        return Rate(
            cloud=self.cloud, region=self.region, accelerators=self.accelerators,
            spot=self.spot, usd_per_hour=self.usd_per_hour or 0.0,
        )  # fmt: skip


@dataclass(frozen=True)
class Terminal:
    """What to run in this terminal to be on a machine that was made ready for a person.

    argv: it ends when they leave, with the exit code of what they ran. env: all of its environment, with
    secrets; None: as it is here. directory: where it begins; None: here. idle_minutes: so long after they have
    left the machine ends itself; None: at once.
    """

    argv: Sequence[str]
    env: Mapping[str, str] | None = field(default=None, repr=False)
    directory: Path | None = None
    idle_minutes: int | None = None


class Executor(Protocol):
    """Submits, polls and cancels jobs on targets of one kind. Tested by `crown_exp.testing.ExecutorContract`.

    Calls block and may be made from any thread, one at a time. They raise ExecutorError if the executor
    cannot be reached, and what it answers is prose for people: nothing is decided by reading it.

    CROWN_JOB=<job's name> is set by every executor, for the job and its setup; nothing overrides it. A job
    that ends with 75 (stopped and saved) or 80 (its store was not to be had) is started again by the
    executor, with the same name, argv and environment; after any other end it is not. How often is limited
    by what runs, which knows whether it gets on, but for 80: it may never have come to its store, so where
    an executor can count, it gives up after a few of them in a row and says so (`executors.again`).
    """

    name: str

    def problems(self, target: Target) -> Sequence[Problem]:
        """What keeps jobs of the target from being submitted: each names the way out."""
        ...

    def candidates(self, target: Target) -> Sequence[Candidate]:
        """The machines that the target may be given, in the order in which they are tried, without network."""
        ...

    def controller(self) -> Candidate | None:
        """What it would start, and pay, beside the jobs to watch over them; None if nothing."""
        ...

    def server(self) -> Server | None:
        """Who is asked for jobs now; None if that cannot be told. Nobody else knows what becomes of them."""
        ...

    def submit(self, job: Job) -> str:
        """Ask for the job; the ticket of that request, at once. Raises NotSubmitted."""
        ...

    def handle(self, ticket: str) -> str:
        """Wait for the answer to a request: the job's handle. Also in a later process. Raises NotSubmitted."""
        ...

    def poll(self, handles: Collection[str]) -> Mapping[str, JobStatus]:
        """What became of jobs: one request for all of them. Those it does not know are GONE."""
        ...

    def jobs(self) -> Sequence[Listed]:
        """All jobs that are not over, of whoever uses this executor with this account."""
        ...

    def cancel(self, handles: Collection[str]) -> None:
        """Ask for the end of jobs. One that is over or not known is no error; it may take a minute."""
        ...

    def log(self, handle: str, lines: int = 40) -> str:
        """The last lines that the job, or the setting up of its machine, has printed; "" if none are known."""
        ...

    def interactive(self, job: Job, *, tty: bool) -> Terminal:
        """Make a machine ready for a person, as for the job, whose argv they run: blocks for minutes.

        One of this name that is there is used again, with the bundle as it is now. tty: whether they sit at a
        terminal. The machine never outlives `target.autostop_minutes` without anybody on it, or the terminal.
        Raises NotSubmitted.
        """
        ...

    def release(self, name: str) -> bool:
        """End the machine that `interactive` made ready under this name; False if there is none."""
        ...

    def close(self) -> None:
        """Let go of what talks to it. The jobs go on."""
        ...
