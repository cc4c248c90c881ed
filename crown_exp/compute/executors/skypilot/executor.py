"""Jobs on SkyPilot: managed jobs, which go on after a preemption, or plain clusters on request."""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from crown_exp.compute.base import (
    OVER,
    Candidate,
    Executor,
    ExecutorError,
    Job,
    JobState,
    JobStatus,
    Listed,
    NotSubmitted,
    Target,
    Terminal,
)
from crown_exp.compute.executors.skypilot import resources, states, terminal
from crown_exp.compute.executors.skypilot.child import Child, DoorError, NotStarted
from crown_exp.compute.executors.skypilot.setup import setup
from crown_exp.compute.money import in_dollars
from crown_exp.errors import Problem
from crown_exp.folder.records import Server

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# before each line that a job, or the setting up of its machine, has printed
_SOURCE = re.compile(r"^\([^()]*\bpid=\d+[^()]*\) ?")
_SUBMIT_SECONDS = 900.0  # the bundle is uploaded while SkyPilot takes the request
_LOOK_SECONDS = 1.0  # between two looks at what prepares a machine
_HANDLE_SECONDS = (
    3600.0  # seen: 10 s to 500 s for a managed job, more where a controller is to be started
)
RENEW = "if that file is broken, delete it and, with network, type: sky gpus list"


class SkyPilotExecutor(Executor):
    """Submits, polls and cancels jobs through SkyPilot, which lives in a process of its own.

    A job's handle is `job/<name>/<number>`, or `cluster/<name>/<number>` on a plain cluster, which bears the
    job's name: two servers may have a job of one number, and each knows its own alone. A name that a job has
    or had is refused; two that submit at the same time are not told apart.
    """

    name = "skypilot"

    def __init__(self, child: Child | None = None) -> None:
        self._child = child or Child()

    def problems(self, target: Target) -> Sequence[Problem]:
        """No SkyPilot, no cloud, no such accelerator, nothing at that price. Asks nothing of the network."""
        try:
            enabled = self._enabled()
        except (DoorError, NotStarted) as error:
            return [Problem("compute", str(error))]
        found = list(_impossible(target)) + list(_not_enabled(target, enabled))
        if resources.clouds(target, enabled) and not found:
            found = list(self._not_sold(target, enabled))
        return found or list(self._nothing_to_be_had(target))

    def _not_sold(self, target: Target, enabled: Sequence[str]) -> Sequence[Problem]:
        """Accelerators that no catalogue has; the catalogues that may have them and cannot be read."""
        # of all catalogues: what another cloud sells is no misspelling
        priced = {cloud for cloud in enabled if cloud not in resources.OWN}
        told = self._child.ask("accelerators", clouds=sorted(priced | self._catalogued()))
        clouds = resources.clouds(target, enabled)
        unread = {cloud: why for cloud, why in told["unread"].items() if cloud in clouds}
        if len(unread) == len(clouds):
            return _unread(unread)
        unknown = resources.unknown_accelerators(target, told["names"])
        return [*unknown, *_unread(unread)] if unknown else []

    def _nothing_to_be_had(self, target: Target) -> Sequence[Problem]:
        found, unread = self._looked_for(target)
        if found:
            return []
        limit = target.max_usd_per_hour
        dearer = self.candidates(_without_limit(target)) if limit is not None else ()
        prices = [c.usd_per_hour for c in dearer if c.usd_per_hour is not None]
        if limit is not None and prices:
            what = f"no machine is sold for {in_dollars(limit)}/h or less"
            what += f"; the cheapest is {in_dollars(min(prices))}/h"
            enough = math.ceil(min(prices) * 100) / 100
            more = f"type compute.max_usd_per_hour={enough:.2f} or more"
            return [Problem("compute.max_usd_per_hour", f"{what}; {more}")]
        where = ", ".join(target.infra) or "the clouds that are enabled"
        kind = "spot machine" if target.spot else "machine"
        wish = " or ".join(target.accelerators) or "these cpus and this memory"
        what = f"no {kind} with {wish} is sold in {where}"
        return [
            Problem("compute", f"{what}; ask for less, or allow more in compute.infra"),
            *_unread(unread),
        ]

    def candidates(self, target: Target) -> Sequence[Candidate]:
        """The machines that the target may be given, with SkyPilot's catalogue's prices.

        Where no cloud is enabled, what those would sell whose catalogues are here: a plan can be made of it.
        """
        return self._looked_for(target)[0]

    def _looked_for(self, target: Target) -> tuple[list[Candidate], dict[str, str]]:
        """The machines, and the clouds that could not say what they sell, with why."""
        enabled = self._enabled()
        clouds = resources.clouds(target, enabled or self._catalogued())
        sold: dict[str, Any] = {}
        unread: dict[str, str] = {}
        for accelerators in target.accelerators or ("",):
            if clouds:
                fields = resources.offer_fields(target, accelerators)
                told = self._offers(fields, clouds, target.nodes)
                sold[accelerators] = told["sold"]
                unread |= told["unread"]
        return resources.candidates(target, sold, enabled), unread

    def _offers(self, fields: Mapping[str, Any], clouds: Sequence[str], nodes: int) -> Any:
        return self._child.ask("offers", resources=fields, clouds=clouds, nodes=nodes)

    def controller(self) -> Candidate | None:
        """The cheapest machine that SkyPilot would start to watch over managed jobs; None if it needs none."""
        fields = self._child.ask("controller")
        if fields is None:
            return None
        watcher = Target(name="controller")
        enabled = self._enabled()
        clouds = resources.clouds(watcher, enabled)
        offers = {"": self._offers(fields, clouds, 1)["sold"]}
        return next(iter(resources.candidates(watcher, offers, enabled)), None)

    def server(self) -> Server | None:
        """The API server that answers: with a new database it is another, by another address it is not.

        None where it does not tell its users, as of them one is as old as its database.
        """
        told = self._child.ask("server")
        return Server(id=str(told["id"]), place=str(told["place"])) if told else None

    def submit(self, job: Job) -> str:
        """Ask for the job; SkyPilot's id of that request, at once."""
        target = self._narrowed(job.target)
        try:
            ticket = self._child.ask(
                "submit", _SUBMIT_SECONDS, task=task(job), resources=resources.resources(target),
                managed=target.managed, idle_minutes=target.autostop_minutes,
            )  # fmt: skip
        except DoorError as error:
            raise _refused(error) from None
        return str(ticket)

    def _narrowed(self, target: Target) -> Target:
        if not target.avoid:
            return target
        target = resources.narrowed(target, self.candidates(target))
        if not target.infra:
            raise NotSubmitted("compute.avoid leaves no place that is enabled; allow one")
        return target

    def handle(self, ticket: str) -> str:
        """Wait for the answer to a request, an hour at most: the job's handle.

        SkyPilot's server forgets its requests whenever it is started; then it is the job of the request's name.
        """
        try:
            return str(self._child.ask("handle", _HANDLE_SECONDS, ticket=ticket))
        except DoorError as error:
            raise _refused(error) from None

    def poll(self, handles: Collection[str]) -> Mapping[str, JobStatus]:
        """What became of jobs: one request for all managed ones, and one for each plain cluster.

        GONE is also one that was over when SkyPilot's controller stopped itself: nothing starts it to ask it.
        """
        if not handles:
            return {}
        known = self._child.ask("poll", handles=sorted(handles))
        return {
            handle: states.status(known[handle]) if handle in known else JobStatus(JobState.GONE)
            for handle in handles
        }

    def jobs(self) -> Sequence[Listed]:
        """All jobs that are not over, of all users of this SkyPilot server."""
        found = [
            Listed(record["job_name"], record["handle"], states.status(record))
            for record in self._child.ask("jobs")
        ]
        return [one for one in found if one.status.state not in OVER]

    def cancel(self, handles: Collection[str]) -> None:
        """Ask for the end of jobs; a plain cluster is taken down with its job."""
        if handles:
            self._child.ask("cancel", handles=sorted(handles))

    def log(self, handle: str, lines: int = 40) -> str:
        """The last lines that the job, or the setting up of its machine, has printed.

        SkyPilot's own lines around them are left out, but where there are no others.
        """
        told = _COLOUR.sub("", str(self._child.ask("log", handle=handle, lines=lines))).splitlines()
        own = [_SOURCE.sub("", line) for line in told if _SOURCE.match(line)]
        return "\n".join((own or told)[-lines:])

    def interactive(self, job: Job, *, tty: bool) -> Terminal:
        """A plain cluster of the job's name, that ends itself when nobody is on it, and ssh to it."""
        target = self._narrowed(dataclasses.replace(job.target, managed=False))
        keeps = dataclasses.replace(job, target=target, argv=terminal.keeping(job))
        was_there = self._is_there(job.name)
        try:
            self._prepared(keeps, resources.resources(target))
        except NotSubmitted:
            if not was_there:
                self.release(job.name)
            raise
        noted, home = self._way(job.name)
        argv = terminal.ssh(job.name, noted, home, terminal.arrival(job), tty=tty)
        return Terminal(argv, idle_minutes=target.autostop_minutes)

    def _prepared(self, job: Job, choices: Sequence[Mapping[str, Any]]) -> None:
        """Have a cluster carry out a job; wait until it has. Raises NotSubmitted, with its log's last lines."""
        try:
            ticket = self._child.ask(
                "submit", _SUBMIT_SECONDS, task=task(job), resources=choices,
                managed=False, idle_minutes=job.target.autostop_minutes, again=True,
            )  # fmt: skip
            handle = str(self._child.ask("handle", _HANDLE_SECONDS, ticket=ticket, kept=True))
        except DoorError as error:
            raise _refused(error) from None
        until = time.monotonic() + job.target.start_deadline
        while (status := self.poll([handle])[handle]).state not in OVER:
            if time.monotonic() > until:
                within = f"compute.start_deadline ({job.target.start_deadline:.0f} s)"
                raise NotSubmitted(f"{job.name}: not ready within {within}: {status.reason}")
            time.sleep(_LOOK_SECONDS)
        if status.state is not JobState.SUCCEEDED:
            reason = status.reason or f"what prepares it ended as {status.state}"
            raise NotSubmitted(f"{job.name}: {reason}\n{self.log(handle, 20)}".rstrip())

    def _way(self, cluster: str) -> tuple[str, str]:
        try:
            noted, home = self._child.ask("way", cluster=cluster)
        except DoorError as error:
            if error.type != "FileNotFoundError":
                raise
            what = f"SkyPilot has not noted the way to {cluster}, which is up"
            raise ExecutorError(f"{what}; type: sky status {cluster}, and this again") from None
        return noted, home

    def _is_there(self, cluster: str) -> bool:
        return bool(self._child.ask("clusters", names=[cluster]))

    def release(self, name: str) -> bool:
        """Take the cluster down."""
        there = self._is_there(name)
        if there:
            self._child.ask("end_cluster", _SUBMIT_SECONDS, cluster=name)
        return there

    def close(self) -> None:
        """End the process with SkyPilot in it. The jobs go on."""
        self._child.close()

    def _catalogued(self) -> set[str]:
        return {str(cloud) for cloud in self._child.ask("catalogued")}

    def _enabled(self) -> list[str]:
        return [str(cloud) for cloud in self._child.ask("enabled")]


def make_executor(python: Path | None = None, home: Path | None = None) -> SkyPilotExecutor:
    """An executor whose SkyPilot is that of `python` (None: ours), with its state in `home` (None: $HOME)."""
    return SkyPilotExecutor(Child(str(python or sys.executable), home))


def task(job: Job) -> dict[str, Any]:
    """Arguments of sky.Task for a job. SkyPilot wants shell texts: an argv is quoted, word by word."""
    argv = list(job.argv)
    if job.bundle is None and job.directory is not None:
        argv = ["env", "-C", str(job.directory), *argv]
    return {
        "name": job.name,
        "run": shlex.join(argv),
        "setup": setup(job.target, job.setup),
        "envs": {**job.target.env, **job.env, "CROWN_JOB": job.name},
        "secrets": dict(job.secrets),
        "workdir": str(job.bundle) if job.bundle is not None else None,
        "num_nodes": job.target.nodes,
    }


def _unread(unread: Mapping[str, str]) -> Sequence[Problem]:
    """One line for all clouds whose catalogue is not here, and one for each that has another trouble."""
    missing = sorted(cloud for cloud, why in unread.items() if not why)
    found = [
        Problem("compute", f"SkyPilot cannot tell what {cloud} sells ({why}); {RENEW}")
        for cloud, why in sorted(unread.items())
        if why
    ]
    if missing:
        what = f"SkyPilot has no prices of {', '.join(missing)} here yet"
        found.append(Problem("compute", f"{what}; with network, type: sky gpus list"))
    return found


def _refused(error: DoorError) -> NotSubmitted | DoorError:
    return NotSubmitted(str(error)) if error.kind == "refused" else error


def _without_limit(target: Target) -> Target:
    return dataclasses.replace(target, max_usd_per_hour=None)


def _impossible(target: Target) -> Sequence[Problem]:
    own = [infra for infra in target.infra if resources.cloud_of(infra) == "slurm"]
    if own and not target.managed:
        what = f"a plain cluster on {own[0]} cannot stop itself; leave compute.managed=true"
        return [Problem("compute.managed", what)]
    return []


def _not_enabled(target: Target, enabled: Collection[str]) -> Sequence[Problem]:
    if not enabled:
        return [Problem("compute", "no cloud is enabled for SkyPilot here; type: sky check")]
    named = dict.fromkeys(resources.cloud_of(infra) for infra in target.infra)
    if not named or any(cloud in enabled for cloud in named):
        return []
    are = f"{', '.join(named)} {'is' if len(named) == 1 else 'are'}"
    what = f"{are} not enabled for SkyPilot here (enabled: {', '.join(enabled)})"
    return [Problem("compute.infra", f"{what}; type: sky check {' '.join(named)}")]
