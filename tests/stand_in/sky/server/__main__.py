"""The stand-in's server: `python -m sky.server` leaves one behind, with all it knows in $SKY_STAND_IN.

It can be killed at any time: what it knew is in `jobs.json`, a job's exit code in its node's folder, and
the next client starts another. Without a job or a request it ends after $SKY_STAND_IN_IDLE seconds (60).
"""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from ..clusters import Cluster, note_way  # noqa: TID252 - the package has two names
from ..edge import folder, write  # noqa: TID252
from ..jobs import FINAL  # noqa: TID252
from ..machines import Machine  # noqa: TID252

DELAYS = {
    "launch": 3.0,  # jobs.launch -> job id: 3-14 s
    "starting": 10.0,  # the job's id -> STARTING: 8-13 s
    "begins": 35.0,  # STARTING -> process started: 28-36 s
    "given_up": 120.0,  # on Slurm where all machines are taken: its provision_timeout, then PENDING
    "again": 60.0,  # PENDING -> STARTING again, or RECOVERING
    "running": 13.0,  # process started -> RUNNING
    "noticed": 25.0,  # preemption or exit -> RECOVERING, or the final state: 17-63 s
    "recovers": 6.0,  # RECOVERING -> process started again: sooner than the 27-38 s seen, so that two overlap
    "killed": 30.0,  # SIGTERM -> SIGKILL, of a machine that is taken or given back
    "cancelling": 28.0,  # cancel -> CANCELLING
    "told": 2.0,  # CANCELLING -> SIGTERM
    "cancelled": 5.0,  # SIGTERM -> CANCELLED: 25 s before the process is gone
}
"""Seconds as seen; times $SKY_STAND_IN_SCALE. `edge.delay` puts others in their place."""

KNOWN = (
    "job_id", "job_name", "status", "recovery_count", "start_at", "failure_reason", "details",
)  # fmt: skip
QUEUED = "Job submitted to queue"
CANCELLING = "Cancellation requested by user root (request ID: {})"
RECOVERING = "Recovering: Cluster preempted or failed, recovering"
RESTARTING = (
    "Recovering: Job exited with exit code {0}. Restarting the job (exit code(s) [{0}] matched "
    "recover_on_exit_codes {1}). To see the job error output, run: sky jobs logs --controller {2}"
)
FAILED = "{} (user program failure). To see the details, run: sky jobs logs --controller {}"
EXITED = "Job exited with exit code {}"
SETUP_FAILED = "Job failed (FAILED_SETUP)"


class Server:
    def __init__(self, where: Path) -> None:
        self.where = where
        self.scale = float(os.environ.get("SKY_STAND_IN_SCALE", "0.01"))
        self.jobs: list[dict[str, Any]] = self.told("jobs") or []
        # and the number of the newest job of each
        self.clusters: dict[str, int] = self.told("clusters") or {}
        self.later: dict[str, float] = {}  # launches that are on their way
        self.busy = time.time()

    def serve(self) -> None:
        idle = float(os.environ.get("SKY_STAND_IN_IDLE", "60"))
        while True:
            self.tick()  # first: the machine may have stood still, and a request be there
            if time.time() - self.busy >= idle:
                return
            time.sleep(0.01)

    def tick(self) -> None:
        for path in sorted((self.where / "requests").glob("*.json")):
            self.busy = time.time()
            asked = {**json.loads(path.read_text()), "request": path.stem}
            if asked["do"] in ("launch", "up") and not self.arrived(path.stem):
                continue
            try:
                answer = {"result": getattr(self, f"do_{asked['do']}")(asked)}
            except Refused as error:
                told = {"type": error.type, "text": str(error), "more": error.more}
                answer = {"error": told}
            self.save()
            write(self.where / "answers" / path.name, {"do": asked["do"], **answer})
            path.unlink()
        before = json.dumps(self.jobs)
        for job in self.jobs:
            if job["status"] not in FINAL or job["doomed"]:
                self.busy = time.time()
                self.step(job)
        if json.dumps(self.jobs) != before:
            self.save()
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pass

    def save(self) -> None:
        write(self.where / "jobs.json", self.jobs)

    def told(self, name: str) -> Any:
        """What a file of that name says; None if there is none."""
        path = self.where / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def after(self, what: str) -> float:
        return time.time() + float({**DELAYS, **(self.told("delays") or {})}[what]) * self.scale

    def arrived(self, request: str) -> bool:
        return time.time() >= self.later.setdefault(request, self.after("launch"))

    def refuse(self) -> None:
        if (told := self.told("refuse")) and told["type"]:
            raise Refused(told["type"], told["text"])

    def reach(self, start: bool) -> None:
        """The controller, where one is not up only if it may be started."""
        status = self.told("controller")
        if status and not start:
            raise Refused("ClusterNotUpError", "No in-progress managed jobs.", status)
        write(self.where / "controller.json", "")

    def do_launch(self, asked: dict[str, Any]) -> list[int]:
        self.refuse()
        self.reach(start=True)
        number = len(self.jobs) + 1
        job = {
            "job_id": number,
            "job_name": asked["name"],
            "status": "PENDING",
            "recovery_count": 0,
            "start_at": None,
            "failure_reason": None,
            "details": QUEUED,
            "asked": asked,
            "attempt": 0,
            "at": self.after("starting"),  # when the next thing happens
            "next": "starting",
            "doomed": [],  # machines that will be killed: [folder, when]
        }
        self.jobs.append(job)
        return [number]

    def do_queue(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        self.reach(start=asked["refresh"])
        found = [
            job
            for job in self.jobs
            if (asked["job_ids"] is None or job["job_id"] in asked["job_ids"])
            and not (asked["skip_finished"] and job["status"] in FINAL)
            and (asked["name_match"] or "") in job["job_name"]
        ]
        return [
            {name: job[name] if name in asked["fields"] else None for name in KNOWN}
            for job in found
        ]

    def do_cancel(self, asked: dict[str, Any]) -> None:
        self.reach(start=False)
        for job in self.named(asked):
            if job["next"] not in ("cancelling", "told", "cancelled"):
                job["next"], job["at"] = "cancelling", self.after("cancelling")
                job["cancel"] = asked["request"]

    def do_preempt(self, asked: dict[str, Any]) -> int:
        """Its home is gone at once; its processes are told, and live on for a while."""
        taken = [job for job in self.named(asked) if job["next"] in ("running", "ends")]
        for job in taken:
            self.release(job)
            job["next"], job["at"] = "noticed", self.after("noticed")
        return len(taken)

    def do_up(self, asked: dict[str, Any]) -> list[int]:
        self.refuse()
        number = self.clusters.get(asked["name"], 0) + 1
        self.clusters[asked["name"]] = number
        write(self.where / "clusters.json", self.clusters)
        write(
            self.where / f"up/{asked['name']}.json", {k: v for k, v in asked.items() if k != "env"}
        )
        Cluster(self.where, asked["name"], number).launch(asked)
        note_way(asked["name"])
        return [number]

    def do_status(self, asked: dict[str, Any]) -> list[Any]:
        named = asked["names"]
        return [{"name": name} for name in self.clusters if named is None or name in named]

    def cluster(self, asked: dict[str, Any]) -> Cluster:
        if asked["name"] not in self.clusters:
            raise Refused("ClusterDoesNotExist", f"Cluster {asked['name']!r} does not exist.")
        return Cluster(self.where, asked["name"], self.clusters[asked["name"]])

    def do_job_status(self, asked: dict[str, Any]) -> dict[str, str]:
        """Of its newest job alone: earlier ones were over when it was asked for."""
        cluster = self.cluster(asked)
        newest = cluster.attempt
        return {str(newest): cluster.word()} if newest in (asked["numbers"] or [newest]) else {}

    def do_down(self, asked: dict[str, Any]) -> None:
        self.cluster(asked).down()
        del self.clusters[asked["name"]]
        write(self.where / "clusters.json", self.clusters)

    def named(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            job
            for job in self.jobs
            if job["status"] not in FINAL
            and (job["job_id"] in (asked.get("job_ids") or ()) or job["job_name"] == asked["name"])
        ]

    def machine(self, job: dict[str, Any]) -> Machine:
        return Machine(self.where, job["job_id"], job["attempt"])

    def release(self, job: dict[str, Any]) -> None:
        machine = self.machine(job)
        machine.tell()
        job["doomed"].append([job["attempt"], self.after("killed")])

    def step(self, job: dict[str, Any]) -> None:
        """What time brings."""
        for attempt, when in list(job["doomed"]):
            if time.time() >= when:
                Machine(self.where, job["job_id"], attempt).kill()
                job["doomed"].remove([attempt, when])
        if job["next"] == "ends" and self.machine(job).code() is not None:
            job["next"], job["at"] = "noticed", self.after("noticed")
        elif job["next"] in ("running", "ends") and self.machine(job).is_gone():
            self.release(job)
            job["next"], job["at"] = "noticed", self.after("noticed")
        if job["next"] and job["next"] != "ends" and time.time() >= job["at"]:
            getattr(self, f"on_{job['next']}")(job)

    def then(self, job: dict[str, Any], what: str, status: str = "") -> None:
        job["status"] = status or job["status"]
        job["next"], job["at"] = what, self.after(what) if what in DELAYS else 0.0

    def end(self, job: dict[str, Any], status: str, reason: str | None = None) -> None:
        job["status"], job["next"], job["failure_reason"] = status, "", reason
        job["asked"]["env"] = {}

    def on_starting(self, job: dict[str, Any]) -> None:
        job["details"] = "Launching"
        self.then(job, "begins", "STARTING")

    def on_begins(self, job: dict[str, Any]) -> None:
        if self.told("crowd"):
            self.then(job, "given_up")
            return
        gone = self.told("sold_out") or []
        wanted = [fields.get("accelerators") for fields in job["asked"]["resources"]]
        if wanted and all(one in gone for one in wanted):
            self.end(job, "FAILED_NO_RESOURCE", f"No resource is available: {wanted}")
            return
        job["attempt"] += 1
        self.machine(job).start(job["asked"], job["job_name"])
        self.then(job, "running")

    on_recovers = on_begins

    def on_given_up(self, job: dict[str, Any]) -> None:
        job["details"] = "Job is in backoff"
        self.then(job, "again", "PENDING")

    def on_again(self, job: dict[str, Any]) -> None:
        begun = job["attempt"] > 0
        self.then(job, "recovers" if begun else "begins", "RECOVERING" if begun else "STARTING")

    def on_running(self, job: dict[str, Any]) -> None:
        """Seen: a recovery is counted when it has come to this."""
        if job["status"] == "RECOVERING":
            job["recovery_count"] += 1
        job["start_at"] = job["start_at"] or time.time()
        job["details"] = None
        self.then(job, "ends", "RUNNING")

    def on_noticed(self, job: dict[str, Any]) -> None:
        """That the machine was taken, or the process has ended: what its exit code says is done."""
        machine = self.machine(job)
        code, taken = machine.code(), machine.is_told()
        recovery = next(iter(job["asked"]["resources"] or [{}])).get("job_recovery") or {}
        codes = recovery.get("recover_on_exit_codes") if isinstance(recovery, dict) else None
        codes = codes if isinstance(codes, list) else [codes]
        if taken or code in codes:
            restarting = RESTARTING.format(code, codes, job["job_id"])
            job["details"] = RECOVERING if taken else restarting
            self.then(job, "recovers", "RECOVERING")
        elif machine.setup_failed():
            self.end(job, "FAILED_SETUP", FAILED.format(SETUP_FAILED, job["job_id"]))
        elif code == 0:
            self.end(job, "SUCCEEDED")
        else:
            self.end(job, "FAILED", FAILED.format(EXITED.format(code), job["job_id"]))

    def on_cancelling(self, job: dict[str, Any]) -> None:
        job["details"] = CANCELLING.format(job["cancel"])
        self.then(job, "told", "CANCELLING")

    def on_told(self, job: dict[str, Any]) -> None:
        if job["attempt"] and not self.machine(job).is_told():
            self.release(job)
        self.then(job, "cancelled")

    def on_cancelled(self, job: dict[str, Any]) -> None:
        self.end(job, "CANCELLED")


class Refused(Exception):
    def __init__(self, type_: str, text: str, *more: Any) -> None:
        super().__init__(text)
        self.type, self.more = type_, more


def main() -> None:
    """Forget all requests, as SkyPilot's server does when it starts, and leave a process that serves."""
    where = folder()
    lock = os.open(where / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # another was quicker
    for kind in ("requests", "answers"):
        for path in (where / kind).glob("*.json"):
            path.unlink()
    # of a database; seconds would be the same for two of a test
    if not (where / "begun.json").exists():
        write(where / "begun.json", time.time())  # whole seconds there; no two here may be equal
    if pid := os.fork():
        (where / "server.pid").write_text(str(pid))  # before anybody goes on: `edge.stop` reads it
        os._exit(0)
    os.setsid()
    Server(where).serve()
    (where / "server.pid").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
