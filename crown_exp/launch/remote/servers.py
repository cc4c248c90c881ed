"""Whether a job can be asked after from here: where it was asked for, and where its executor asks now.

Of a job that another server carries out this one knows nothing, which says nothing of the job: nobody takes
it for over then, and no other is asked for in its place, unless its run's own records say that it is.
"""

from __future__ import annotations

from crown_exp.errors import CrownError
from crown_exp.folder import JobRecord
from crown_exp.folder.records import Server
from crown_exp.launch.remote.executors import Executors

ENDPOINT = "SKYPILOT_API_SERVER_ENDPOINT"


class AnotherServer(CrownError):
    """A job is at another server than the one that is asked here: nothing was done about it."""

    exit_code = 2


def unknown_here(executors: Executors, job: JobRecord) -> str:
    """Why a job cannot be asked after from here, and what to type, in a line; "" if it can.

    Raises ExecutorError if its executor cannot tell who its server is.
    """
    if job.server is None or job.executor not in executors:
        return ""
    ours = executors.server(job.executor)
    if ours is None or ours["id"] == job.server["id"]:
        return ""
    return f"job {job.told} on {job.target or job.executor} {between(job.server, ours)}"


def between(theirs: Server, ours: Server) -> str:
    """What keeps a job at their server from being asked after at ours, and the way out."""
    if theirs["place"] == ours["place"]:
        what = f"was asked for at {theirs['place']}, which has another server or a new state since"
        lost = "bring the old one back, or, if it is lost, end the job's machine by hand and type"
        return f"{what}: whether it lives is not known here; {lost}: crown-exp cancel --forget RUN"
    what = f"was asked for at {theirs['place']}, and this is {ours['place']}"
    there = theirs["place"]
    way = (
        f"set {ENDPOINT}={there}" if there.startswith(("http://", "https://")) else "type it there"
    )
    return f"{what}: whether it lives is not known here; {way}"
