"""A machine of a Slurm cluster for a person: srun with what a target asks for, in this terminal."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from crown_exp.compute.base import Job, Target, Terminal
from crown_exp.compute.executors.slurm.submission import parameters, travelling

FLAGS = {
    "partition": "partition",
    "time": "time",
    "cpus_per_task": "cpus-per-task",
    "mem": "mem",
    "gres": "gres",
}
"""Options of srun by what submitit calls them."""

SCREEN = re.compile("TERM|COLORTERM|NO_COLOR|COLUMNS|LINES")


def terminal(job: Job, environment: Mapping[str, str], *, tty: bool) -> Terminal:
    """srun, which waits for a machine, runs what prepares it and becomes what a person runs there.

    Its environment goes straight to the process: Slurm keeps it nowhere.
    """
    directory = (job.directory or Path.cwd()).absolute()
    argv = list(job.argv)
    if job.setup:
        argv = ["sh", "-c", f'{shlex.join(job.setup)} && exec "$@"', "sh", *argv]
    screen = {name: value for name, value in environment.items() if SCREEN.fullmatch(name)}
    return Terminal(
        ["srun", *(["--pty"] if tty else []), f"--job-name={job.name}", f"--chdir={directory}",
         "--ntasks=1", *asked(job.target), *argv],
        {**travelling(environment), **screen, **job.variables},
    )  # fmt: skip


def asked(target: Target) -> Iterator[str]:
    """A target's resources and time limit as options of srun."""
    known = parameters(target)
    for name, flag in FLAGS.items():
        if known[name] is not None:
            yield f"--{flag}={known[name]}"
