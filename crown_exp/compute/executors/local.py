"""Start a run on this machine in a process of its own."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

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
from crown_exp.compute.executors.keeper import CANCEL, END, OUTPUT, RECORD, End, Kept
from crown_exp.compute.executors.output import tail
from crown_exp.errors import Problem
from crown_exp.folder.records import Server
from crown_exp.storage.machine import alive, boot_id

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_LOCK, _WORK = "lock", "work"
_START_SECONDS = 60.0
_KEPT_SECONDS = 14 * 86400.0
_LOOK_SECONDS = 0.5
"""Who looks whether a job's name is taken holds its lock too, for an instant."""


def start_process(folder: str) -> subprocess.Popen[bytes]:
    """`python -m crown_exp run <folder>` in the current directory, with this terminal.

    Its return code is its exit code, or minus the number of the signal that ended it.
    """
    # Ctrl-C while its Python starts, before it can answer, waits until it can.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return subprocess.Popen([sys.executable, "-m", "crown_exp", "run", folder])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class LocalExecutor:
    """Jobs as processes of this machine, in sessions of their own, that outlive who started them.

    folder: keeps one folder a job, so that any later process of this user can ask for it; those of jobs that
    are over for two weeks are removed. environment: of variables, that every job begins with. grace_seconds:
    between the SIGTERM of a cancel and SIGKILL. pause_seconds: before a job is started again, the first time.
    A job's handle, and its ticket, is its name.
    """

    name = "local"

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        grace_seconds: float = 60.0,
        pause_seconds: float = 10.0,
    ) -> None:
        self._folder = folder.absolute()
        self._environment = environment
        self._grace_seconds = grace_seconds
        self._pause_seconds = pause_seconds

    def problems(self, target: Target) -> Sequence[Problem]:
        """Only a target that is elsewhere."""
        if target.is_here:
            return ()
        what = f"{target.executor} is not this machine; expected local: type compute=local"
        return (Problem("compute.executor", what),)

    def candidates(self, target: Target) -> Sequence[Candidate]:
        """This machine, which costs nothing."""
        kinds = ",".join(target.accelerators)
        return (Candidate("local", "", os.uname().nodename, kinds, False, 0.0, enabled=True),)

    def controller(self) -> Candidate | None:
        """None: each job has a keeper of its own, here."""
        return None

    def server(self) -> Server | None:
        """This machine."""
        host = socket.gethostname()
        return Server(id=host, place=host)

    def submit(self, job: Job) -> str:
        """Start it. Raises NotSubmitted if the name was ever given, or cannot be one."""
        if _NAME.fullmatch(job.name) is None:
            allowed = "expected letters, digits and . _ -, at most 201"
            raise NotSubmitted(f"{job.name!r} cannot be the name of a job: {allowed}")
        self._tidy()
        folder = self._folder / job.name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder, fcntl.LOCK_EX, _LOOK_SECONDS) as lock:
            if lock is None or (folder / RECORD).exists():
                raise NotSubmitted(f"there is a job {job.name} already; expected a name of its own")
            self._start(job, folder, lock)
        return job.name

    def _start(self, job: Job, folder: Path, lock: int) -> None:
        text = json.dumps(
            {
                "argv": list(job.argv),
                "setup": list(job.setup),
                "directory": str(_directory(job, folder)),
                "env": {**self._environment, **job.variables},
                "grace_seconds": self._grace_seconds,
                "pause_seconds": self._pause_seconds,
            }
        )
        with (folder / OUTPUT).open("wb") as output:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "crown_exp.compute.executors.keeper"],
                input=text.encode(),
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for who submits
                pass_fds=(lock,),  # held while the keeper lives: also before it has a record
                check=False,
            )
        if done.returncode != 0:
            raise NotSubmitted(f"{job.name} could not be started; see {folder / OUTPUT}")

    def handle(self, ticket: str) -> str:
        """The ticket, once the job's keeper has a record."""
        folder = self._found(ticket)
        if folder is None or not _recorded(folder):
            raise NotSubmitted(f"no job was started for {ticket}; submit it again")
        return ticket

    def poll(self, handles: Collection[str]) -> Mapping[str, JobStatus]:
        """From their folders."""
        return {handle: self._status(handle) for handle in handles}

    def jobs(self) -> Sequence[Listed]:
        """All that are not over, by name."""
        names = sorted(p.name for p in self._folder.iterdir()) if self._folder.is_dir() else []
        found = [Listed(name, name, self._status(name)) for name in names]
        return [job for job in found if job.status.state not in OVER]

    def cancel(self, handles: Collection[str]) -> None:
        """SIGTERM to each, and SIGKILL to what is there when the grace is over."""
        for handle in handles:
            folder = self._found(handle)
            if folder is not None and self._status(handle).state not in OVER:
                _cancel(folder)

    def log(self, handle: str, lines: int = 40) -> str:
        """The end of what it, and its setup, have printed."""
        folder = self._found(handle)
        return "" if folder is None else tail(folder / OUTPUT, lines)

    def interactive(self, job: Job, *, tty: bool) -> Terminal:
        """This machine. A bundle is copied into a folder of the job's name, once what prepares it has run."""
        folder = self._folder / job.name
        directory = _directory(job, folder)
        env = {**self._environment, **job.variables}
        if job.setup and subprocess.run(job.setup, cwd=directory, env=env, check=False).returncode:
            raise NotSubmitted(f"{job.name}: {job.setup[0]} failed, as said above")
        return Terminal(tuple(job.argv), env, directory)

    def release(self, name: str) -> bool:
        """This machine is not ended: False."""
        return False

    def close(self) -> None:
        """Nothing is held."""

    def _tidy(self) -> None:
        """Remove what is kept of jobs that are over for long."""
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            newest = max(_changed(folder / RECORD), _changed(folder / END))
            if 0 < newest < time.time() - _KEPT_SECONDS and _status(folder).state in OVER:
                shutil.rmtree(folder, ignore_errors=True)  # another process may do the same

    def _found(self, handle: str) -> Path | None:
        folder = self._folder / handle
        return folder if _NAME.fullmatch(handle) and folder.is_dir() else None

    def _status(self, handle: str) -> JobStatus:
        folder = self._found(handle)
        return JobStatus(JobState.GONE) if folder is None else _status(folder)


def _directory(job: Job, folder: Path) -> Path:
    if job.bundle is None:
        return (job.directory or Path.cwd()).absolute()
    shutil.rmtree(folder / _WORK, ignore_errors=True)  # of a submit that was cut off
    return Path(shutil.copytree(job.bundle, folder / _WORK, symlinks=True))


def _status(folder: Path) -> JobStatus:
    end = _end(folder)
    if end is not None:
        return _ended(end)
    kept = _kept(folder)
    if kept is None:
        return JobStatus(JobState.STARTING if _is_locked(folder) else JobState.GONE)
    if not _lives(kept):
        end = _end(folder)  # written since we looked
        lost = "its process is gone and left no exit code: killed, or the machine was restarted"
        return JobStatus(JobState.FAILED, lost) if end is None else _ended(end)
    if (folder / CANCEL).exists():
        return JobStatus(JobState.CANCELLING, recoveries=kept.recoveries)
    if kept.process is not None:
        return JobStatus(JobState.RUNNING, recoveries=kept.recoveries)
    state = JobState.RECOVERING if kept.recoveries else JobState.STARTING
    return JobStatus(state, recoveries=kept.recoveries)


def _ended(end: End) -> JobStatus:
    if end.cancelled:
        state, reason = JobState.CANCELLED, end.reason
    elif end.exit_code == 0:
        state, reason = JobState.SUCCEEDED, end.reason
    else:
        state, reason = JobState.FAILED, end.reason or _why(end.exit_code)
    return JobStatus(state, reason, end.exit_code, end.began_nothing, end.recoveries)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _why(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _lives(kept: Kept) -> bool:
    """Whether its keeper does, or, if that was killed alone, the job itself."""
    if kept.boot != boot_id():
        return False
    if alive(kept.keeper, kept.keeper_started):
        return True
    return kept.process is not None and alive(kept.process, kept.process_started)


def _cancel(folder: Path) -> None:
    (folder / CANCEL).touch()
    if not _recorded(folder):
        return
    kept = _kept(folder)
    if kept is None or kept.boot != boot_id():
        return
    if alive(kept.keeper, kept.keeper_started):
        _kill(kept.keeper)
    elif kept.process is not None and alive(kept.process, kept.process_started):
        _kill(-kept.process)  # all of its group


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass


def _recorded(folder: Path) -> bool:
    """Wait until the job's keeper has written its record; False if there is no keeper that could."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        held = _is_locked(folder)  # asked first: the record comes before the lock is let go
        if (folder / RECORD).exists():
            return True
        if not held:
            return False
        time.sleep(0.02)
    raise ExecutorError(f"the keeper of {folder.name} wrote no record; see {folder / OUTPUT}")


def _kept(folder: Path) -> Kept | None:
    try:
        return Kept(**json.loads((folder / RECORD).read_text()))
    except FileNotFoundError:
        return None


def _end(folder: Path) -> End | None:
    try:
        return End(**json.loads((folder / END).read_text()))
    except FileNotFoundError:
        return None


def _is_locked(folder: Path) -> bool:
    with _locked(folder, fcntl.LOCK_SH) as lock:  # who only looks is in nobody's way who looks too
        return lock is None


@contextmanager
def _locked(folder: Path, kind: int, seconds: float = 0.0) -> Iterator[int | None]:
    """A lock that who submits a job holds and its keeper inherits; None if another has it all the time."""
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    until = time.monotonic() + seconds
    try:
        while not (got := _lock(lock, kind)) and time.monotonic() < until:
            time.sleep(0.01)
        yield lock if got else None
    finally:
        os.close(lock)  # lets it go unless a keeper has it too


def _lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
