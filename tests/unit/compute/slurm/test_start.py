"""What Slurm's batch script becomes, without a Slurm: it cannot ask for another start, all else is as there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from crown_exp.compute.base import Job, Target
from crown_exp.compute.executors.slurm.jobs import KEPT_SECONDS, SUBMIT_SECONDS, JobFolders
from crown_exp.storage.machine import alive

WAITS = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
TELLS = """
import signal, sys, time
got = []
signal.signal(signal.SIGUSR2, lambda number, frame: got.append(number))
print("up", flush=True)
while not got:
    time.sleep(0.01)
sys.exit(75)
"""


class Start:
    """A job's folder, and its starts."""

    def __init__(self, root: Path) -> None:
        self.root, self.folders = root, JobFolders(root / "slurm")

    def prepare(self, code: str, **options: Any) -> Path:
        self.folder = self.folders.prepare(
            Job("j", (sys.executable, "-c", code), Target(), directory=self.root, **options)
        )
        self.folders.note("7", "j")
        return self.folder

    def popen(self, restarts: int = 0) -> subprocess.Popen[str]:
        bare = {"PATH": str(self.root), "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts)}
        return subprocess.Popen(
            [sys.executable, str(self.folder / "start.py"), str(self.folder)], env=bare, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, restarts: int = 0) -> tuple[int, str]:
        child = self.popen(restarts)
        try:
            _, said = child.communicate(timeout=120)
        finally:
            child.kill()
        return child.returncode, said

    def end(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "end.json").read_text())
        return found


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(tmp_path)


@pytest.mark.parametrize("code", [0, 1, 77])
def test_it_ends_as_the_command_does(start: Start, code: int) -> None:
    folder = start.prepare(f"raise SystemExit({code})", secrets={"TOKEN": "hush"})
    assert start.run()[0] == code
    assert start.end() == {"handle": "7", "exit_code": code, "began_nothing": False, "lost": 0}
    assert not (folder / "secrets.json").exists()


def test_a_job_that_asks_for_another_start_keeps_its_secrets(start: Start) -> None:
    code = "import os; raise SystemExit(75 if os.environ['TOKEN'] == 'hush' else 1)"
    folder = start.prepare(code, secrets={"TOKEN": "hush"}, env={"TOKEN": "not this"})
    assert start.run()[0] == start.run(1)[0] == 75
    assert (folder / "secrets.json").stat().st_mode & 0o777 == 0o600
    start.folders.forget_secrets("7")
    code_, said = start.run(2)
    assert (code_, start.end()["began_nothing"]) == (1, True)
    assert "secrets.json" in said


def test_ends_with_80_are_counted(start: Start) -> None:
    start.prepare("raise SystemExit(80)", secrets={"TOKEN": "hush"})
    for restarts in range(5):
        assert start.run(restarts)[0] == 80
        assert start.end()["lost"] == (5 if restarts == 4 else 0)
    assert not (start.folder / "secrets.json").exists()


def test_a_start_that_another_has_followed_says_nothing(start: Start) -> None:
    """Its node was cut off: it must not have the later one run again, nor take its secrets."""
    began = json.dumps({"handle": "7", "restarts": 1})
    code = f"import pathlib; pathlib.Path('slurm/j/began.json').write_text({began!r})"
    folder = start.prepare(code, secrets={"TOKEN": "hush"})
    assert start.run()[0] == 0
    assert not (folder / "end.json").exists()
    assert (folder / "secrets.json").exists()


def test_signals_are_passed_on(start: Start) -> None:
    start.prepare(TELLS)
    child = start.popen()
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        child.send_signal(signal.SIGTERM)  # as SIGUSR2, as Slurm may have sent SIGTERM itself
        child.communicate(timeout=120)
    finally:
        child.kill()
    assert child.returncode == 75


def test_the_command_does_not_outlive_it(start: Start) -> None:
    start.prepare(WAITS)
    with start.popen() as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        child.kill()
    until = time.monotonic() + 120
    while alive(pid, None):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_is_kept_of_jobs_goes_with_time(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path)
    ages = {
        "live": 2 * KEPT_SECONDS,
        "old": 2 * KEPT_SECONDS,
        "over": 2 * SUBMIT_SECONDS,
        "new": 1.0,
    }
    for name, age in ages.items():
        folder = folders.prepare(Job(name, ("true",), Target(), secrets={"TOKEN": "hush"}))
        for path in (*folder.iterdir(), folder):
            os.utime(path, (time.time() - age, time.time() - age))
    folders.tidy({"live"})
    kept = {path.name: (path / "secrets.json").exists() for path in tmp_path.iterdir()}
    assert kept == {"live": True, "over": False, "new": True}


def test_secrets_of_a_later_job_of_the_name_stay(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path)
    for handle in ("1", "2"):
        folder = folders.prepare(Job("j", ("true",), Target(), secrets={"TOKEN": "hush"}))
        folders.note(handle, "j")
    folders.forget_secrets("1")
    assert (folder / "secrets.json").exists()
    folders.forget_secrets("2")
    assert not (folder / "secrets.json").exists()
