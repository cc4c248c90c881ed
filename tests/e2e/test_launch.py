"""The same command, elsewhere: on the stand-in of SkyPilot, with real processes, a real store and real runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from tests.remote_runs import TASKS, jobs_of, record, result, wait_for
from tests.running import Heard, Project, ends
from tests.sky_project import executor_of, preempt, sky_project, state_of
from tests.stand_in.sky import edge


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with sky_project(tmp_path / "project", TASKS) as project:
        yield project


def wait_for_attempt(project: Project, number: int = 1) -> Path:
    """The only run's folder, once an attempt of it has begun."""

    def begun() -> Path | None:
        runs = project.runs
        path = runs[0] / f"attempts/{number:06}.json" if runs else None
        return runs[0] if path and path.exists() else None

    found: Path = wait_for(begun)
    return found


def end(child: Popen[str], *numbers: int) -> str:
    """Signals, half a second apart; then what was said."""
    for number in numbers:
        child.send_signal(number)
        time.sleep(0.5)
    said, _ = child.communicate(timeout=60)
    return said


def test_a_run_elsewhere_is_the_run_it_would_be_here(project: Project) -> None:
    here = project.crown("task=train")
    there = project.crown("task=train", "compute=there", "--yes")
    assert (here.returncode, there.returncode) == (0, 0), there.stdout
    one, other = project.runs
    assert result(one) == result(other)
    assert record(one / "run.json")["signature"] == record(other / "run.json")["signature"]
    job = record(other / "jobs/0001.json")
    assert job["job"] == other.name
    assert record(other / "attempts/000001.json")["job"] == job["job"]
    assert (job["executor"], job["target"], job["cancelled"]) == ("skypilot", "there", False)
    assert job["ticket"] and job["handle"] and job["bundle"]
    assert "there: tried in this order" in there.stdout  # the price is told before it is paid
    assert f"{other.name} completed: sum " in there.stdout


def test_what_was_moved_is_come_back_to_by_another_word(project: Project) -> None:
    child = project.popen("task=train", "task.steps=200", "task.pace=0.05")
    run = wait_for_attempt(project)
    wait_for(lambda: list((run / "log").glob("*")))
    end(child, signal.SIGINT)
    child = project.popen("move", run.name, "compute=there", "--yes")
    wait_for_attempt(project, 2)
    said = end(child, signal.SIGINT)
    assert f"  come back  crown-exp resume {run.name}\n" in said
    assert child.returncode == 130
    back = project.crown("resume", run.name)
    assert back.returncode == 0, back.stdout
    assert len(ends(run)) == 2 and len(list((run / "jobs").iterdir())) == 1


def test_variables_that_hydra_sets_are_set_there(project: Project) -> None:
    (project.root / "reads.py").write_text(
        "import os\n\n\ndef train(run):\n    return os.environ.get('MINE')\n"
    )
    task = "+task._target_=reads.train"
    variable = "+hydra.job.env_set.MINE='job ${hydra.job.num}'"
    done = project.crown("-m", task, variable, "seed=1,2", "compute=there", "--yes")
    assert done.returncode == 0, done.stdout
    assert sorted(record(run / "result.json")["result"] for run in project.runs) == [
        "job 0",
        "job 1",
    ]
    refused = project.crown(task, "+hydra.job.env_set.MY_TOKEN=abc-456-789", "compute=there")
    assert refused.returncode == 2
    assert "type compute.secrets=[MY_TOKEN]" in refused.stdout
    assert len(project.runs) == 2


READS = """
import os
import time


def train(run, pace: float = 0.5):
    for _ in run.steps(40):
        time.sleep(0 if run.resumed else pace)
    return os.environ.get("MINE")
"""


@pytest.mark.parametrize("word", ["resume", "move"])
def test_variables_that_hydra_sets_go_on_with_a_run_and_with_its_fork(
    project: Project, word: str
) -> None:
    (project.root / "reads.py").write_text(READS)
    task = ("+task._target_=reads.train", "checkpoint.every=5 steps", "--yes")
    typed = (*task, "compute=there", "+hydra.job.env_set.MINE=4")
    child = project.popen(*typed)
    run = wait_for_attempt(project)
    wait_for(lambda: list((run / "log").glob("*")))
    end(child, signal.SIGINT)
    if word == "resume":
        assert project.crown("cancel", run.name, "--yes").returncode == 0
    gone_on = project.crown(word, run.name, "compute=on_demand", "--yes")
    assert gone_on.returncode == 0, gone_on.stdout
    assert result(run) == "4"
    jobs = sorted((run / "jobs").glob("????.json"))
    assert [record(job)["env"] for job in jobs] == [{"MINE": "4"}] * 2
    if word == "resume":
        return
    fork = project.crown("fork", run.name, "task.pace=0", "--yes")
    assert fork.returncode == 0, fork.stdout
    (other,) = [it for it in project.runs if it != run]
    assert result(other) == "4"


def test_a_mixed_sweep_brings_all_values_back(project: Project) -> None:
    done = project.crown("-m", "task=train", "compute=local,there", "task.lr=0.1,0.2", "--yes")
    assert done.returncode == 0, done.stdout
    assert len(project.runs) == 4
    found = {(record(run / "run.json")["compute"], result(run)["sum"]) for run in project.runs}
    assert len({value for _, value in found}) == 2
    assert {name for name, _ in found} == {"local", "there"}
    again = project.crown("-m", "task=train", "compute=there", "task.lr=0.1,0.2,0.3", "--yes")
    assert again.returncode == 0
    assert len(project.runs) == 5  # two were done
    assert again.stdout.count("done") >= 2


def test_one_that_fails_hides_no_other(project: Project) -> None:
    done = project.crown("-m", "task=fails,train", "compute=there", "--yes")
    assert done.returncode == 1
    assert "ValueError: the data is not there" in done.stdout
    assert "crown-exp logs " in done.stdout
    assert {ends(run)[-1] for run in project.runs} == {0, 1}


def test_a_run_that_asks_to_be_called_again_is(project: Project, tmp_path: Path) -> None:
    typed = ("task=train", f"task.asks={tmp_path / 'asked'}", "compute=there", "--yes")
    done = project.crown(*typed)
    assert done.returncode == 0, done.stdout
    (run,) = project.runs
    assert ends(run) == [75, 0]


def test_preempted_three_times_it_is_bit_for_bit_the_same(project: Project) -> None:
    typed = ("task=hastens", "task.slow=3", "checkpoint.every=1 steps")
    straight = project.crown(*typed, "task.pace=0")
    assert straight.returncode == 0
    child = project.popen(*typed, "compute=there", "reuse=never", "--yes")
    (_, run) = wait_for(lambda: project.runs if len(project.runs) == 2 else None)
    for number in (1, 2, 3):
        manifests = run / "checkpoints"
        wait_for(lambda: list(manifests.glob(f"{number:06}-*.json")))  # noqa: B023
        preempt(project, run.name)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 0, said
    assert result(run) == result(project.runs[0])
    assert set(jobs_of(run)) == {run.name}


def test_a_launcher_that_was_killed_is_gone_on_with(project: Project, tmp_path: Path) -> None:
    typed = ("task=holds", f"task.until={tmp_path / 'go'}", "compute=there", "--yes")
    child = project.popen(*typed)
    run = wait_for_attempt(project)
    end(child, signal.SIGKILL)
    again = project.popen(*typed)
    heard = Heard(again)
    heard.until("running")
    (tmp_path / "go").touch()
    said = heard.rest()
    assert again.returncode == 0, said
    assert project.runs == [run]
    assert ends(run) == [0]  # it was not begun again
    assert len(list((run / "jobs").glob("*.json"))) == 1


def test_ctrl_c_leaves_it_running(project: Project) -> None:
    typed = ("task=train", "task.steps=200", "task.pace=0.05", "compute=there", "--yes")
    child = project.popen(*typed)
    run = wait_for_attempt(project)
    said = end(child, signal.SIGINT)
    assert child.returncode == 130
    assert f"crown-exp logs -f {run.name}" in said
    wait_for((run / "result.json").exists)
    shown = project.crown("show", run.name)
    assert "completed" in shown.stdout


def test_ctrl_c_while_jobs_are_being_accepted(project: Project) -> None:
    state = state_of(project)
    state.mkdir()
    edge.delay(state, launch=2000.0)  # 20 s
    typed = ("-m", "task=train", "compute=there,local", "--yes")
    child = project.popen(*typed)

    def asked() -> bool:
        paths = (path for run in project.runs for path in run.glob("jobs/0001.json"))
        return any(record(path)["ticket"] for path in paths)

    wait_for(asked)
    said = end(child, signal.SIGINT)
    assert child.returncode == 130
    (run,) = project.runs  # the one for here was not begun
    assert f"crown-exp logs -f {run.name}" in said
    edge.delay(state)
    done = project.crown(*typed)
    assert done.returncode == 0, done.stdout
    assert [ends(run) for run in project.runs] == [[0], [0]]


def test_it_does_not_go_on_here_while_its_job_waits(project: Project) -> None:
    state = state_of(project)
    state.mkdir()
    edge.delay(state, begins=60000.0)  # 10 minutes
    child = project.popen("task=train", "compute=there", "--yes")

    def accepted() -> bool:
        return any(record(run / "jobs/0001.json")["handle"] for run in project.runs if jobs(run))

    wait_for(accepted)
    (run,) = project.runs
    refused = project.crown("resume", run.name, "compute=local")
    assert refused.returncode == 2
    assert f"type crown-exp move {run.name} compute=local" in refused.stdout
    assert not (run / "jobs/0001.cancelled").exists()
    assert project.crown("cancel", run.name, "--yes").returncode == 0
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert not list(run.glob("attempts/*"))


def jobs(run: Path) -> list[Path]:
    return list(run.glob("jobs/*.json"))


def test_it_is_cancelled_from_another_terminal(project: Project) -> None:
    typed = ("task=train", "task.steps=2000", "task.pace=0.05", "compute=there", "--yes")
    child = project.popen(*typed)
    run = wait_for_attempt(project)
    assert project.crown("cancel", run.name, "--yes").returncode == 0
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert (run / "jobs/0001.cancelled").read_text() == "cancelled by the user\n"
    with executor_of(project) as executor:
        wait_for(lambda: not executor.jobs())


def test_moved_there_and_back_it_is_one_run(project: Project, tmp_path: Path) -> None:
    typed = ("task=hastens", "task.steps=2000", "task.slow=2")
    straight = project.crown(*typed, "task.pace=0")
    assert straight.returncode == 0
    child = project.popen(*typed, "task.pace=0.05", f"task.until={tmp_path / 'go'}")
    (_, run) = wait_for(lambda: project.runs if len(project.runs) == 2 else None)
    wait_for((run / "attempts/000001.json").exists)
    away = project.popen("move", run.name, "compute=there", "--yes")
    child.communicate(timeout=60)
    assert child.returncode == 75
    wait_for((run / "attempts/000002.json").exists)
    back = project.popen("move", run.name, "compute=local")
    # whoever watched it there sees that it was stopped, or that it goes on already
    said, _ = away.communicate(timeout=120)
    told = {130: "moved to another machine", 76: "it goes on elsewhere: attempt 3"}
    assert told[away.returncode] in said
    (tmp_path / "go").touch()
    said, _ = back.communicate(timeout=120)
    assert back.returncode == 0, said
    assert result(run) == result(project.runs[0])
    assert jobs_of(run) == [None, run.name, None]


def test_a_price_that_nobody_agreed_to_is_not_paid(project: Project) -> None:
    typed = ("task=train", "compute=there", "budget.confirm_above_usd=0")
    refused = project.crown(*typed)
    assert refused.returncode == 2
    assert "--yes" in refused.stdout
    assert project.runs == []
    capped = project.crown(*typed, "budget.run_usd=0.01", "--yes")
    assert capped.returncode == 77
    assert "budget.run_usd" in capped.stdout
    assert project.runs == []


def test_nothing_is_launched_if_any_config_is_bad(project: Project) -> None:
    done = project.crown("-m", "task=train", "compute=there", "task.lr=0.1,x", "--yes")
    assert done.returncode == 2
    assert project.runs == []


def test_a_plan_launches_nothing(project: Project) -> None:
    typed = ("-m", "task=train", "compute=there,local", "task.lr=0.1,0.2")
    planned = project.crown("plan", *typed)
    assert planned.returncode == 0
    assert planned.stdout.count("new") == 4
    assert project.runs == []
    assert (
        project.crown("-m", "task=train", "compute=there", "task.lr=0.1", "--yes").returncode == 0
    )
    assert "done" in project.crown("plan", *typed).stdout


def test_quota(project: Project) -> None:
    edge.refuse(state_of(project), "ResourcesUnavailableError", "quota: 0 of A100 in all regions")
    done = project.crown("task=train", "compute=there", "--yes")
    assert done.returncode == 1
    assert "quota: 0 of A100" in done.stdout
    (run,) = project.runs
    assert "stopped" in project.crown("runs").stdout
    edge.refuse(state_of(project), "", "")
    again = project.crown("task=train", "compute=there", "--yes")
    assert again.returncode == 0, again.stdout
    assert project.runs == [run]
