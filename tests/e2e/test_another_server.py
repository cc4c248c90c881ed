"""A run's job was asked for at another SkyPilot server than the one at hand: nothing is concluded here."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.compute.base import OVER, Job, Target
from crown_exp.launch.remote.cancelling import GIVEN_UP
from tests.remote_runs import TASKS, record, wait_for
from tests.running import Project
from tests.sky_project import executor_of, sky_project, state_of
from tests.stand_in.sky import edge

TYPED = ("task=train", "compute=there", "--yes")
ENDLESS = (*TYPED, "task.pace=0.2", "task.steps=100000")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with sky_project(tmp_path / "project", TASKS) as project:
        yield project


@pytest.fixture
def other(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What leads commands to another server: as a HOME that was reset, or another machine's, does."""
    folder = tmp_path / "another-stand-in"
    yield {"SKY_STAND_IN": str(folder), "COLUMNS": "800"}
    edge.stop(folder)


@pytest.fixture
def run(project: Project) -> Path:
    """A run whose job waits for its machine; its launcher was left."""
    state_of(project).mkdir()
    edge.delay(state_of(project), begins=60000.0)  # 10 minutes
    child = project.popen(*TYPED)

    def accepted() -> bool:
        found = [record(path) for run in project.runs for path in run.glob("jobs/0001.json")]
        return any(job["handle"] for job in found)

    wait_for(accepted)
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    (run,) = project.runs
    return run


def kept(run: Path) -> dict[str, bytes]:
    """All that is recorded of a run."""
    return {str(it.relative_to(run)): it.read_bytes() for it in run.rglob("*") if it.is_file()}


def test_a_run_is_left_as_it_is(project: Project, run: Path, other: dict[str, str]) -> None:
    before = kept(run)
    assert record(run / "jobs/0001.json")["server"]["place"].endswith(f"HOME={Path.home()}")
    for words, code in (
        (("cancel", "--yes", run.name), 1),
        (("resume", run.name, "--yes"), 2),
        (("resume", run.name, "compute=local"), 2),
        (("move", run.name, "compute=local"), 2),
        (("-m", *TYPED), 2),
    ):
        done = project.crown(*words, env=other)
        assert done.returncode == code, done.stdout
        (told,) = [line for line in done.stdout.splitlines() if "was asked for at" in line]
        assert run.name in told and "whether it lives is not known here" in told
        assert told.count("--forget") == 1
        assert told.endswith(f"type: crown-exp cancel --forget {run.name}")
        assert "its database was made 20" in told  # both are at one place: nothing else differs
    assert (kept(run), project.runs) == (before, [run])
    logged = project.crown("logs", run.name, env=other)
    assert logged.returncode == 0
    assert "was asked for at" in logged.stdout
    shown = project.crown("show", run.name, env=other)
    assert "queued" in shown.stdout
    with executor_of(project) as executor:
        (job,) = executor.jobs()
        assert (job.name, job.status.state in OVER) == (run.name, False)
    forgotten = project.crown("cancel", "--yes", "--forget", run.name, env=other)
    assert forgotten.returncode == 0, forgotten.stdout
    assert f"{run.name} is stopped, given up: its machine was not asked to end" in forgotten.stdout
    assert b"given up by the user" in (run / "jobs/0001.cancelled").read_bytes()
    assert "resume" in project.crown("plan", "-m", *TYPED[:2], env=other).stdout


def test_reap_does_not_judge_it(project: Project, run: Path, other: dict[str, str]) -> None:
    """A job of its name here is another, whatever the records say."""
    elsewhere = Project(project.root, {**project.environment, **other})
    target = Target(name="there", executor="skypilot", accelerators=("A100:1",), spot=True)
    (run / "jobs/0001.cancelled").write_bytes(b"{}")
    with executor_of(elsewhere) as executor:
        executor.handle(executor.submit(Job(run.name, ("sleep", "600"), target)))
        done = elsewhere.crown("reap", "--yes", "--foreign")
        assert done.returncode == 1
        assert "not to be judged here" in done.stdout
        assert "asked for the end" not in done.stdout
        assert [job.name for job in executor.jobs()] == [run.name]


def test_where_nobody_answers_it_can_be_given_up(
    project: Project, run: Path, other: dict[str, str]
) -> None:
    """As where the server's machine is no more, and the endpoint is that of it."""
    there = Path(other["SKY_STAND_IN"])
    there.mkdir()
    edge.fail(there, "ApiServerConnectionError", "http://10.0.0.1:46580")
    before = kept(run)
    refused = project.crown("cancel", "--yes", run.name, env=other)
    assert (refused.returncode, kept(run)) == (80, before), refused.stdout
    assert "API server does not answer" in refused.stdout
    forgotten = project.crown("cancel", "--yes", "--forget", run.name, env=other)
    assert forgotten.returncode == 0, forgotten.stdout
    assert b"given up by the user" in (run / "jobs/0001.cancelled").read_bytes()
    gone_on = project.crown("resume", run.name, "compute=local", env=other)
    assert gone_on.returncode == 0, gone_on.stdout


def test_what_beats_elsewhere_is_not_given_up(project: Project, other: dict[str, str]) -> None:
    """Nobody told it to end, and its machine is paid; once it is dead, that it was not is said."""
    child = project.popen(*ENDLESS)
    wait_for(lambda: [it for run in project.runs for it in run.glob("attempts/??????.json")])
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    (run,) = project.runs
    refused = project.crown("cancel", run.name, "--forget", "--yes", env=other)
    assert refused.returncode == 1
    (told,) = [line for line in refused.stdout.splitlines() if "was not given up" in line]
    assert (
        "last heard of" in told
        and f"at {record(run / 'jobs/0001.json')['server']['place']}" in told
    )
    assert "told to end" not in refused.stdout
    assert not (run / "jobs/0001.cancelled").exists()
    (run / "jobs/0001.cancelled").write_text(f"{GIVEN_UP}\n")  # while it was not heard of
    held = f"run {run.name} is held by attempt 1 on "
    for words in (("resume", run.name, "--yes"), ENDLESS):
        done = project.crown(*words, env=other)
        assert done.returncode == 76, done.stdout
        assert held in done.stdout and f"is cancelled ({GIVEN_UP})" in done.stdout
        assert "not submitted" not in done.stdout
    assert [it.name for it in (run / "jobs").glob("*.json")] == ["0001.json"]
