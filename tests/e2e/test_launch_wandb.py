"""A run elsewhere that is preempted is one run of W&B's, as it would be here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import wandb_files
from tests.remote_runs import TASKS, result, wait_for
from tests.running import Project, ends
from tests.sky_project import executor_of, preempt, sky_project
from tests.wandb_server import Server, wandb_server

pytest.importorskip("wandb", reason="W&B is not installed")

KEY = "0123456789" * 4
STEPS = 200


@pytest.fixture
def server() -> Iterator[Server]:
    with wandb_server() as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, server: Server) -> Iterator[Project]:
    with sky_project(tmp_path / "project", TASKS) as project:
        (tmp_path / "user").mkdir()
        project.environment |= {
            "HOME": str(tmp_path / "user"),  # no other W&B account is known there
            "WANDB_BASE_URL": server.url,
            "WANDB_API_KEY": KEY,
        }
        yield project


def test_preempted_once_it_is_one_curve(project: Project, server: Server) -> None:
    typed = ("task=hastens", f"task.steps={STEPS}", "checkpoint.every=7 steps")
    child = project.popen(*typed, "tracker=wandb", "compute=there", "--yes")
    (run,) = wait_for(lambda: project.runs)
    wait_for(lambda: list((run / "checkpoints").glob("000001-*.json")))
    preempt(project, run.name)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 0, said
    with executor_of(project) as executor:
        wait_for(lambda: not executor.jobs())
    assert len(ends(run)) == 2

    assert set(server.runs) == {run.name}
    sent = wandb_files.points(server.runs[run.name].history)
    sums = [(step, values["sum"]) for step, values in sent if "sum" in values]
    assert [step for step, _ in sums] == [*range(1, STEPS + 1)]
    assert sums[-1][1] == pytest.approx(result(run)["sum"])
    assert server.runs[run.name].exit_code == 0
    for path in (project.root / ".crown").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_without_a_key_the_plan_says_that_none_travels(project: Project) -> None:
    del project.environment["WANDB_API_KEY"]

    def told(*typed: str) -> str:
        return project.crown("plan", "task=train", "compute=there", *typed).stdout

    (warning,) = warnings_in(told("tracker=wandb", "--json"))
    assert warning.startswith("no W&B key is here to travel")
    assert warnings_in(told("--json")) == []
    assert "\nwarning     no W&B key is here to" in told("tracker=wandb")


def warnings_in(said: str) -> list[str]:
    """Those of the plan among what was printed on both streams."""
    plan = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    return list(plan["warnings"])
