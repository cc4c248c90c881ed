"""`crown-exp run <run>`: carry out a recorded run in this process. Executors call it with a fixed argv."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crown_exp.cli.screen import complain
from crown_exp.outcome import ExitCode

if TYPE_CHECKING:
    from crown_exp.config.project import Project
    from crown_exp.folder import JobRecord
    from crown_exp.storage import BlobStore, Portal

MOST_TRIES = 5
"""So often in a row a job may find its store out of reach."""


@click.command(name="run")
@click.argument("run", metavar="RUN")
@click.option("--take-over", is_flag=True, help="end the turn of an attempt that still lives")
def command(run: str, take_over: bool) -> int:
    """Carry out a recorded run, in the current directory's project; from where it was saved last, if it was.

    RUN is an id or its beginning, looked up in the project's store, or <store>/runs/<id>. Executors call this
    again and again, so three ends in a row that leave no step more saved end the run for good; crown-exp
    resume, which a person types, does not count. What a job's record is to change of the config, it changes;
    one that says that the job was cancelled ends it before anything begins.
    """
    from crown_exp.config.project import find_project
    from crown_exp.config.settings import database_of, executor_job, home_of, store_access
    from crown_exp.launch.address import address
    from crown_exp.registry import default_url
    from crown_exp.runner import run_attempt
    from crown_exp.storage import Portal, open_blobs
    from crown_exp.storage.runs import find_run

    project, job = find_project(Path.cwd()), executor_job()
    asked = address(run)
    root = project.root if project else Path.cwd()
    blobs = open_blobs(asked.store or project_store(project), store_access(project))
    home = home_of(project)
    count = home / "lost" / job.replace("/", "_") if job else None
    with giving_up(count), Portal() as portal:
        run_id = asked.run if asked.store else portal.call(find_run, blobs, asked.run)
        own = own_job(portal, blobs, run_id, job)
        if own is not None and own.cancelled:
            complain(f"{run_id}: nothing was begun: job {own.job} was given up ({own.reason})")
            return int(ExitCode.INTERRUPTED)  # no executor starts a job again that ends so
        portal.call(blobs.prepare)
        ending = run_attempt(
            portal,
            blobs,
            run_id,
            home=home,
            database=database_of(project) or default_url(home),
            root=root,
            job=job,
            changes=(own and own.changes) or {},
            take_over=take_over,
            counting=True,
            elsewhere=asked.store is not None,
        )
    return ending.exit_code


@contextmanager
def giving_up(count: Path | None) -> Iterator[None]:
    """Inside, a store that cannot be reached before an attempt begins ends the job for good after some tries.

    Executors start a job again that ends with 80, for ever, and machines are paid meanwhile; once an attempt
    has begun, its records are counted. count: a file here with a job's tries in a row; None: there is no job.
    """
    from crown_exp.errors import CrownError, StoreError

    try:
        yield
    except StoreError as error:
        if count is None:
            raise
        tries = 1 + (int(count.read_text()) if count.exists() else 0)
        count.parent.mkdir(parents=True, exist_ok=True)
        count.write_text(str(tries))
        if tries < MOST_TRIES:
            raise
        raise CrownError(f"{error}; that was so {tries} times in a row, so the job ends") from error
    else:
        if count is not None:
            count.unlink(missing_ok=True)


def own_job(portal: Portal, blobs: BlobStore, run_id: str, job: str | None) -> JobRecord | None:
    """The record of the job that we are; None if we are none, or it is not ours."""
    from crown_exp.storage.runs import read_jobs

    records = portal.call(read_jobs, blobs, run_id) if job is not None else ()
    return next((record for record in records if record.job == job), None)


def project_store(project: Project | None) -> str:
    """The store of the settings. Imports what checks them, which an executor's argv has no need of."""
    from crown_exp.config.settings import load_settings

    return load_settings(project).storage.root
