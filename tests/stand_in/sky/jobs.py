"""Managed jobs: each call but `tail_logs` gives a request's id at once."""

import json
import shutil
import sys
import uuid
from typing import Any

from .edge import folder, reach, send

FAILED = "failed with return code list:"
FINAL = {"SUCCEEDED", "CANCELLED", "FAILED", "FAILED_SETUP", "FAILED_NO_RESOURCE"}


def launch(task: Any, name: str | None = None, **_: Any) -> str:
    request = str(uuid.uuid4())
    return send("launch", asked_for(task, name, request), request)


def asked_for(task: Any, name: str | None, request: str) -> dict[str, Any]:
    """What a server is told of a task; its working directory is uploaded."""
    if task.workdir is not None:
        shutil.copytree(task.workdir, folder() / "uploads" / request, symlinks=True)
    resources = [one.fields for one in task.resources]
    return {
        "name": name or task.name or "sky-job",
        "run": task.run,
        "setup": task.setup,
        "env": {**task.envs, **task.secrets},
        "secrets": sorted(task.secrets),
        "nodes": task.num_nodes,
        "resources": resources,
        "upload": request if task.workdir is not None else None,
    }


def queue_v2(
    refresh: bool,
    skip_finished: bool = False,
    all_users: bool = False,
    job_ids: list[int] | None = None,
    fields: list[str] | None = None,
    name_match: str | None = None,
    **_: Any,
) -> str:
    default = ["job_id", "job_name", "status", "recovery_count"]
    value = {"fields": fields or default, "job_ids": job_ids, "skip_finished": skip_finished}
    return send("queue", {**value, "name_match": name_match, "refresh": refresh})


def cancel(name: str | None = None, job_ids: list[int] | None = None, **_: Any) -> str:
    return send("cancel", {"name": name, "job_ids": job_ids})


def tail_logs(
    name: str | None = None,
    job_id: int | None = None,
    follow: bool = False,
    tail: int | None = None,
    output_stream: Any = None,
    **_: Any,
) -> None:
    """What the job has printed so far, each line with the job's name before it, between SkyPilot's own."""
    assert not follow, "the stand-in follows nothing"
    reach()
    path = folder() / "logs" / f"{job_id}.log"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    out = output_stream or sys.stdout
    known = folder() / "jobs.json"
    jobs = json.loads(known.read_text()) if known.exists() else []
    if not lines:
        out.write(
            nothing_printed(next((it for it in jobs if it["job_id"] == job_id), None), job_id)
        )
        return
    out.write("\x1b[2m└── \x1b[0mJob started. Streaming logs... \x1b[2m(Ctrl-C to exit)\x1b[0m\n")
    for line in lines[-tail:] if tail else lines:
        out.write(colour(line, name or "task", job_id))


def nothing_printed(job: dict[str, Any] | None, number: int | None) -> str:
    """What SkyPilot says of a job that has printed nothing: one that it does not know, one that is over."""
    if job is None:
        return f"Job {number} not found.\n"
    if job["status"] not in FINAL:
        return ""
    why = f"\nFailure reason: {job['failure_reason']}" if job["failure_reason"] else ""
    more = f"For more details, run: sky jobs logs --controller {number}"
    return (
        f"\x1b[33mJob {number} is already in terminal state {job['status']}. {more}\x1b[0m{why}\n"
    )


def colour(line: str, name: str, number: int | None) -> str:
    """A line of a job as SkyPilot shows it."""
    if line.startswith(FAILED):
        return f"ERROR: \x1b[31mJob 1 {line}\x1b[0m\n"
    return f"\x1b[36m({name}, pid={number})\x1b[0m {line}\n"
