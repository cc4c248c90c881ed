"""The small process that stays beside a job on this machine, starts it again, and writes down how it ended.

Started by `local.LocalExecutor` in the job's folder, which holds afterwards: `record.json` (a `Kept`),
`output` (what the job prints), `cancel` (somebody asked for its end) and `end.json` (an `End`). What the
job is, with its secrets, comes through stdin, so that no file and no list of processes shows it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from crown_exp.compute.executors.again import (
    AGAIN,
    MOST_LOST,
    gave_up,
    lost_in_a_row,
    pause_seconds,
)
from crown_exp.storage.machine import boot_id, process_started

RECORD, OUTPUT, CANCEL, END = "record.json", "output", "cancel", "end.json"
NOT_STARTED = 127
"""Exit code of a command that could not be started, as a shell has it."""

_LISTEN_SECONDS = 0.2
"""So soon a job that waits for its next start hears that there is to be none."""


@dataclass(frozen=True)
class Kept:
    """Who keeps a job, and the process that it began. Times as `machine.process_started` gives them.

    process: None until there is one, and between two of them. recoveries: how often it was started again.
    """

    boot: str | None
    keeper: int
    keeper_started: float | None
    process: int | None = None
    process_started: float | None = None
    recoveries: int = 0


@dataclass(frozen=True)
class End:
    """How a job ended. exit_code: of its last process; minus the signal's number if one ended it."""

    exit_code: int
    cancelled: bool = False
    began_nothing: bool = False
    reason: str = ""
    recoveries: int = 0


def write(path: Path, value: Kept | End) -> None:
    """In one step: a reader sees all of it, or what was there before."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(json.dumps(asdict(value)))
    beside.replace(path)


class Keeper:
    """Runs the commands of one job, one after the other, and passes on SIGTERM to them."""

    def __init__(self, job: Mapping[str, Any], folder: Path) -> None:
        self._job, self._folder = job, folder
        self._kept = Kept(boot_id(), os.getpid(), process_started(os.getpid()))
        self._child: subprocess.Popen[bytes] | None = None
        self._told = False

    def keep(self) -> None:
        """Until the job is over."""
        signal.signal(signal.SIGTERM, self._on_end)
        signal.signal(signal.SIGALRM, self._on_end)
        # Jobs inherit these: what who submits has blocked or ignores is not for them.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        write(self._folder / RECORD, self._kept)
        end = self._all()
        if end.cancelled:
            self._signal(signal.SIGKILL)  # what it has left behind
        write(self._folder / END, end)

    def _all(self) -> End:
        if self._job["setup"]:
            end = self._one(self._job["setup"])
            if end.exit_code != 0 or end.cancelled:
                reason = end.reason or f"its setup ended with exit code {end.exit_code}"
                return End(end.exit_code, end.cancelled, began_nothing=True, reason=reason)
        lost = 0
        while True:
            began = time.monotonic()
            end = self._one(self._job["argv"])
            lost = lost_in_a_row(lost, end.exit_code, time.monotonic() - began)
            if end.exit_code not in AGAIN or self._told:
                return self._counted(end)
            if lost >= MOST_LOST:
                return self._counted(replace(end, reason=gave_up(lost)))
            if not self._pause():
                return self._counted(replace(end, cancelled=self._cancelled()))

    def _counted(self, end: End) -> End:
        again = self._kept.recoveries
        return replace(end, recoveries=again, began_nothing=end.began_nothing and not again)

    def _pause(self) -> bool:
        """Before the next start; False if the job is to end instead."""
        again = self._kept.recoveries + 1
        self._keep(replace(self._kept, process=None, process_started=None, recoveries=again))
        self._signal(signal.SIGKILL)  # what it has left behind is not to meet the next one
        self._child = None
        until = time.monotonic() + pause_seconds(again, self._job["pause_seconds"])
        while not self._told and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LISTEN_SECONDS))
        return not self._told

    def _keep(self, kept: Kept) -> None:
        self._kept = kept
        write(self._folder / RECORD, kept)

    def _one(self, argv: Sequence[str]) -> End:
        if self._told:
            return End(-signal.SIGTERM, self._cancelled(), began_nothing=True)
        try:
            self._child = subprocess.Popen(
                list(argv),
                cwd=self._job["directory"],
                env=self._job["env"],
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        except (OSError, ValueError) as problem:
            reason = f"{argv[0] if argv else 'an empty command'} cannot be started: {problem}"
            return End(NOT_STARTED, began_nothing=True, reason=reason)
        if self._told:  # before there was a child to tell
            self._signal(signal.SIGTERM)
        pid = self._child.pid
        self._keep(replace(self._kept, process=pid, process_started=process_started(pid)))
        code = self._child.wait()
        return End(code, cancelled=code != 0 and self._cancelled())

    def _cancelled(self) -> bool:
        return (self._folder / CANCEL).exists()

    def _on_end(self, number: int, _: FrameType | None) -> None:
        """SIGTERM: to the job too, and SIGKILL if it is there when its grace is over."""
        if number == signal.SIGALRM:
            self._signal(signal.SIGKILL)
        elif not self._told:
            self._told = True
            signal.setitimer(signal.ITIMER_REAL, self._job["grace_seconds"])
            self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if self._child is not None:
            try:
                os.killpg(self._child.pid, number)
            except (ProcessLookupError, PermissionError):  # nobody is left; macOS: only zombies
                pass


def main() -> None:
    """Read the job, leave the parent, and keep it."""
    job = json.load(sys.stdin)
    if os.fork():
        os._exit(0)
    os.setsid()
    Keeper(job, Path.cwd()).keep()


if __name__ == "__main__":
    main()
