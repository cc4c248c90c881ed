"""Launches of runs elsewhere, for tests: a session with executors of the test's, and orders for them."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from crown_exp.compute.base import (
    OVER,
    Candidate,
    Executor,
    Job,
    JobState,
    JobStatus,
    Listed,
    NotSubmitted,
    Target,
)
from crown_exp.compute.target import target_of
from crown_exp.config import schema
from crown_exp.config.check import Checked
from crown_exp.config.compose import Composition
from crown_exp.config.targets import Target as Function
from crown_exp.errors import Problem
from crown_exp.folder import RunRecord
from crown_exp.folder.records import Server, SweepPlace
from crown_exp.launch.remote.base import Earlier, Planned
from crown_exp.launch.remote.executors import Executors
from crown_exp.launch.remote.submitting.jobs import Prepared
from crown_exp.launch.session import Session, open_session
from crown_exp.launch.submit import Order

COMPUTE = {"name": "a100_spot", "executor": "skypilot", "shared": True, "environment": "image"}


def order(
    task: str = "tasks.train",
    sweep: bool = True,
    compute: Mapping[str, Any] = COMPUTE,
    **config: Any,
) -> Order:
    """One run of a task, on a target elsewhere."""
    tree = schema.defaults() | {"task": {"_target_": task}} | config
    tree["compute"] = {**tree["compute"], **compute}
    composition = Composition(tree, {}, ("task=train",))
    place = SweepPlace(id="s-1", number=1, of=2) if sweep else None
    return Order(composition, Checked(Function(task, "function"), (), whole=False), (), place)


def target(of: Order) -> Target:
    """Where it is to run."""
    return target_of(of.composition.config["compute"])


@contextmanager
def session_on() -> Iterator[Session]:
    """A session in the current directory. Whether its runs may go where they are to is not asked."""
    with open_session(None) as opened:
        opened.approve = lambda orders: None  # type: ignore[method-assign]
        yield opened


@contextmanager
def session_with(executors: Mapping[str, Executor]) -> Iterator[Session]:
    """As `session_on`, with these executors."""
    with session_on() as opened:
        opened.executors = Executors(
            {name: partial(executors.__getitem__, name) for name in executors}
        )
        yield opened


@dataclass
class Told(Executor):
    """An executor whose jobs are what a test says they are.

    asked: the jobs that were submitted, in order. called: what was asked of it. refusals: by ticket or name.
    at: its server.
    """

    name: str = "skypilot"
    states: dict[str, JobState] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    asked: list[Job] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    at: Server | None = None

    def problems(self, target: Target) -> Sequence[Problem]:
        return ()

    def candidates(self, target: Target) -> Sequence[Candidate]:
        return ()

    def controller(self) -> Candidate | None:
        return None

    def server(self) -> Server | None:
        return self.at

    def submit(self, job: Job) -> str:
        self.called.append(f"submit {job.name}")
        if job.name in self.refusals:
            raise NotSubmitted(self.refusals[job.name])
        self.asked.append(job)
        return f"ticket-{job.name}"

    def handle(self, ticket: str) -> str:
        self.called.append(f"handle {ticket}")
        if ticket in self.refusals:
            raise NotSubmitted(self.refusals[ticket])
        return self.add(ticket.removeprefix("ticket-"))

    def add(self, name: str, state: JobState = JobState.STARTING) -> str:
        """There is a job of this name; its handle."""
        handle = str(len(self.names) + 1)
        self.names[handle], self.states[handle] = name, state
        return handle

    def poll(self, handles: Collection[str]) -> Mapping[str, JobStatus]:
        self.called.append(f"poll {' '.join(sorted(handles))}")
        return {it: JobStatus(self.states.get(it, JobState.GONE)) for it in handles}

    def jobs(self) -> Sequence[Listed]:
        self.called.append("jobs")
        return [
            Listed(name, handle, JobStatus(self.states[handle]))
            for handle, name in self.names.items()
            if self.states[handle] not in OVER
        ]

    def cancel(self, handles: Collection[str]) -> None:
        self.called.append("cancel")

    def log(self, handle: str, lines: int = 40) -> str:
        return ""

    def close(self) -> None:
        self.called.append("close")


def project(root: Path, tasks: str = "def train(run):\n    return 1.5\n") -> None:
    """A project in a folder."""
    (root / "pyproject.toml").write_text("[tool.crown_exp]\n")
    (root / "tasks.py").write_text(tasks)


class Sharing(Prepared):
    """What travels to machines that see this one's files: nothing; the project is where it is.

    made: how often it was.
    """

    made = 0

    def bundle(self, target: Target) -> Any:
        self.made += not self.bundles
        return self.bundles.setdefault("image", SimpleNamespace(digest="0" * 64))  # type: ignore[arg-type]

    def job(self, record: RunRecord, planned: Planned, name: str) -> Job:
        run = f"{self.session.blobs.url}/runs/{record.id}"
        env = {
            "CROWN_JOB": name,
            "CROWN_HOME": str(self.session.home / "there" / name),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        argv = (sys.executable, "-m", "crown_exp", "run", run)
        return Job(name, argv, planned.target, directory=self.session.root, env=env)


def planned(of: Order, earlier: Earlier | None = None, number: int = 1, **fields: Any) -> Planned:
    """A run as it was planned, on a machine for a dollar and a dearer one."""
    places = (("aws", 2.0), ("gcp", 1.0))
    candidates = tuple(Candidate(it, "", "m", "A100:1", True, usd) for it, usd in places)
    return Planned(number, of, target(of), candidates, earlier, **fields)
