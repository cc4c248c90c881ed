"""`crown-exp cancel RUN…`: end runs that are queued or running, wherever they are."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from crown_exp.cli.screen import complain
from crown_exp.errors import ConfigError

if TYPE_CHECKING:
    from crown_exp.folder import AttemptRecord, Facts, JobRecord
    from crown_exp.launch.session import Session
    from crown_exp.outcome import State

ENDS = "ends by itself when it begins"


@click.command(name="cancel")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--yes", is_flag=True, help="do not ask")
@click.option(
    "--forget", is_flag=True, help="give up jobs whose server is no more, or does not answer"
)
def command(runs: tuple[str, ...], yes: bool, forget: bool) -> int:
    """End runs that are queued or running, here or elsewhere, after asking.

    RUN is an id or its beginning, whole or after the dash, or latest, or where its folder is. A run is saved
    before it ends, if its executor leaves it the time, and crown-exp resume goes on with it. Of one that is
    over nothing is changed; typed again, it does no harm. A job can be ended only at the server that was asked
    for it; where that is no more, end its machine yourself, and note it with --forget.
    """
    from pathlib import Path

    from crown_exp.config.project import find_project
    from crown_exp.launch.recorded import found
    from crown_exp.launch.session import open_session

    with open_session(find_project(Path.cwd()), run=one_store(runs)) as session:
        ids = dict.fromkeys(found(session, run) for run in runs)
        going = [one for run in ids if (one := looked_at(session, run)).goes_on]
        if going and not yes:
            words = ["--yes", *(["--forget"] if forget else []), *ids]
            confirm([one.told for one in going], words)
        told = Ends()
        for one in going:
            if not end(session, one, told, forget=forget):
                told.lost.append(one.run)
        for run in ids:
            click.echo(afterwards(session, run, told))
    click.echo(f"next: crown-exp show {next(iter(ids))}")
    return 1 if told.lost else 0


def one_store(runs: Sequence[str]) -> str:
    """A run that tells in which store all of them are; "" for the project's. Raises ConfigError for several."""
    from crown_exp.launch.address import address

    stores = {address(run).store: run for run in runs}
    if len(stores) > 1:
        raise ConfigError.of("cancel", "runs of one store at a time; type it again for the others")
    ((store, run),) = stores.items()
    return run if store is not None else ""


@dataclass(frozen=True)
class Going:
    """What goes on of a run: jobs that are not over, and a process that belongs to none of them.

    here: whether that process is one of this machine's. state: as its records say.
    """

    run: str
    state: str
    jobs: tuple[JobRecord, ...] = ()
    process: AttemptRecord | None = None
    here: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether there is anything to end."""
        return bool(self.jobs) or self.process is not None

    @property
    def told(self) -> str:
        """The run, and where it is."""
        where = [f"job {job.told} on {job.target or job.executor}" for job in self.jobs]
        if self.process is not None:
            where.append(f"pid {self.process.pid} on {self.process.host}")
        return f"{self.run} ({self.state}; {', '.join(where)})"


@dataclass
class Ends:
    """Runs of whose end there is more to tell than how they stand now.

    lost: could not be ended from here. coming: a job of it may come yet, which will end by itself. given_up:
    a job of it was, and its machine was not asked to end.
    """

    lost: list[str] = field(default_factory=list)
    coming: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)


def looked_at(session: Session, run: str) -> Going:
    """What goes on of a run, by its records."""
    from crown_exp.folder import Held, judge, state
    from crown_exp.folder.fence import is_dead
    from crown_exp.outcome import FINAL, State
    from crown_exp.storage.machine import boot_id, here
    from crown_exp.storage.runs import read_facts

    facts = session.portal.call(read_facts, session.blobs, run)
    now = session.portal.call(session.blobs.now)
    found = state(facts, now)
    newest = facts.newest_attempt
    ended = newest is not None and any(end.attempt == newest.attempt for end in facts.ends)
    holder = None
    if newest is not None and not ended and facts.result is None:
        held = judge(newest, None, facts.last_beat, now, here())
        lives_here = newest.boot_id == boot_id() is not None and not is_dead(newest, here())
        holder = newest if isinstance(held, Held) or lives_here else None
    stopped = ended and found in (State.CAPPED, State.STOPPED)
    jobs = () if found in FINAL or stopped else waiting(facts, found)
    if holder is not None and any(job.job == holder.job for job in facts.jobs):
        holder = None  # its executor ends it
    is_here = holder is not None and holder.boot_id == boot_id() is not None
    return Going(run, str(found), jobs, holder, is_here)


def waiting(facts: Facts, found: State) -> tuple[JobRecord, ...]:
    """The jobs that may still do something: the newest, and that of the newest attempt.

    One that was cancelled before its executor listed it may have begun all the same: its attempt is there.
    """
    from crown_exp.outcome import State

    newest = facts.newest_attempt
    last = max((job.number for job in facts.jobs), default=0)

    def may(job: JobRecord) -> bool:
        began = newest is not None and job.job == newest.job
        if job.cancelled:
            return began and job.handle is None and found is State.RUNNING
        return began or job.number == last

    return tuple(filter(may, sorted(facts.jobs, key=lambda it: it.number)))


def confirm(told: Sequence[str], words: Sequence[str]) -> None:
    """Ask. Raises ConfigError if nobody can be asked, Abort (as Ctrl-C does) for a no.

    words: what to type after `cancel` to not be asked.
    """
    again = f"crown-exp cancel {' '.join(words)}"
    if not sys.stdin.isatty():
        what = "asks before it ends runs, and nobody is there to answer; nothing was ended"
        raise ConfigError.of("cancel", f"{what}. Type: {again}")
    for line in told:
        click.echo(line, err=True)
    many = "this run" if len(told) == 1 else f"these {len(told)} runs"
    if not click.confirm(f"end {many}?", err=True):
        click.echo("nothing was ended")
        raise click.exceptions.Exit(1)


def end(session: Session, going: Going, told: Ends, *, forget: bool = False) -> bool:
    """End what goes on of a run; False, and a line, if it cannot be ended from here.

    told: gets the run if a job of it may come yet, or was given up. forget: as in `cancel_jobs`.
    """
    from crown_exp.launch.remote.cancelling import cancel_jobs
    from crown_exp.launch.remote.servers import AnotherServer, StillRuns
    from crown_exp.storage.machine import alive

    try:
        done = cancel_jobs(session, going.jobs, forget=forget)
    except (AnotherServer, StillRuns) as error:
        complain(str(error))
        return False
    if done.coming:
        told.coming.append(going.run)
    if done.given_up:
        told.given_up.append(going.run)
    process = going.process
    if process is None:
        return True
    if not going.here:
        what = f"runs on {process.host} (pid {process.pid}), in no job; end it there"
        complain(f"{going.run} {what}")
        return False
    if alive(process.pid, process.process_started):
        try:
            os.kill(process.pid, signal.SIGINT)  # stopped by a person, not called again
        except ProcessLookupError:
            pass  # it has ended since
        except PermissionError:
            complain(f"{going.run}: pid {process.pid} is another user's; it was not ended")
            return False
    return True


def afterwards(session: Session, run: str, told: Ends) -> str:
    """How a run stands now."""
    going = looked_at(session, run)
    if run in told.given_up:
        return f"{run} is {going.state}, given up: its machine was not asked to end"
    if going.state == "running" and run not in told.lost:
        return f"{run} was told to end; it is saved first"
    yet = f"\n  its job was not found; should it come yet, it {ENDS}" if run in told.coming else ""
    return f"{run} is {going.state}{yet}"
