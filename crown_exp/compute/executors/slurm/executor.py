"""Jobs on a Slurm cluster, submitted through submitit."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import shutil
import signal
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crown_exp.compute.base import (
    OVER,
    Candidate,
    ExecutorError,
    Job,
    JobState,
    JobStatus,
    Listed,
    NotSubmitted,
    Target,
    Terminal,
)
from crown_exp.compute.executors.again import AGAIN, gave_up
from crown_exp.compute.executors.output import tail
from crown_exp.compute.executors.slurm.jobs import JobFolders, read
from crown_exp.compute.executors.slurm.limits import Machines, beyond
from crown_exp.compute.executors.slurm.queue import (
    Row,
    ask,
    read_accounts,
    read_cluster,
    read_machines,
    read_queue,
)
from crown_exp.compute.executors.slurm.submission import sbatch
from crown_exp.compute.executors.slurm.terminal import terminal
from crown_exp.config.settings import whole_environment
from crown_exp.errors import Problem
from crown_exp.folder.records import Server

REQUEUE_SECONDS = 300.0
"""How long Slurm may take to put a job that is to be run again back into its queue."""

HURRY_SECONDS = 20.0
"""How long a job that is to be run again is left alone: the end of its last process, which reaches Slurm late,
was seen to be taken for that of its next one."""

CUT_SHORT = frozenset({"PREEMPTED", "TIMEOUT"})
"""What Slurm calls jobs that it ended; they may have asked to be run again, and have not been heard."""

LOG = "{handle}_0_log.out"
"""What submitit calls what a job prints."""


class SlurmExecutor:
    """Submits jobs to the Slurm cluster of which this machine is a client.

    root: a folder for what belongs to jobs (what to run, what they print), on files that the cluster's
    machines see. A job runs its command as a process of its own; when it ends with 75 or 80 the same job is
    run again, on whatever machine Slurm chooses. A ticket is the handle: Slurm answers at once. What the
    cluster has and what is in its queue is asked before the first job, and again before a job is refused.
    """

    name = "slurm"

    def __init__(self, root: Path) -> None:
        self.folders = JobFolders(root.absolute())
        self._waiting: dict[str, float] = {}
        self._cluster: list[Machines] | None = None
        self._live: dict[str, str] | None = None

    def problems(self, target: Target) -> Sequence[Problem]:
        """What keeps jobs of the target from being submitted. Raises ExecutorError if Slurm does not answer."""
        found = [Problem(f"compute.{where}", what) for where, what in refusals(target)]
        if importlib.util.find_spec("submitit") is None:
            what = "slurm needs submitit: pip install 'crown-exp[slurm]'"
            return [*found, Problem("compute.executor", what)]
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            what = "no sbatch here: start it on a machine of the cluster, or use compute=local"
            return [*found, Problem("compute.executor", what)]
        beyond_it = self.beyond(target)
        return [*found, *(Problem(f"compute.{where}", what) for where, what in beyond_it)]

    def candidates(self, target: Target) -> Sequence[Candidate]:
        """The one kind of machine that is asked for; a cluster of one's own costs nothing."""
        machine = target.partition or "default partition"
        wanted = target.accelerators[0] if target.accelerators else ""
        return [Candidate("slurm", "", machine, wanted, target.spot, 0.0, enabled=True)]

    def controller(self) -> Candidate | None:
        """None: Slurm is there anyway."""
        return None

    def server(self) -> Server | None:
        """The cluster whose client this machine is, by its name; None where the site does not tell it.

        Raises ExecutorError if Slurm does not answer.
        """
        try:
            name = read_cluster()
        except ExecutorError:
            read_queue()  # what answers refuses its config alone
            return None
        return Server(id=name, place=f"a machine of Slurm's cluster {name}") if name else None

    def submit(self, job: Job) -> str:
        """Submit the job; its handle. Raises NotSubmitted, ExecutorError."""
        for where, what in self.beyond(job.target):
            raise NotSubmitted(f"{job.name}: compute.{where}: {what}")
        if (live := self.living(job.name)) is not None:
            raise NotSubmitted(f"{job.name}: job {live} has this name already")
        folder = self.folders.prepare(job)
        try:
            handle = sbatch(job, folder)
        except NotSubmitted:
            # An answer that was lost on its way is a refusal for sbatch; ExecutorError if Slurm is not there
            found = [row.handle for row in self.jobs() if row.name == job.name]
            if not found:
                shutil.rmtree(folder)
                raise
            handle = found[0]
        self.folders.note(handle, job.name)
        return handle

    def beyond(self, target: Target) -> list[tuple[str, str]]:
        """What the target asks for that the cluster has not, as `limits.beyond`. Raises ExecutorError."""
        if self._cluster is not None and not beyond(target, self._cluster):
            return []
        self._cluster = read_machines()
        return beyond(target, self._cluster)

    def living(self, name: str) -> str | None:
        """The handle of a job of this name that is not over; None if there is none. Raises ExecutorError.

        Slurm is asked at first, and where the name may be taken: there was such a job, or its folder is there.
        """
        first = self._live is None
        if self._live is None or name in self._live or self.folders.has(name):
            self._live = {row.name: row.handle for row in self.jobs()}
        if first:
            self.folders.tidy(self._live)
        return self._live.get(name)

    def handle(self, ticket: str) -> str:
        """The ticket, if it is one. Raises NotSubmitted."""
        if self.folders.folder(ticket) is None and ticket not in self.queue():
            raise NotSubmitted(f"{ticket}: Slurm has no such job")
        return ticket

    def poll(self, handles: Collection[str]) -> Mapping[str, JobStatus]:
        """What became of jobs. One that Slurm has forgotten is known by the end it wrote, or by accounting."""
        if not handles:
            return {}
        rows = self.queue()
        self.hurry(rows[handle] for handle in handles if handle in rows)
        found = {handle: self.status(rows[handle]) for handle in handles if handle in rows}
        for handle in handles:
            if handle not in rows and (end := self.end(handle)) is not None:
                found[handle] = ended(end, self.recoveries(handle), self.is_cancelled(handle))
        unknown = [handle for handle in handles if handle not in found]
        for handle, word in read_accounts(unknown).items():
            found[handle] = self.status(Row(handle, "", word, ""))
        told = {handle: found.get(handle, JobStatus(JobState.GONE)) for handle in handles}
        for handle, status in told.items():
            if status.state in OVER:
                self.folders.forget_secrets(handle)
        return told

    def queue(self) -> dict[str, Row]:
        """What Slurm knows of this user's jobs, after those that it ended too early are in its queue again."""
        rows = read_queue()
        for handle, row in rows.items():
            if row.state not in OVER:
                self.folders.adopt(handle, row.name)
            elif row.word in CUT_SHORT and self.revive(handle, row.word):
                rows[handle] = replace(row, word="REQUEUED")
        return rows

    def revive(self, handle: str, word: str) -> bool:
        """Have a job run again that Slurm has ended, before it could ask for that itself; whether it will be.

        Where other jobs' `PreemptMode=CANCEL` takes its place, Slurm tells it and calls it over at once.
        """
        end, ours = self.end(handle), self.has_begun(handle)
        asked = end["exit_code"] in AGAIN if end is not None else word == "PREEMPTED"
        if not ours or not asked or self.is_cancelled(handle):
            return False
        with contextlib.suppress(ExecutorError):
            ask("scontrol", "requeue", handle)
            return True
        return False

    def hurry(self, rows: Iterable[Row]) -> None:
        """Jobs that are run again begin soon: Slurm would have each of them wait for two minutes.

        Not those that have waited in vain for their store to come back.
        """
        waiting = {
            row.handle for row in rows
            if row.word == "PENDING" and row.reason == "BeginTime" and self.has_begun(row.handle)
        }  # fmt: skip
        now = time.monotonic()
        self._waiting = {handle: self._waiting.get(handle, now) for handle in waiting}
        for handle, since in self._waiting.items():
            if now - since > HURRY_SECONDS and self.lost(handle) < 2:
                with contextlib.suppress(ExecutorError):  # then it waits
                    ask("scontrol", "update", f"JobId={handle}", "StartTime=now")

    def lost(self, handle: str) -> int:
        """How many ends with 80 it has in a row."""
        noted = read(self.folders.folder(handle), "lost.json", handle)
        return 0 if noted is None else int(noted["times"])

    def jobs(self) -> Sequence[Listed]:
        """All jobs of this user that are not over, whoever submitted them."""
        listed = (Listed(row.name, row.handle, self.status(row)) for row in self.queue().values())
        return [job for job in listed if job.status.state not in OVER]

    def cancel(self, handles: Collection[str]) -> None:
        """Ask for the end of jobs: their runs save and end, and are not run again."""
        rows = self.queue() if handles else {}
        live = [handle for handle in handles if handle in rows and rows[handle].state not in OVER]
        for handle in live:
            if folder := self.folders.folder(handle):
                (folder / "cancelled").touch()
        if live:
            ask("scancel", "--quiet", *live)

    def log(self, handle: str, lines: int = 40) -> str:
        """The last lines that the job has printed, in all its starts."""
        folder = self.folders.folder(handle)
        return "" if folder is None else tail(folder / LOG.format(handle=handle), lines)

    def interactive(self, job: Job, *, tty: bool) -> Terminal:
        """srun in this terminal, which waits for a machine; the machine is given back when it ends."""
        for where, what in self.beyond(job.target):
            raise NotSubmitted(f"{job.name}: compute.{where}: {what}")
        if job.bundle is not None:
            directory = self.folders.copied(job.name, job.bundle)
            job = replace(job, bundle=None, directory=directory)
        return terminal(job, whole_environment(), tty=tty)

    def release(self, name: str) -> bool:
        """Cancel the jobs of this name, which are those of srun in other terminals."""
        handles = [job.handle for job in self.jobs() if job.name == name]
        if handles:
            ask("scancel", "--quiet", *handles)
        return bool(handles)

    def close(self) -> None:
        """Nothing is open."""

    def end(self, handle: str) -> dict[str, Any] | None:
        """What the job wrote at its end; None if it has not."""
        return read(self.folders.folder(handle), "end.json", handle)

    def recoveries(self, handle: str) -> int:
        """How often the job was started again."""
        began = read(self.folders.folder(handle), "began.json", handle)
        return 0 if began is None else int(began["restarts"])

    def is_cancelled(self, handle: str) -> bool:
        """Whether its end was asked for here."""
        folder = self.folders.folder(handle)
        return folder is not None and (folder / "cancelled").exists()

    def status(self, row: Row) -> JobStatus:
        """What Slurm says of a job, and what the job itself wrote."""
        state, end = row.state, self.end(row.handle)
        again = self.recoveries(row.handle)
        if state in OVER and end is not None and state is not JobState.CANCELLED:
            return ended(end, again, self.is_cancelled(row.handle))
        if state is JobState.FAILED and self.asked_for_again(row.handle) < REQUEUE_SECONDS:
            return JobStatus(JobState.RECOVERING, row.reason, recoveries=again)
        reason = row.reason
        if state in (JobState.FAILED, JobState.CANCELLED):
            reason = f"Slurm ended it: {row.word}"
        elif state not in OVER and self.is_cancelled(row.handle):
            state = JobState.CANCELLING
        elif state is JobState.WAITING and self.folders.folder(row.handle):
            state = JobState.RECOVERING if self.has_begun(row.handle) else state
        code = int(end["exit_code"]) if end is not None and state in OVER else None
        return JobStatus(state, reason, code, self.began_nothing(row, state), again)

    def has_begun(self, handle: str) -> bool:
        """Whether its command was started at least once."""
        return read(self.folders.folder(handle), "began.json", handle) is not None

    def asked_for_again(self, handle: str) -> float:
        """Seconds since the job has asked to be run again; inf if it has not, or has been."""
        folder = self.folders.folder(handle)
        asked = read(folder, "again.json", handle)
        if folder is None or asked is None or int(asked["restarts"]) < self.recoveries(handle):
            return math.inf
        return time.time() - (folder / "again.json").stat().st_mtime

    def began_nothing(self, row: Row, state: JobState) -> bool:
        """Whether a job of ours is over and never got a machine."""
        ours = self.folders.folder(row.handle) is not None
        return ours and state in OVER and not self.has_begun(row.handle)


def refusals(target: Target) -> list[tuple[str, str]]:
    """What a target asks for that Slurm jobs of ours cannot do."""
    found = []
    if target.nodes != 1:
        found.append(("nodes", "a run on Slurm has one machine in this version: compute.nodes=1"))
    if target.image is not None:
        found.append(("image", "Slurm starts no images here: compute.image=null"))
    if len(target.accelerators) > 1:
        found.append(
            ("accelerators", "Slurm is asked for one kind of GPU: name one, e.g. [A100:1]")
        )
    return found


def ended(end: Mapping[str, Any], recoveries: int, cancelled: bool) -> JobStatus:
    """The state of a job that wrote how it ended."""
    code, nothing = int(end["exit_code"]), bool(end["began_nothing"])
    state = JobState.SUCCEEDED if code == 0 else JobState.FAILED
    if cancelled and code:
        state = JobState.CANCELLED
    return JobStatus(state, why(end, code) if code else "", code, nothing, recoveries)


def why(end: Mapping[str, Any], code: int) -> str:
    """Why a job failed, as far as its own end tells; "" if that is for its log to say."""
    if end.get("lost"):
        return gave_up(int(end["lost"]))
    if end["began_nothing"]:
        return "the setting up of its machine failed"
    try:
        name = signal.Signals(code - 128).name
    except ValueError:
        return ""
    short = " (the kernel does so when memory is short)" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{short}"
