"""A plain cluster of SkyPilot's for a person: the environment it keeps for them, and the way there. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from crown_exp.compute.base import Job

OF_MACHINE = ("PATH", "LD_LIBRARY_PATH")
"""What jobs find set on a machine, and who comes by ssh may not."""

KEEPS = """\
import json, os, sys
kept = {name: os.environ[name] for name in sys.argv[1:] if name in os.environ}
file = os.open(".crown-terminal.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
with os.fdopen(file, "w") as file:
    json.dump(kept, file)
"""
"""Keeps variables, by name, for who comes by ssh, and is given none: in a file for its user alone."""

BECOMES = """\
import json, os, sys
with open(".crown-terminal.json") as file:
    os.environ.update(json.load(file))
os.execvp(sys.argv[1], sys.argv[1:])
"""

_HOME = re.compile(r"(?<![^\s'\"])~(?=/)")


def keeping(job: Job) -> list[str]:
    """What the cluster runs so that `arrival` finds the job's variables; it holds none of their values."""
    return ["python3", "-c", KEEPS, *sorted({*job.variables, *OF_MACHINE})]


def arrival(job: Job) -> str:
    """The line that ssh has the machine's shell run: the job's argv in its directory, with its variables."""
    line = f"cd sky_workdir && exec {shlex.join(['python3', '-c', BECOMES, *job.argv])}"
    return shlex.join(["bash", "--login", "-c", line])


def ssh(cluster: str, noted: str, home: str, command: str, *, tty: bool) -> list[str]:
    """ssh to a cluster's first machine. noted: SkyPilot's part of ssh's config; home: what ~ is in it.

    ssh itself would take ~ for the user's own home, and SkyPilot's may be another.
    """
    options = [word for line in _first_host(noted.splitlines()) for word in ("-o", line)]
    expanded = [_HOME.sub(lambda _: home, option) for option in options]
    terminal = "-t" if tty else "-T"
    return ["ssh", terminal, "-o", "LogLevel=ERROR", *expanded, cluster, command]


def _first_host(lines: Sequence[str]) -> Iterator[str]:
    hosts = 0
    for line in (line.strip() for line in lines):
        hosts += line.lower().startswith("host ")
        if (
            hosts == 1
            and line
            and not line.startswith("#")
            and not line.lower().startswith("host ")
        ):
            yield line
