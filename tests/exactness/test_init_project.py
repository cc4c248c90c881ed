"""A project that `init` wrote, run by an installed wheel: killed, resumed, and every bit the same."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests.e2e.test_init_wheel import Shell, environment, project, venv_bin, wheel  # noqa: F401
from tests.exactness.runs import Recorded, outcome_of

COMMAND = ("crown-exp", "+experiment=digits_cnn", "model=mine", "task.steps=800", "tracker=none",
           "checkpoint.every='50 steps'", "device.threads=1", "device.kind=cpu")  # fmt: skip


def newest(shell: Shell) -> Recorded:
    """The run that the last command made."""
    store = shell.directory / ".crown" / "store"
    made = max((store / "runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime)
    return Recorded(made.parent.name, store, shell.directory)


@pytest.mark.full
def test_a_run_of_a_new_project_survives_a_kill(project: Shell) -> None:  # noqa: F811
    project.run(*COMMAND)
    straight = newest(project)
    child = subprocess.Popen(
        [str(project.bin / COMMAND[0]), *COMMAND[1:]], cwd=project.directory,
        env=environment(project.bin, project.directory), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    while (killed := newest(project)).id == straight.id or not killed.has_checkpoint:
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL and killed.codes() == [-1]
    said = project.run("crown-exp", "resume", killed.id, "device.workers=2").stderr
    assert "goes on after step" in said
    assert killed.codes() == [-1, 0]
    assert outcome_of(straight).difference(outcome_of(killed)) == ""
