"""Whether a job can be asked after from here: where it was asked for, and where its executor asks now.

Of a job that another server carries out this one knows nothing, which says nothing of the job: nobody takes
it for over then, and no other is asked for in its place, unless its run's own records say that it is.
"""

from __future__ import annotations

from datetime import UTC, datetime

from crown_exp.errors import CrownError
from crown_exp.folder import Facts, Held, Here, JobRecord, holder, state
from crown_exp.folder.records import Server
from crown_exp.launch.remote.executors import Executors
from crown_exp.outcome import State

ENDPOINT = "SKYPILOT_API_SERVER_ENDPOINT"


class AnotherServer(CrownError):
    """A job is at another server than the one that is asked here: nothing was done about it."""

    exit_code = 2


class StillRuns(CrownError):
    """A job was to be given up whose attempt beats, so that its machine lives: nothing was done about it."""


def unknown_here(executors: Executors, job: JobRecord) -> str:
    """Why a job cannot be asked after from here, and what to type, in a line; "" if it can.

    Raises ExecutorError if its executor cannot tell who its server is.
    """
    if job.server is None or job.executor not in executors:
        return ""
    ours = executors.server(job.executor)
    if ours is None or ours["id"] == job.server["id"]:
        return ""
    return f"job {job.told} on {job.target or job.executor} {between(job.server, ours, job.run)}"


def between(theirs: Server, ours: Server, run: str) -> str:
    """What keeps a job of a run at their server from being asked after at ours, and the way out."""
    there = theirs["place"]
    if there == ours["place"]:
        ages = f"its database was made {made(theirs)}, the one here {made(ours)}"
        what = f"was asked for at {there}, which has another server or a new state since ({ages})"
        way = "bring the old one back"
    else:
        what = f"was asked for at {there}, and this is {ours['place']}"
        is_url = there.startswith(("http://", "https://"))
        way = f"set {ENDPOINT}={there}" if is_url else "type it there"
    lost = "or, if that server is lost, end the job's machine by hand and type"
    return f"{what}: whether it lives is not known here; {way}, {lost}: crown-exp cancel --forget {run}"


def made(server: Server) -> str:
    """What tells a server from another at the same place: when its database was made, as SkyPilot's id says."""
    try:
        return f"{datetime.fromtimestamp(float(server['id']), UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"as {server['id']}"


def holding(facts: Facts, job: JobRecord, now: datetime, here: Here) -> Held | None:
    """The attempt of a job that holds its run: it beats, by the store's clock `now`; None if none does."""
    newest = facts.newest_attempt
    if newest is None or newest.job != job.job or state(facts, now) is not State.RUNNING:
        return None
    return holder(facts, now, here)


def still_runs(job: JobRecord, held: Held) -> str:
    """Why a job is not given up, and what to do."""
    place = job.server["place"] if job.server is not None else f"the server of {job.executor}"
    what = f"it runs on {held.by.host}, last heard of {max(held.beat_age_s, 0):.0f} s ago"
    end = f"job {job.told} was asked for at {place}: end it there, or end its machine by hand first"
    return f"{job.run} was not given up: {what}; {end}"
