"""`crown-exp shell`: a machine with the project and its environment on it, in this terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crown_exp.compute.base import Candidate, Target
    from crown_exp.launch.session import Session


class WithCommand(click.Command):
    """A word whose arguments from -- on are a command of the user's: click would mix them with its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with the arguments before it."""
        at = args.index("--") if "--" in args else len(args)
        ctx.obj = args[at + 1 :]
        return super().parse_args(ctx, args[:at])


@click.command(name="shell", cls=WithCommand)
@click.argument("changes", nargs=-1, metavar="[compute=TARGET] [KEY=VALUE]... [-- COMMAND...]")
@click.option("--yes", is_flag=True, help="agree beforehand to what a paid machine costs")
@click.option("--end", is_flag=True, help="end the machine now")
@click.pass_obj
def command(argv: list[str], changes: tuple[str, ...], yes: bool, end: bool) -> int:
    """Open a shell, or run COMMAND, on a machine with the project and its environment on it.

    \b
    crown-exp shell compute=a100
    crown-exp shell compute=a100_spot compute.max_usd_per_hour=2 -- python -i
    crown-exp shell compute=a100 --end

    Machines that it may be and their prices are shown first, and a paid one is asked for. On SkyPilot it is a
    cluster of your own, one for each target: typed again, the word comes back to it with the code as it is
    now. It ends itself when nobody was on it for compute.autostop_minutes, and everything on it is gone then.
    On Slurm it is given back when you leave; compute=local is this machine. A run typed there is one of your
    store: keep what is worth it so. The machine itself is in no ledger: crown-exp cost does not count it, and
    no budget ends it.
    """
    from pathlib import Path

    from crown_exp.compute.target import target_of
    from crown_exp.config.machine import machine_of
    from crown_exp.config.project import find_project
    from crown_exp.launch.recorded import conf_of
    from crown_exp.launch.remote.shell import as_shell
    from crown_exp.launch.session import open_session

    project = find_project(Path.cwd())
    with conf_of(project) as loader:
        target = as_shell(target_of(machine_of(loader, changes)))
    with open_session(project) as session:
        if end:
            return ended(session, target)
        return opened(session, target, changes, argv, yes)


def opened(
    session: Session, target: Target, typed: Sequence[str], argv: Sequence[str], yes: bool
) -> int:
    """Price, agreement, the machine, and how it ends."""
    import shlex

    from crown_exp.cli.screen import complain
    from crown_exp.compute.base import ExecutorError
    from crown_exp.launch.remote.shell import agree, candidates, entered, executor_of, job_of
    from crown_exp.launch.remote.watching.leaving import asker
    from crown_exp.launch.signals import told

    found = candidates(session, target)
    if not target.is_here:
        show(target, found)
    agree(found, yes=yes, ask=asker(sys.stderr))
    job = job_of(session, target, argv)
    if not target.is_here:
        complain(f"{job.name}: making it ready; that takes minutes where a machine is started")
    now = shlex.join(["crown-exp", "shell", "--end", *typed])
    half = ""  # what there may be if this is cut off
    if target.executor == "skypilot":
        minutes = f"ends itself after {target.autostop_minutes} idle minutes"
        half = f"{job.name} may come all the same, and {minutes}; now: {now}\n"
    try:
        with told(lambda: half):
            terminal = executor_of(session, target).interactive(job, tty=sys.stdin.isatty())
    except ExecutorError:
        click.echo(half, err=True, nl=False)
        raise
    try:
        return entered(terminal)
    finally:
        if (idle := terminal.idle_minutes) is not None:
            complain(f"{job.name} ends itself when nobody was on it for {idle} minutes; now: {now}")


def show(target: Target, found: Sequence[Candidate]) -> None:
    """The machines and their prices, beside what the machine itself will print."""
    from shutil import get_terminal_size

    from crown_exp.config.settings import wants_colour
    from crown_exp.launch.remote.planning.table import machine_lines

    colour = sys.stderr.isatty() and wants_colour()
    for line in machine_lines(target, found, get_terminal_size((80, 24)).columns, colour):
        click.echo(line, err=True)


def ended(session: Session, target: Target) -> int:
    """Take the machine down."""
    from crown_exp.launch.remote.shell import executor_of, name_of

    name = name_of(session, target)
    if executor_of(session, target).release(name):
        click.echo(f"{name} is ended")
    elif target.is_here:
        click.echo("nothing: compute=local is this machine; its shells end when you leave them")
    else:
        click.echo(f"nothing: there is no {name}")
    return 0
