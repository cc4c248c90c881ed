"""The runs of a proof, one after the other, each attempt in a process of its own, in a throw-away folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from crown_exp.config.schema import defaults, own_tracker
from crown_exp.config.settings import with_variables
from crown_exp.errors import ConfigError, CrownError
from crown_exp.folder import RunPaths, RunRecord
from crown_exp.launch.session import Session
from crown_exp.launch.signals import handle, handling
from crown_exp.launch.verify.course import STRAIGHT, Course, Kill, courses
from crown_exp.launch.verify.suspects import Suspect, suspects
from crown_exp.launch.verify.trail import Difference, Trail, difference, read_trail
from crown_exp.storage import open_blobs

SAID = 2_000
"""Letters of what a process printed that are shown when it failed."""

LONGEST_TEMPORARY = 70
"""Letters of a temporary directory's path: a socket's has 107, and 35 of them are the names below it."""


class Failed(CrownError):
    """The straight run did not complete: there is nothing to hold others against."""

    exit_code = 1


@dataclass(frozen=True)
class Found:
    """What became of one course. difference: from the straight run; None: not a bit. kills: carried out."""

    course: Course
    difference: Difference | None
    kills: int
    seconds: float


@dataclass
class Proof:
    """What a proof came to. found: of the courses that were gone. suspects: only if it is inexact."""

    steps: int = 0
    found: list[Found] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether no bit differed."""
        return all(item.difference is None for item in self.found)

    @property
    def kills(self) -> int:
        """How often the run was killed."""
        return sum(item.kills for item in self.found)


@dataclass
class Prover:
    """Makes one recorded run in several ways. ignore: what does not count. used: as `suspects`.
    say: shows a line. child: the process of the attempt that goes on.
    """

    session: Session
    record: RunRecord
    ignore: Collection[str]
    used: Collection[str]
    say: Callable[[str], None]
    child: subprocess.Popen[bytes] | None = None
    begun: int = 0

    @property
    def folder(self) -> Path:
        """The folder that is thrown away."""
        return self.session.home.parent

    def prove(self) -> Proof:
        """Go all courses. Raises Failed, or ConfigError for a task that makes no turn."""
        proof = Proof()
        with handling(self.end_child) as self.before:
            straight, _ = self.go(STRAIGHT)
            proof.steps = self.completed(straight)
            for course in courses(proof.steps):
                proof.found.append(self.compared(course, straight))
                if self.is_hopeless(proof.found[-1]):
                    break
        if not proof.exact:
            notes = self.folder / STRAIGHT.kind / "notes.json"
            proof.suspects = suspects(notes, self.session.root, self.used)
        return proof

    def completed(self, straight: Trail) -> int:
        """The steps of the straight run. Raises Failed, ConfigError."""
        name = self.record.name
        if straight.facts.result is None:
            end = straight.facts.last_end
            why = end.reason if end else "its process ended"
            raise Failed(f"{self.said(STRAIGHT)}{name} does not complete by itself: {why}")
        if not straight.step:
            what = "makes no turn of run.steps, so there is nothing that a kill could lose"
            raise ConfigError.of(name, f"{what}; its result is {straight.result}")
        return straight.step

    def compared(self, course: Course, straight: Trail) -> Found:
        """Go a course, and hold it against the straight run."""
        began = time.monotonic()
        trail, kills = self.go(course)
        if trail.facts.result is None:
            end = trail.facts.last_end
            step = end.step if end else 0
            words = f"it does not complete: {end.reason if end else 'its process ended'}"
            found: Difference | None = Difference(step, (), (words,))
        else:
            found = difference(straight, trail, self.ignore)
        seconds = time.monotonic() - began
        how = f"differs in step {found.step}" if found else "equal"
        self.say(f"{course.words:<50} {how}  ({seconds:.1f} s)")
        return Found(course, found, kills, seconds)

    def is_hopeless(self, found: Found) -> bool:
        """Whether the others would tell nothing: two straight runs differ in more than what they log."""
        if found.course.kind != "repeat" or found.difference is None:
            return False
        if found.difference.state:
            self.say("not repeatable, so that nothing else can be held against it")
            return True
        self.ignore = {*found.difference.names, *self.ignore}
        return False

    # --- processes ------------------------------------------------------------------------------------

    def go(self, course: Course) -> tuple[Trail, int]:
        """Carry out all attempts of a course; what they left, and how many were killed."""
        place, paths, began = self.folder / course.kind, RunPaths(self.record.id), time.monotonic()
        shutil.copytree(self.folder / "store" / paths.root, place / "store" / paths.root)
        kills = 0
        for number, kill in enumerate([*course.kills, None]):
            workers = course.workers[number % len(course.workers)]
            code = self.attempt(place, workers, kill)
            if code != -signal.SIGKILL or kill is None:
                break
            kills += 1
        blobs = open_blobs(str(place / "store"))
        trail = self.session.portal.call(read_trail, blobs, self.record.id)
        if course is STRAIGHT and trail.facts.result is not None:
            seconds = time.monotonic() - began
            self.say(f"{course.words:<50} {trail.step} steps  ({seconds:.1f} s)")
        return trail, kills

    def attempt(self, place: Path, workers: int, kill: Kill | None) -> int:
        """One attempt in a process of its own; its exit code, negative if a signal ended it."""
        self.begun += 1
        store, home = place / "store", place / "home"
        told: dict[str, Any] = {
            "store": str(store), "run": self.record.id, "home": str(home), "kill": kill,
            "root": str(self.session.root), "notes": str(place / "notes.json"),
            "changes": {"device.workers": workers},
        }  # fmt: skip
        own = {
            "CROWN_STORAGE__ROOT": str(store), "CROWN_HOME": str(home),
            "PYTHONHASHSEED": str(self.begun),
        }  # fmt: skip
        with (place / "said.txt").open("ab") as said:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "crown_exp.runner.witness", json.dumps(told)],
                env=with_variables({**own, **self.temporary()}), stdin=subprocess.DEVNULL,
                stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip
        os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT)
        self.end_group(self.child)  # workers that it left
        child, self.child = self.child, None
        return child.wait()

    def temporary(self) -> dict[str, str]:
        """Where processes that are killed leave what they would have removed.

        Workers send by sockets in there, whose paths cannot be long.
        """
        place = self.folder / "t"
        place.mkdir(exist_ok=True)
        return {"TMPDIR": str(place)} if len(str(place)) < LONGEST_TEMPORARY else {}

    def end_group(self, child: subprocess.Popen[bytes]) -> None:
        """End a process that has not been waited for, and all that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)

    def end_child(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: nothing is to write to the folder any more; then as before."""
        if self.child is not None:
            self.end_group(self.child)
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT)
        handle(self.before[number], number, frame)

    def said(self, course: Course) -> str:
        """The end of what the processes of a course printed."""
        text = (self.folder / course.kind / "said.txt").read_text(errors="replace")
        lines = [line for line in text.splitlines() if not line.startswith(("folder ", "next "))]
        return "".join(f"  {line}\n" for line in "\n".join(lines)[-SAID:].splitlines())


def for_proof(config: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The config of a proof: a few turns, each saved, nothing told to anybody."""
    limits, device = config["limits"], config["device"]
    every = "1 steps"
    return {
        **config,
        "limits": {
            **limits, "attempt": None, "run": None, "steps": min(steps, limits["steps"] or steps),
        },
        "checkpoint": {**config["checkpoint"], "every": every, "keep_every": every},
        "compute": defaults()["compute"],
        "device": {**device, "workers": 0},
        "tracker": {**own_tracker(config["tracker"]), "progress": "none"},
    }  # fmt: skip
