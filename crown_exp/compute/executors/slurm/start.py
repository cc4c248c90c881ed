"""What Slurm's batch script becomes: starts the command of a job and says how it ended.

A script of its own (standard library only), of which every job has a copy in its folder: what is edited
after a job was submitted does not change the job. The command is a process of its own with the signals as
Python has them; it hears of a time limit, a preemption or `scancel` itself, and decides what to save. When
it ends with 75 (preempted) or 80 (the store was not to be had), Slurm is asked to run the same job again;
not after many ends with 80 in a row. When the job is over, its secrets are removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

AGAIN = frozenset({75, 80})
"""Exit codes after which the same job is run again: preempted, and a store that was not to be had."""

PR_SET_PDEATHSIG = 1
PREEMPTED = 75
LOST = 80
SETUP_FAILED = 1
FORWARDED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
TERM_GRACE = 1.0
"""Seconds before SIGTERM is passed on, as SIGUSR2. Slurm sends SIGTERM to all processes of a job, and a second
SIGTERM would mean `at once` to a run; SIGUSR2 says nothing new to one that knows."""


def end_with_parent() -> None:
    """Called in a new process: it is sent SIGTERM if the one that started it is killed.

    Slurm may lose sight of a process whose parent is gone, and it would run on beside the job's next start.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Relay:
    """Passes signals of Slurm on to the process that is at work; those that came before it began as well."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.waiting: signal.Signals | None = None
        self.heard = False

    def listen(self) -> None:
        """From now on, signals are passed on. A process started later has Python's default handlers."""
        signal.signal(signal.SIGALRM, self.later)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in FORWARDED:
            signal.signal(number, self.hear)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*FORWARDED, signal.SIGALRM, signal.SIGINT})

    def hear(self, number: int, frame: FrameType | None) -> None:
        """The handler of a signal that asks the job to stop."""
        self.heard = True
        if number == signal.SIGTERM:
            signal.setitimer(signal.ITIMER_REAL, TERM_GRACE)
        else:
            self.pass_on(signal.Signals(number))

    def later(self, number: int, frame: FrameType | None) -> None:
        """The handler of the alarm: a SIGTERM that may have been sent to this process alone."""
        self.pass_on(signal.SIGUSR2)

    def pass_on(self, number: signal.Signals) -> None:
        """Send a signal to the process, or keep it until there is one."""
        if self.child is None:
            self.waiting = number
        else:
            self.child.send_signal(number)

    def run(self, argv: list[str], cwd: str, environment: dict[str, str]) -> int:
        """See a process through; its exit code, 75 if it died of a signal that asked it to stop.

        Raises OSError if it cannot be started.
        """
        self.child = subprocess.Popen(
            argv, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, preexec_fn=end_with_parent
        )
        if self.waiting is not None:
            self.child.send_signal(self.waiting)
        code = self.child.wait()
        self.child = None
        if code >= 0:
            return code
        return PREEMPTED if self.heard and -code in FORWARDED else 128 - code


REQUEUE_SECONDS = 120.0
"""How long Slurm may take to end a process whose job is to be run again."""


def write(path: Path, record: dict[str, Any]) -> None:
    """Write a record at once or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record), encoding="utf-8")
    part.replace(path)


def command(*argv: str) -> str | None:
    """What one of Slurm's commands prints; None if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{argv[0]}: {error}\n")
        return None
    return done.stdout.strip()


def lost_in_a_row(folder: Path, job: dict[str, Any], handle: str, code: int, seconds: float) -> int:
    """How many ends with 80 the job has in a row with this one, as `executors.again` counts; noted."""
    path, before = folder / "lost.json", 0
    with contextlib.suppress(OSError, ValueError):
        noted = json.loads(path.read_text(encoding="utf-8"))
        before = int(noted["times"]) if noted["handle"] == handle else 0
    times = before + 1 if code == LOST and seconds < job["long_seconds"] else 0
    write(path, {"handle": handle, "times": times})
    return times


def started_again(folder: Path, handle: str) -> int:
    """How often this job was started again, by any machine; -1 if it never began."""
    with contextlib.suppress(OSError, ValueError):
        noted = json.loads((folder / "began.json").read_text(encoding="utf-8"))
        return int(noted["restarts"]) if noted["handle"] == handle else -1
    return -1


def ask_again(folder: Path, handle: str, restarts: int) -> bool:
    """Have Slurm run this job again. Not if somebody has cancelled it, when it is not RUNNING any more."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Slurm sends it as soon as the job is requeued
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    if (folder / "cancelled").exists() or command(
        "squeue", "-h", "-j", handle, "-o", "%T"
    ) != "RUNNING":
        return False
    # Slurm calls the job FAILED for a moment before it waits again: who looks then finds this
    write(folder / "again.json", {"handle": handle, "restarts": restarts})
    if command("scontrol", "requeue", handle) is None:
        return False
    # Slurm ends this process: whether that comes before our own exit is not to decide what the job's end was
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(REQUEUE_SECONDS)
    return True


def secrets(folder: Path, job: dict[str, Any]) -> dict[str, str]:
    """The job's secrets. Raises OSError if they are gone: the job was over before, and is run once more."""
    if not job["secret_names"]:
        return {}
    kept: dict[str, str] = json.loads((folder / "secrets.json").read_text(encoding="utf-8"))
    return kept


def carry_out(folder: Path, job: dict[str, Any], relay: Relay) -> tuple[int, bool]:
    """Prepare the machine, run the command: the exit code, and whether the command was never started."""
    try:
        environment = {**os.environ, **secrets(folder, job), **job["env"]}
        if job["setup"] and (code := relay.run(job["setup"], job["directory"], environment)):
            return (code, True) if relay.heard else (SETUP_FAILED, True)
        return relay.run(job["argv"], job["directory"], environment), False
    except OSError as error:
        sys.stderr.write(f"cannot start {job['argv'][0]} in {job['directory']}: {error}\n")
        return SETUP_FAILED, True


def main() -> int:
    """Run the job whose folder is the only argument."""
    relay = Relay()
    relay.listen()
    folder, handle = Path(sys.argv[1]), os.environ["SLURM_JOB_ID"]
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    times, began = 0, time.monotonic()
    if (folder / "cancelled").exists():
        code, nothing = PREEMPTED, True
    else:
        write(folder / "began.json", {"handle": handle, "restarts": restarts})
        (folder / "end.json").unlink(missing_ok=True)  # of a start that Slurm has cut short
        code, nothing = carry_out(folder, job, relay)
        times = lost_in_a_row(folder, job, handle, code, time.monotonic() - began)
    if started_again(folder, handle) > restarts:
        return code  # it was cut off from Slurm, which has started the job elsewhere: nothing is ours to say
    gave_up = code == LOST and times >= job["most_lost"]
    if code in AGAIN and not gave_up and ask_again(folder, handle, restarts):
        return code
    end = {"handle": handle, "exit_code": code, "began_nothing": nothing, "lost": times * gave_up}
    write(folder / "end.json", end)
    # Whether Slurm itself runs this job again (its node is down, another job is in its place) it does not say
    if code not in AGAIN or gave_up or (folder / "cancelled").exists():
        (folder / "secrets.json").unlink(missing_ok=True)
    return code


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
