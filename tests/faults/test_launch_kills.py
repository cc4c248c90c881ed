"""The launcher killed with SIGKILL at each step of a launch, on a stand-in of SkyPilot and real processes.

Afterwards the same command finishes what was begun: one job carries each run, no run is made twice, and there
is no job that no record names.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crown_exp.launch.remote.submitting.submission import APPEARS_SECONDS
from tests.launches import project
from tests.running import Project, ends
from tests.sky_project import sky_project, state_of
from tests.slurm import cluster, missing
from tests.stand_in.sky import edge

ROOT = Path(__file__).parents[2]

TASKS = """
import time
from pathlib import Path

def train(run):
    with open("../ran", "a") as file:
        file.write(f"{run.id}\\n")
    while not Path("../go").exists():
        time.sleep(0.02)
    for _ in run.steps(3):
        run.log(loss=1.0)
    return {"accuracy": 0.5}
"""
"""Its runs last until they are let go, and leave their notes outside of the project: those are no code."""

KILLS: list[list[Any]] = [
    ["composed", 1, "after"],
    ["staged", 1, "after"],
    ["recorded", 1, "after"],
    ["recorded", 2, "after"],
    ["intent", 1, "before"],
    ["intent", 1, "after"],
    ["asked", 1, "after"],
    ["ticket", 1, "after"],
    ["asked", 2, "after"],
    ["accepted", 1, "after"],
    ["handle", 1, "after"],
    ["handle", 2, "after"],
    ["submitted", 1, "after"],
]


@dataclass
class Place:
    """A project whose launcher goes to a stand-in of SkyPilot, or to a real Slurm."""

    root: Path
    sky: Path
    slurm: str = ""

    def launch(self, kill: list[Any] | None = None, terminals: int = 1) -> list[list[str]]:
        """Type the command; run, job and state of what it saw through, unless it was killed."""
        executor = "slurm" if self.slurm else "skypilot"
        request = {"runs": 2, "executor": executor, "kill": kill or (), "terminals": terminals}
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests/stand_in")])
        places = {"SKY_STAND_IN": str(self.sky), "SLURM_CONF": self.slurm}
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.launcher", json.dumps(request)],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": path, **places},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr
        told: list[list[str]] = [] if kill else json.loads(done.stdout)
        return told

    @property
    def runs(self) -> list[Path]:
        return sorted(path.parent for path in self.root.glob(".crown/store/runs/*/run.json"))

    def recorded(self, run: Path) -> list[dict[str, Any]]:
        return [
            json.loads(path.read_text()) | {"cancelled": path.with_suffix(".cancelled").exists()}
            for path in sorted(run.glob("jobs/*.json"))
        ]

    @property
    def jobs(self) -> list[str]:
        """The names of all jobs that there ever were."""
        if self.slurm:
            return [path.read_text() for path in self.root.glob(".crown/slurm/.handles/*")]
        path = self.sky / "jobs.json"
        return [job["job_name"] for job in json.loads(path.read_text())] if path.exists() else []

    def settle(self) -> None:
        """Wait until the server has taken in what was asked of it."""
        until = time.monotonic() + 60
        while list((self.sky / "requests").glob("*.json")):
            assert time.monotonic() < until
            time.sleep(0.02)

    def check_owned(self) -> None:
        """No job without an owner: a record was there before it was asked for."""
        self.settle()
        names = {job["job"] for run in self.runs for job in self.recorded(run)} if self.jobs else {}
        assert set(self.jobs) <= set(names)

    @property
    def notes(self) -> list[str]:
        """A run's id for each time that one began."""
        path = self.root.parent / "ran"
        return path.read_text().split() if path.exists() else []

    def finish(self) -> list[list[str]]:
        """Type the command once more; what it saw through."""
        told = self.launch()
        assert {state for *_, state in told} <= {"succeeded"}
        self.check_finished()
        return told

    def check_finished(self) -> None:
        """Each run was made once, and one job has carried it to its end."""
        assert len(self.runs) == 2
        for run in self.runs:
            assert json.loads((run / "result.json").read_text())["result"] == {"accuracy": 0.5}
            assert ends(run) == [0]
            (job,) = (job["job"] for job in self.recorded(run) if not job["cancelled"])
            assert [name for name in self.jobs if name.startswith(run.name)] == [job]
        assert Counter(self.notes) == {run.name: 1 for run in self.runs}
        self.check_owned()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    root, sky = tmp_path / "project", tmp_path / "sky"
    root.mkdir()
    project(root, TASKS)
    yield Place(root, sky)
    edge.stop(sky)


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: "-".join(map(str, kill)))
def test_the_same_command_finishes_what_a_killed_one_began(place: Place, kill: list[Any]) -> None:
    place.launch(kill)
    place.check_owned()
    assert len(place.finish()) == 2


@pytest.mark.parametrize("milliseconds", [0, 10, 40])
def test_a_launcher_that_is_killed_while_it_asks(place: Place, milliseconds: int) -> None:
    """At any moment of it: what it asked SkyPilot for, if it did, is found by its name."""
    place.launch(["asked", 1, milliseconds])
    place.check_owned()
    assert len(place.finish()) == 2


def test_a_launcher_that_is_killed_again_and_again(place: Place) -> None:
    """One step further each time: no name is given twice, and nothing is asked for twice."""
    for kill in (["recorded", 1, "after"], ["intent", 1, "after"], ["intent", 1, "after"],
                 ["asked", 1, "after"], ["ticket", 1, "after"], ["handle", 1, "after"]):  # fmt: skip
        place.launch(kill)
        place.check_owned()
    assert len(place.finish()) == 2


def test_what_ends_while_nobody_watches_is_not_launched_again(place: Place) -> None:
    (place.root.parent / "go").touch()
    place.launch(["submitted", 1, "after"])
    until = time.monotonic() + 120
    while len(list(place.root.glob(".crown/store/runs/*/attempts/*.end.json"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert place.finish() == []


def test_two_terminals_at_the_same_moment(place: Place) -> None:
    """Neither has found what the other is about to record: there is one run for both all the same."""
    with ThreadPoolExecutor(3) as terminals:
        for typed in [terminals.submit(place.launch, terminals=3) for _ in range(3)]:
            typed.result()
    place.check_finished()


# --- the whole command, watched from outside ------------------------------------------------------------


def has_come_to(run: Path, step: str) -> bool:
    """Whether the records of a run say that a launcher has come so far."""
    if step == "recorded":
        return (run / "run.json").exists()
    return any(json.loads(path.read_text())[step] for path in run.glob("jobs/0001.json"))


@contextmanager
def typing(project: Project, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that is typed, and killed with SIGKILL if it is not over by then."""
    with project.popen(*arguments) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", ["recorded", "ticket", "handle"])
def test_the_whole_command_killed_when_it_is_seen_to_have_come_to(
    tmp_path: Path, step: str
) -> None:
    typed = ("-m", "task=train", "seed=1,2", "compute=there", "--yes")
    tasks = TASKS.replace("../", f"{tmp_path}/")  # it runs where its code was unpacked
    with sky_project(tmp_path / "project", tasks) as project:
        with typing(project, *typed) as child:
            until = time.monotonic() + 120
            while not any(has_come_to(run, step) for run in project.runs):
                assert child.poll() is None and time.monotonic() < until
                time.sleep(0.002)
        with typing(project, *typed) as again:
            place = Place(project.root, state_of(project))
            until = time.monotonic() + APPEARS_SECONDS + 120  # the kill may have come as it asked
            while len(place.notes) < 2:
                assert again.poll() is None and time.monotonic() < until
                time.sleep(0.05)
            (tmp_path / "go").touch()
            said, _ = again.communicate(timeout=120)
        assert again.returncode == 0, said
        place.check_finished()


# --- on Slurm -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slurm() -> Iterator[str]:
    with cluster() as conf:
        yield conf


@pytest.mark.full
@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.parametrize("step", ["intent", "asked", "ticket", "handle"])
def test_on_a_real_slurm(place: Place, slurm: str, step: str) -> None:
    place.slurm = slurm
    place.launch([step, 1, "after"])
    place.check_owned()
    assert len(place.finish()) == 2
