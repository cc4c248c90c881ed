"""What this machine knows of itself and its processes, for the fence."""

from __future__ import annotations

import calendar
import os
import subprocess
import sys
import time
from pathlib import Path

from crown_exp.folder import Here

_PROC = Path("/proc")


def here() -> Here:
    """This machine, as the fence asks for it."""
    return Here(host=os.uname().nodename, boot_id=boot_id(), alive=alive)


def boot_id() -> str | None:
    """One string per boot of the machine and per table of processes; None if neither can be told.

    Containers of one machine share the kernel's boot id but not their processes, so on Linux the
    namespace of process ids is part of it.
    """
    try:
        if sys.platform == "darwin":
            return _output("sysctl", "-n", "kern.bootsessionuuid") or None
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def process_started(pid: int) -> float | None:
    """When the process started, in a unit of the platform's own; None if that cannot be told."""
    found = _look_up(pid)
    return None if found is None else found[1]


def alive(pid: int, started: float | None) -> bool:
    """Whether the process lives; with `started`, whether it is the one that started then.

    False only if it is certain: what cannot be told counts as alive.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    found = _look_up(pid)
    if found is None:
        return True
    zombie, began = found
    return not zombie and (started is None or began == started)


def _look_up(pid: int) -> tuple[bool, float] | None:
    """(ended but not yet reaped, start) of a process; None if that cannot be told."""
    try:
        return _from_proc(pid) if sys.platform != "darwin" else _from_ps(pid)
    except (OSError, ValueError, IndexError):
        return None


def _from_proc(pid: int) -> tuple[bool, float]:
    # `pid (name) state ppid ...`: the name may hold spaces and brackets; see proc(5).
    rest = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return rest[0] in "ZX", float(rest[19])  # fields 3 and 22: clock ticks from boot to start


def _from_ps(pid: int) -> tuple[bool, float]:
    status, _, began = _output("ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)).partition(" ")
    moment = time.strptime(began.strip(), "%a %b %d %H:%M:%S %Y")
    return status.startswith("Z"), float(calendar.timegm(moment))


def _output(*command: str) -> str:
    plain = ("env", "LC_ALL=C", "TZ=UTC0", *command)
    done = subprocess.run(plain, capture_output=True, text=True, check=False)
    return done.stdout.strip()
