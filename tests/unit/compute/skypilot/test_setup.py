"""What a new machine runs, by real shells: as the user wrote it, and not for ever."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.compute.base import OVER, Job, JobState, Target
from crown_exp.compute.executors.skypilot import setup as module
from crown_exp.compute.executors.skypilot.setup import setup
from tests.elsewhere import until
from tests.sky_project import executor_of, sky_project

PREPARE = (sys.executable, "-c", "import os; print(os.getcwd(), os.environ['IT'])")
LONG = 3600.0
SAID = "crown: compute.setup, with what follows it, took more than compute.start_deadline ({} s), and was ended"


@pytest.fixture(params=["bash", "bash -i"])
def shell(request: pytest.FixtureRequest) -> list[str]:
    """SkyPilot sets up with an interactive shell that has no terminal, and tests' stand-in with a plain one."""
    return str(request.param).split()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Path]:
    """A file in which commands note their pids; none of them is left at the end."""
    notes = tmp_path / "pids"
    yield notes
    until(lambda: left(notes) == [])  # the dead take a moment; the living would take 1000 s


def left(notes: Path) -> list[int]:
    """Those that live."""
    pids = [int(line) for line in notes.read_text().split()] if notes.exists() else []
    return [pid for pid in pids if lives(pid)]


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # just now
        return False
    return state != "Z"


def begin(text: str | None, shell: list[str], folder: Path) -> subprocess.Popen[str]:
    """As SkyPilot begins it: a script with its own lines before ours."""
    assert text is not None
    script = folder / "setup.sh"
    script.write_text(f"#!/bin/bash\nfunction module() {{ echo loads $1; }}\nHERE=yes\n{text}\n")
    return subprocess.Popen(
        [*shell, str(script)], cwd=folder, start_new_session=True, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )  # fmt: skip


def done(text: str | None, shell: list[str], folder: Path) -> tuple[int, list[str]]:
    """The exit code, and what was printed, without what an interactive shell misses."""
    child = begin(text, shell, folder)
    try:
        printed, _ = child.communicate(timeout=120)
    finally:
        child.kill()
    lines = printed.splitlines()
    return child.returncode, [line for line in lines if not line.startswith("bash: ")]


@pytest.mark.parametrize("deadline", [LONG, math.inf], ids=["bounded", "not bounded"])
def test_commands_share_the_shell_that_they_are_given(
    shell: list[str], tmp_path: Path, deadline: float
) -> None:
    """With its functions and variables, in order, output as it comes, and what prepares comes in it, too."""
    (tmp_path / "sub").mkdir()
    commands = (
        "module cuda",
        "echo $HERE >&2",
        "export IT=set",
        "cd sub",
        "cat",
        "wc -c <<E\nabc\nE",
    )
    text = setup(Target(setup=commands, start_deadline=deadline), PREPARE)
    assert done(text, shell, tmp_path) == (0, ["loads cuda", "yes", "4", f"{tmp_path}/sub set"])


@pytest.mark.parametrize("deadline", [LONG, math.inf], ids=["bounded", "not bounded"])
def test_the_first_that_fails_ends_it_with_its_code(
    shell: list[str], tmp_path: Path, deadline: float
) -> None:
    commands = ("echo begins", "(exit 7)", "echo not this")
    text = setup(Target(setup=commands, start_deadline=deadline), PREPARE)
    assert done(text, shell, tmp_path) == (7, ["begins"])


@pytest.mark.parametrize(
    "commands",
    [
        ("sleep 1000 & echo $! >> pids", "echo $BASHPID >> pids", "sleep 1000", "echo not this"),
        ("trap 'exit 0' TERM", "sleep 1000 & echo $! >> pids; wait", "echo not this"),
        ("trap '' TERM", "echo $BASHPID >> pids; sleep 1000; sleep 1000"),
    ],
    ids=["ends at SIGTERM", "says that all is well", "does not hear SIGTERM"],
)
def test_what_never_ends_is_ended_with_all_that_it_started(
    shell: list[str],
    tmp_path: Path,
    started: Path,
    monkeypatch: pytest.MonkeyPatch,
    commands: tuple[str, ...],
) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 1)
    # its first commands are to be done by then: bash counts whole seconds, and the first may be none
    text = setup(Target(setup=("echo begins", *commands), start_deadline=2.4), PREPARE)
    code, lines = done(text, shell, tmp_path)
    assert (code, lines) == (1, ["begins", SAID.format(3)])
    assert started.exists()


def test_what_prepares_the_machine_is_bounded_with_it(shell: list[str], tmp_path: Path) -> None:
    text = setup(Target(setup=("export IT=set",), start_deadline=1.0), ("sleep", "1000"))
    assert done(text, shell, tmp_path) == (1, [SAID.format(1)])


def test_what_it_leaves_behind_goes_on(shell: list[str], tmp_path: Path) -> None:
    """A server that the setup starts is for the run."""
    command = "sleep 1000 > /dev/null 2>&1 & echo $! > server"
    text = setup(Target(setup=(command,), start_deadline=LONG), ("true",))
    assert done(text, shell, tmp_path) == (0, [])
    server = int((tmp_path / "server").read_text())
    assert lives(server)
    os.kill(server, signal.SIGKILL)


def test_it_does_not_outlive_the_shell_that_waits_for_it(
    shell: list[str], tmp_path: Path, started: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 1)
    command = "echo $BASHPID >> pids; sleep 1000"
    with begin(setup(Target(setup=(command,), start_deadline=LONG), ()), shell, tmp_path) as child:
        until(lambda: started.exists() and started.read_text().strip())
        child.kill()
        child.wait()
        until(lambda: left(started) == [])


def test_a_job_ends_by_it_with_nobody_there_to_watch(tmp_path: Path) -> None:
    target = Target(name="there", executor="skypilot", setup=("sleep 1000",), start_deadline=1.0)
    job = Job("r1", ("true",), target, directory=tmp_path)
    with sky_project(tmp_path / "project", "") as project, executor_of(project) as executor:
        handle = executor.handle(executor.submit(job))
        until(lambda: executor.poll([handle])[handle].state in OVER)
        status = executor.poll([handle])[handle]
        assert (status.state, status.began_nothing) == (JobState.FAILED, True)
        assert SAID.format(1) in executor.log(handle).splitlines()


def test_without_commands_of_a_user_nothing_is_added() -> None:
    assert setup(Target(), ()) is None
    assert setup(Target(), ("python3", "start.py", "prepare")) == "set -e\npython3 start.py prepare"
