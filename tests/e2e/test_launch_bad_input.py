"""What a user does wrong, and what goes wrong around him, when runs are launched elsewhere.

Each thing is one line that says what is wrong and what to type; nothing is left half-made, here or there.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import pytest

from crown_exp.compute.base import OVER, Job, Target
from tests.remote_runs import record, wait_for
from tests.running import Heard, Project
from tests.sky_project import executor_of, sky_project, state_of
from tests.stand_in.sky import edge

TRAIN = """
import os
import time


def train(run, lr: float = 0.1, steps: int = 3, pace: float = 0.0, until: str = ""):
    for _ in run.steps(steps):
        time.sleep(pace)
        run.log(lr=lr)
        if until and os.path.exists(until):
            break
    return {"lr": lr}
"""
THERE = ("task=train", "compute=there", "--yes")
WHERE = "http://10.0.0.1:46580"
UNREACHABLE = (
    "SkyPilot's API server does not answer; type: sky api status (Could not connect to SkyPilot API server at "
    f"{WHERE}. Please ensure that the server is running. Try: curl {WHERE}/api/health)"
)


def said(done: CompletedProcess[str]) -> list[str]:
    """What was told below the plan, if there was one."""
    assert "Traceback" not in done.stdout
    lines = done.stdout.splitlines()
    if (ends := [n for n, line in enumerate(lines) if line.startswith("elsewhere  ")]) != []:
        rest = lines[ends[-1] + 1 :]
        return [line for line in rest if line.strip() and not line.startswith("   ")]
    return lines


def left(project: Project) -> list[str]:
    """Names of jobs that are not over."""
    with executor_of(project) as executor:
        return [job.name for job in executor.jobs()]


def state(project: Project, run: str) -> str:
    found = json.loads(project.crown("show", run, "--json").stdout)
    return str(found["status"])


# --- before anything is made ----------------------------------------------------------------------------


class TestRefused:
    """Nothing is recorded and nothing is asked for."""

    @pytest.fixture(scope="class")
    @classmethod
    def project(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
        with sky_project(tmp_path_factory.mktemp("refused") / "theirs", TRAIN) as project:
            yield project
            assert list((project.root / ".crown/store").rglob("*.json")) == []
            assert left(project) == []

    @pytest.fixture
    def refused(self, project: Project) -> Callable[..., list[str]]:
        def typed(*words: str, code: int = 2, **env: str) -> list[str]:
            done = project.crown(*words, env=env)
            assert done.returncode == code, done.stdout
            return said(done)

        return typed

    def test_what_nobody_sells_has_the_nearest_names(self, refused: Any) -> None:
        assert refused(*THERE, "compute.accelerators=[A100-80G:1,H1000]") == [
            "compute.accelerators: no cloud in SkyPilot's catalogue sells 'A100-80G'; "
            "did you mean A100-80GB?",
            "compute.accelerators: no cloud in SkyPilot's catalogue sells 'H1000'; "
            "did you mean H100 or A100?",
        ]
        assert refused(*THERE, "compute.accelerators=[A100:7]") == [
            "compute: no spot machine with A100:7 is sold in the clouds that are enabled; "
            "ask for less, or allow more in compute.infra"
        ]

    def test_no_machine_at_that_price(self, refused: Any) -> None:
        assert refused(*THERE, "compute.max_usd_per_hour=0.01") == [
            "compute.max_usd_per_hour: no machine is sold for $0.01/h or less; the cheapest is $1.15/h; "
            "type compute.max_usd_per_hour=1.15 or more"
        ]

    def test_clouds_that_are_not_enabled(self, project: Project, refused: Any) -> None:
        enabled = state_of(project) / "enabled"
        enabled.parent.mkdir(exist_ok=True)
        try:
            enabled.write_text("")
            none = "compute: no cloud is enabled for SkyPilot here; type: sky check"
            assert refused(*THERE) == [none]
            assert refused("plan", *THERE)[-1] == none
            enabled.write_text("aws")
            assert refused(*THERE, "compute.infra=[gcp]") == [
                "compute.infra: gcp is not enabled for SkyPilot here (enabled: aws); type: sky check gcp"
            ]
        finally:
            enabled.unlink()

    def test_all_that_is_wrong_is_told_at_once(self, refused: Any) -> None:
        wrong = (
            "compute.shared=false",
            "compute.secrets=[MY_TOKEN]",
            "compute.accelerators=[A1000:1]",
        )
        store, secret, accelerator = refused(*THERE, *wrong)
        assert store.startswith("the store file:///")
        assert "machines of compute=there do not see this machine's files" in store
        assert "set CROWN_STORAGE__ROOT=s3://bucket/prefix" in store
        assert secret == (
            "compute.secrets: MY_TOKEN is not set here; export it, or put MY_TOKEN=... into the project's .env"
        )
        assert accelerator.endswith("did you mean A100 or H100?")

    def test_a_bucket_that_is_another_on_each_machine(self, refused: Any) -> None:
        (line,) = refused(
            *THERE, "compute.shared=false", CROWN_STORAGE__ROOT="s3://bucket/x",
            CROWN_STORAGE__ENDPOINT="http://127.0.0.1:9", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="y",
        )  # fmt: skip
        assert line.startswith("CROWN_STORAGE__ENDPOINT: http://127.0.0.1:9 is each machine itself")

    @pytest.mark.parametrize(
        ("python", "why"),
        [
            ("/nowhere/python", "cannot be started (No such file or directory)"),
            ("/bin/false", "does not begin as one does: SkyPilot's process ended with code 1"),
        ],
    )
    def test_a_python_that_is_none(self, refused: Any, python: str, why: str) -> None:
        assert refused(*THERE, CROWN_SKY__PYTHON=python) == [
            f"compute: CROWN_SKY__PYTHON={python} {why}; "
            "set it to a Python that has SkyPilot, or unset it"
        ]

    def test_without_skypilot(self, refused: Any, tmp_path: Path) -> None:
        (tmp_path / "sky.py").write_text("raise ImportError('no sky here')")
        path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
        missing = "SkyPilot is not installed (no sky here); type: pip install 'crown-exp[sky]'"
        assert refused(*THERE, PYTHONPATH=path) == [f"compute: {missing}"]

    @pytest.mark.parametrize("flags", [(), ("plan",)])
    def test_a_sweep_with_one_bad_run(self, refused: Any, flags: tuple[str, ...]) -> None:
        assert refused(*flags, "-m", *THERE, "task.lr=0.1,x") == [
            "task.lr: expected a float, got 'x' (tasks.py:6)"
        ]
        swept = "compute.accelerators=[A100:1],[A1000:1]"
        assert "did you mean A100" in refused(*flags, "-m", *THERE, swept)[-1]

    def test_typos(self, refused: Any) -> None:
        assert refused("plan", "task=train", "compute=ther") == [
            "compute=ther: group compute has no option 'ther'; did you mean there? (conf/compute/)"
        ]
        assert refused("plan", "task=train", "compute.spt=true", "compute=there") == refused(
            "task=train", "compute.spt=true", "compute=there"
        )

    def test_code_that_is_too_big(self, project: Project, refused: Any) -> None:
        big = project.root / "big.bin"
        with big.open("wb") as file:
            file.truncate(300 * 2**20)
        try:
            (line,) = refused(*THERE)
        finally:
            big.unlink()
        assert line.startswith("code: the project is too big to travel to another machine")
        assert "big.bin 314.6 MB" in line and ".gitignore" in line

    def test_nobody_is_there_to_agree(self, refused: Any) -> None:
        (line,) = refused("task=train", "compute=there", "budget.confirm_above_usd=0")
        assert line.startswith("budget.confirm_above_usd: what it will cost is not known")
        assert "type --yes to launch" in line
        (line,) = refused(*THERE, "budget.run_usd=0.5", code=77)
        assert line.startswith("budget.run_usd=0.5 is below the price of one hour")
        assert line.endswith("; nothing was launched")

    def test_a_server_that_does_not_answer_or_is_another(
        self, project: Project, refused: Any
    ) -> None:
        where = state_of(project)
        try:
            edge.fail(where, "ApiServerConnectionError", WHERE)
            assert refused(*THERE, code=80) == [UNREACHABLE]
            assert refused("-m", *THERE, "task.lr=1,2", code=80) == [UNREACHABLE]
            alone = str(Path(sys.executable).parent)  # no Slurm
            assert refused("reap", "--yes", code=80, PATH=alone) == [UNREACHABLE]
            edge.fail(where, "APIVersionMismatchError", "the server is 0.9")
            assert refused(*THERE, code=80) == [
                "SkyPilot's API server is of another version than SkyPilot here; "
                "type: sky api stop && sky api start (the server is 0.9)"
            ]
        finally:
            edge.fail(where, "", "")

    def test_runs_that_are_not_there(self, refused: Any) -> None:
        for words in (
            ("resume", "r1-nope"), ("move", "r1-nope", "compute=there"), ("cancel", "r1-nope"),
            ("fork", "r1-nope"), ("logs", "-f", "r1-nope"),
        ):  # fmt: skip
            (line,) = refused(*words)
            assert line.startswith("r1-nope: no run in file:///")

    def test_words_without_what_they_need(self, refused: Any) -> None:
        place = "Missing argument 'compute=TARGET [KEY=VALUE]...'. Try: crown-exp help move"
        assert refused("move", "r1-nope") == [place]
        assert refused("move", "r1-nope", "task.lr=2") == [
            "move: expected where to: type compute=local, compute=a100_spot, …"
        ]
        assert refused("cancel") == ["Missing argument 'RUN...'. Try: crown-exp help cancel"]


# --- runs of this machine -------------------------------------------------------------------------------


class TestRunsHere:
    """Words for runs elsewhere, said of runs that are over or somewhere else altogether."""

    @pytest.fixture(scope="class")
    @classmethod
    def project(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
        with sky_project(tmp_path_factory.mktemp("here") / "theirs", TRAIN) as project:
            yield project
            assert left(project) == []

    def test_what_is_over_stays_as_it_is(self, project: Project) -> None:
        done = project.crown("task=train", "--yes")  # nothing is paid: it harms nothing
        assert done.returncode == 0
        (folder,) = project.runs
        run, before = folder.name, sorted(folder.rglob("*"))
        again = project.crown("resume", run, "compute=there")
        assert (again.returncode, again.stdout.splitlines()[0]) == (
            0, f"{run} is completed already; nothing was run",
        )  # fmt: skip
        moved = project.crown("move", run, "compute=there", "--yes")
        assert (moved.returncode, moved.stdout) == (
            2, f"{run}: is completed, so there is nothing to move\n",
        )  # fmt: skip
        cancelled = project.crown("cancel", run)
        assert (cancelled.returncode, cancelled.stdout.splitlines()[0]) == (
            0,
            f"{run} is completed",
        )
        assert sorted(folder.rglob("*")) == before

    def test_what_runs_on_another_machine(self, project: Project) -> None:
        known = {run.name for run in project.runs}
        child = project.popen("task=train", "task.steps=2000", "task.pace=0.05", "task.lr=0.3")
        try:
            attempt = wait_for(lambda: attempt_of(project, known))
            run = attempt.parents[1].name
            theirs = record(attempt) | {"host": "elsewhere", "boot_id": "another"}
            attempt.write_text(json.dumps(theirs))
            moved = project.crown("move", run, "compute=there", "--yes")
            assert moved.returncode == 2
            assert moved.stdout == (
                f"{run}: runs on elsewhere (pid {child.pid}), started by hand: stop it there, then resume it\n"
            )
            cancelled = project.crown("cancel", run, "--yes")
            assert cancelled.returncode == 1
            assert f"{run} runs on elsewhere (pid {child.pid}), in no job; end it there" in (
                cancelled.stdout
            )
            assert child.poll() is None
        finally:
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=60)


def attempt_of(project: Project, known: set[str]) -> Path | None:
    """The record of the first attempt of a run that was not known, once there is one."""
    fresh = [run for run in project.runs if run.name not in known]
    path = fresh[0] / "attempts/000001.json" if fresh else None
    return path if path is not None and path.exists() else None


# --- after it was sent off ------------------------------------------------------------------------------


class TestSent:
    """A run is recorded, and something goes wrong elsewhere."""

    @pytest.fixture(scope="class")
    @classmethod
    def project(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
        with sky_project(tmp_path_factory.mktemp("sent") / "theirs", TRAIN) as project:
            yield project

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, project: Project) -> Iterator[None]:
        yield
        wait_for(lambda: not left(project))

    def launched(self, project: Project, *typed: str) -> tuple[Path, Popen[str]]:
        """A run that has begun elsewhere, watched."""
        known = {run.name for run in project.runs}
        child = project.popen(*THERE, "task.pace=0.05", "checkpoint.every=1 steps", *typed)
        attempt: Path = wait_for(lambda: attempt_of(project, known))
        return attempt.parents[1], child

    @pytest.mark.parametrize(
        ("lr", "kind", "text"),
        [
            ("1", "NoCloudAccessError", "no credentials of gcp: sky check"),
            ("2", "ResourcesUnavailableError", "quota: 0 of A100 in all regions"),
        ],
    )
    def test_what_skypilot_refuses_is_told_once_and_launched_later(
        self, project: Project, lr: str, kind: str, text: str
    ) -> None:
        edge.refuse(state_of(project), kind, f"{text}\nsecond line")
        done = project.crown(*THERE, f"task.lr={lr}")
        edge.refuse(state_of(project), "", "")
        run = project.runs[-1]
        assert done.returncode == 1
        assert said(done) == [
            f"not submitted: SkyPilot: {kind}: {text} second line",
            f"{run.name} stopped",
            f"folder  {run.as_uri()}",
            f"next    crown-exp resume {run.name.partition('-')[2]}",
        ]
        assert (run / "jobs/0001.cancelled").exists()
        again = project.crown("resume", run.name, "--yes")
        assert again.returncode == 0, again.stdout
        assert f"{run.name} completed: lr {lr}" in again.stdout

    def test_whatever_else_skypilot_raises_keeps_no_run_waiting(self, project: Project) -> None:
        edge.refuse(state_of(project), "InternalError", "KeyError: 'zone'")
        done = project.crown("-m", *THERE, "task.lr=3,4")
        edge.refuse(state_of(project), "", "")
        assert done.returncode == 1
        assert done.stdout.count("not submitted: SkyPilot: RequestFailed: InternalError") == 2
        assert done.stdout.count(" stopped") == 2
        assert [state(project, run.name) for run in project.runs[-2:]] == ["stopped"] * 2

    def test_no_machine_is_to_be_had(self, project: Project) -> None:
        edge.sold_out(state_of(project), ["L4:1"])
        done = project.crown(*THERE, "compute.accelerators=[L4:1]", "task.lr=5")
        assert done.returncode == 80
        run = project.runs[-1].name
        assert f"{run}  stopped" in done.stdout and f"{run} stopped" in done.stdout
        assert "ended before its command began: no such machine was to be had" in done.stdout
        assert state(project, run) == "stopped"

    def test_a_setup_that_fails(self, project: Project) -> None:
        setup = "compute.setup=['echo installing','echo no such package >&2','exit 7']"
        done = project.crown(*THERE, setup, "task.lr=6")
        assert done.returncode == 80
        run = project.runs[-1].name
        lines = said(done)
        (told,) = [n for n, line in enumerate(lines) if "could not be set up" in line]
        assert "Job failed (FAILED_SETUP) (user program failure)" in lines[told]
        assert lines[told + 1 : told + 3] == ["  | installing", "  | no such package"]
        assert lines[told + 4].startswith(
            f"  another setup: crown-exp resume {run} 'compute.setup="
        )
        assert "Traceback" not in done.stdout
        assert state(project, run) == "stopped"

    def test_an_image_in_which_no_run_begins_is_not_started_for_ever(
        self, project: Project, tmp_path: Path
    ) -> None:
        python = tmp_path / "bin/python3"
        python.parent.mkdir()
        python.write_text(
            "#!/bin/sh\n[ $2 = run ] || exit 0\necho the store does not answer\nexit 80\n"
        )
        python.chmod(0o755)
        path = f"compute.env={{PATH: '{python.parent}:/usr/bin:/bin'}}"
        done = project.crown(*THERE, path, "task.lr=7")
        assert done.returncode == 80
        run = project.runs[-1]
        starts = re.search(r"its job was started (\d+) times and the run never began", done.stdout)
        assert starts and int(starts[1]) >= 4  # more, if nobody came to look at it sooner
        assert "  | the store does not answer" in done.stdout
        assert f"crown-exp logs {run.name}" in done.stdout
        assert state(project, run.name) == "stopped"

    def test_cancelled_behind_our_back(self, project: Project) -> None:
        run, child = self.launched(project, "task.lr=8", "task.steps=2000")
        with executor_of(project) as executor:
            executor.cancel([job.handle for job in executor.jobs() if job.name == run.name])
        told, _ = child.communicate(timeout=60)
        assert child.returncode == 130, told
        assert "was cancelled, not from here: Cancellation requested by user root" in told
        assert f"{run.name} stopped" in told
        assert f"next    crown-exp resume {run.name.partition('-')[2]}" in told
        assert state(project, run.name) == "stopped"

    def test_a_server_that_dies_meanwhile(self, project: Project, tmp_path: Path) -> None:
        until = tmp_path / "until"
        run, child = self.launched(project, "task.lr=9", "task.steps=100000", f"task.until={until}")
        heard = Heard(child)
        edge.fail(state_of(project), "ApiServerConnectionError", WHERE)
        cancelled = project.crown("cancel", run.name, "--yes")  # it cannot be told, so it goes on
        assert (cancelled.returncode, said(cancelled)) == (80, [UNREACHABLE])
        heard.until("is asked again")
        until.touch()
        told = heard.rest()
        edge.fail(state_of(project), "", "")
        assert child.returncode == 0, told
        assert told.count(f"{UNREACHABLE}; skypilot is asked again\n") == 1
        assert f"{run.name} completed: lr 9" in told

    def test_a_server_that_is_killed_before_and_meanwhile(self, project: Project) -> None:
        edge.stop(state_of(project), jobs=False)
        run, child = self.launched(project, "task.lr=10", "task.steps=40")
        edge.stop(state_of(project), jobs=False)
        told, _ = child.communicate(timeout=60)
        assert child.returncode == 0, told
        assert "API server" not in told  # SkyPilot itself starts another
        assert len(list((run / "jobs").glob("*.json"))) == 1
        before = sorted(run.rglob("*"))
        assert project.crown("move", run.name, "compute=local").returncode == 2
        assert project.crown("cancel", run.name).returncode == 0
        assert sorted(run.rglob("*")) == before

    def test_a_name_that_a_job_had(self, project: Project) -> None:
        edge.refuse(state_of(project), "ResourcesUnavailableError", "quota")
        assert project.crown(*THERE, "task.lr=11").returncode == 1
        edge.refuse(state_of(project), "", "")
        run = project.runs[-1].name
        with executor_of(project) as executor:
            job = Job(f"{run}-2", ("true",), Target(name="there", executor="skypilot"))
            handle = executor.handle(executor.submit(job))
            wait_for(lambda: executor.poll([handle])[handle].state in OVER)
        done = project.crown("resume", run, "--yes")
        assert done.returncode == 1
        assert (
            f"NameTaken: there is a job called {run}-2 already; expected a new name" in done.stdout
        )
        again = project.crown("resume", run, "--yes")
        assert again.returncode == 0, again.stdout
        assert record(project.runs[-1] / "jobs/0003.json")["job"] == f"{run}-3"


@pytest.mark.parametrize("root", ["ftp://nosuch/prefix", "http://h/x", "https://h/x"])
def test_a_store_that_is_none(tmp_path: Path, root: str) -> None:
    project = Project.write(tmp_path, "def train(run): return 1\n")
    done = project.crown("runs", env={"CROWN_STORAGE__ROOT": root})
    assert done.returncode == 2
    (line,) = done.stdout.splitlines()
    assert line.startswith("CROWN_STORAGE__ROOT: ")
