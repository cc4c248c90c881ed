"""`shell compute=slurm` on a real Slurm: srun in this terminal, with the project as it was sent."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Project
from tests.slurm import cluster, missing
from tests.typed import Typed

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.timeout(300),
]

TASKS = "SAYS = 'as it was sent'\n\ndef train(run): return 1.0\n"
LOOKS = "import os, tasks; print('began', tasks.SAYS, 'job', os.environ.get('CROWN_JOB'))"
WORDS = ("shell", "compute=slurm", "compute.cpus=1", "compute.time='5 minutes'")


@pytest.fixture(scope="module")
def slurm() -> Iterator[str]:
    with cluster() as conf:
        yield conf


@pytest.fixture
def project(tmp_path: Path, slurm: str) -> Project:
    project = Project.write(tmp_path / "project", TASKS)
    project.environment |= {"SLURM_CONF": slurm, "CROWN_USER": "ada", "TOKEN": "hush-hush"}
    return project


def asked(project: Project, form: str) -> str:
    done = subprocess.run(
        ["squeue", "-h", "-t", "R", "-o", form],
        capture_output=True, text=True, check=True, env={"PATH": "/usr/bin", **project.environment},
    )  # fmt: skip
    return done.stdout.strip()


def test_a_shell_at_a_terminal_has_the_project_and_gives_the_machine_back(project: Project) -> None:
    typed = Typed(project, *WORDS, "compute.secrets=[TOKEN]")
    typed.wait_for("making it ready")
    typed.type(f"python -c \"{LOOKS}\"; echo $TOKEN; test -t 0 && echo a' 'terminal\n")
    typed.wait_for("began as it was sent job None")
    typed.wait_for("hush-hush")
    typed.wait_for("a terminal")
    assert asked(project, "%j %C %l") == "crown-shell-ada-slurm 1 5:00"
    (project.root / "tasks.py").write_text("SAYS = 'edited'\n")
    typed.type(f'python -c "{LOOKS}" | tee again\n')  # the machine's copy is not changed by that
    typed.wait_for("again\r\n")
    typed.type("exit 6\n")
    assert typed.end() == 6
    assert "edited" not in typed.said
    assert "ends itself" not in typed.said


def test_one_that_is_left_open_is_ended_from_elsewhere(project: Project) -> None:
    with project.popen(*WORDS, "--", "sh", "-c", "echo began; sleep 300") as child:
        assert child.stdout is not None
        while "began" not in child.stdout.readline():
            assert child.poll() is None
        ended = project.crown("shell", "compute=slurm", "--end")
        assert ended.stdout == "crown-shell-ada-slurm is ended\n"
        until = time.monotonic() + 60
        while child.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert child.returncode != 0


def test_a_run_there_is_one_of_our_store(project: Project) -> None:
    done = project.crown(*WORDS, "--", "python", "-m", "crown_exp", "task=train")
    assert done.returncode == 0, done.stdout
    assert len(project.runs) == 1
