"""`crown-exp reap`: jobs that run and that nothing needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from crown_exp.errors import ConfigError

if TYPE_CHECKING:
    from crown_exp.launch.remote.reaping import Stray
    from crown_exp.launch.session import Session


@click.command(name="reap")
@click.option("--yes", is_flag=True, help="do not ask")
@click.option("--dry-run", is_flag=True, help="only list them")
@click.option("--foreign", is_flag=True, help="end those too whose run is not in this store")
def command(yes: bool, dry_run: bool, foreign: bool) -> int:
    """List jobs on SkyPilot and Slurm that are ours and that nothing needs, and end them after asking.

    A job is needed while its run's record names it and the run is not over. One whose run is not in this
    project's store may be another project's: it is listed, and ended only with --foreign. Exits with 1 if
    some are left.
    """
    from pathlib import Path

    from crown_exp.config.project import find_project
    from crown_exp.launch.remote.reaping import end, reachable
    from crown_exp.launch.session import open_session

    with open_session(find_project(Path.cwd())) as session:
        asked = reachable(session)
        if not asked:
            click.echo("neither SkyPilot nor Slurm is here: no job can be")
            return 0
        found, asked = looked_at(session, asked)
        doomed = [stray for stray in found if stray.may_end(foreign=foreign)]
        show(found, asked)
        if not doomed or dry_run:
            return int(bool(found))
        if not yes and not agreed(len(doomed), foreign):
            click.echo("nothing was ended")
            return 1
        end(session, doomed)
    click.echo(f"asked for the end of {counted(len(doomed))}; it may take a minute")
    return int(len(doomed) < len(found))


def looked_at(session: Session, executors: Sequence[str]) -> tuple[list[Stray], list[str]]:
    """What nothing needs, and who was asked. Who does not answer is told. Raises ExecutorError if none does."""
    from crown_exp.cli.screen import complain
    from crown_exp.compute.base import ExecutorError
    from crown_exp.launch.remote.reaping import strays

    found: list[Stray] = []
    asked: list[str] = []
    for number, name in enumerate(executors, 1):
        try:
            found += strays(session, name)
            asked.append(name)
        except ExecutorError as error:
            if number == len(executors) and not asked:
                raise
            complain(f"{name} was not asked: {error}")
    return found, asked


def show(found: Sequence[Stray], asked: Sequence[str]) -> None:
    """A line for each."""
    from crown_exp.cli.screen import screen, write_lines
    from crown_exp.cli.table import table

    if not found:
        click.echo(f"no job on {' or '.join(asked)} that nothing needs")
        return
    on = screen()
    rows = [
        [it.executor, it.job.name, it.job.handle.rpartition("/")[2], it.job.status.state, it.why]
        for it in found
    ]
    heads = ["executor", "job", "number", "state", "why nothing needs it"]
    write_lines(table(heads, rows, width=on.width, colour=on.colour))


def agreed(count: int, foreign: bool) -> bool:
    """Whether the user says yes. Raises ConfigError if nobody can be asked."""
    if not sys.stdin.isatty():
        again = "crown-exp reap --yes" + (" --foreign" if foreign else "")
        what = "asks before it ends jobs, and nobody is there to answer; nothing was ended"
        raise ConfigError.of("reap", f"{what}. Type: {again}")
    return click.confirm(f"end {counted(count)}?", err=True)


def counted(count: int) -> str:
    """`1 job`, `3 jobs`."""
    return f"{count} job" if count == 1 else f"{count} jobs"
