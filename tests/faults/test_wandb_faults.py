"""W&B dead, deaf or away: the run completes, its log has everything, one line is said, the end is bounded."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crown_exp.folder import decode_segment
from tests import wandb_files
from tests.pages import ROOT
from tests.running import Project, ends
from tests.stalls import late

pytest.importorskip("wandb", reason="W&B is not installed")
pytestmark = pytest.mark.skipif(
    not Path("/proc").is_dir(), reason="processes are looked up in /proc"
)

TASKS = '''
import os
import time
from pathlib import Path


def train(run, *, steps: int = 200, wait: str = "", here: bool = True):
    """Logs, tells that it has begun, and waits for a file before its last half."""
    for step in run.steps(steps):
        run.log(loss=1 / (1 + run.step), rate=0.1)
        if wait and run.step == steps // 2:
            Path("began").write_text(str(os.getpid()))
            while not Path(wait).exists():
                time.sleep(0.01)
    return {"loss": 0.5}
'''
KEY = "0123456789" * 4
BOUND_SECONDS = 40.0
"""Ten seconds for W&B, and what a start and an end take on a busy machine; what it stood still comes on top."""
GIVE_UP_SECONDS = 200.0

PATIENT = """
from crown_exp.tracking import wandb
from crown_exp.tracking.feed import Feed

wandb.FINISH_SECONDS = 110.0
Feed.__init__.__kwdefaults__["finish_seconds"] = 100.0
"""
"""Python's sitecustomize.py of a run that W&B is to have in whole, however long it takes there."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project.write(tmp_path / "theirs", TASKS)
    (tmp_path / "user").mkdir()
    (temporary := tmp_path / "t").mkdir()
    project.environment |= {
        "HOME": str(tmp_path / "user"), "COLUMNS": "80", "TMPDIR": str(temporary)
    }  # fmt: skip
    return project


@pytest.fixture
def begun(project: Project) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a run that waits in its middle, once W&B is ready; ends it if the test did not."""
    started: list[subprocess.Popen[str]] = []

    def begin(*overrides: str) -> subprocess.Popen[str]:
        run = project.popen("task=train", "tracker=wandb", "task.wait=go", *overrides)
        started.append(run)
        while not (project.root / "began").exists():
            assert run.poll() is None, run.communicate()
            time.sleep(0.01)
        return run

    yield begin
    for run in started:
        if run.poll() is None:
            run.kill()
            run.communicate()


def ready(run: subprocess.Popen[str]) -> tuple[int, int]:
    """The processes of W&B that a run has started, ours and wandb's, once W&B has begun its run."""
    assert run.stdout is not None
    lines = []
    for line in run.stdout:
        lines.append(line)
        if line.startswith("W&B offline"):
            (ours,) = wandb_files.children(run.pid)
            return ours, wandb_files.children(ours)[0]
    raise AssertionError(lines)


def logged(project: Project) -> list[tuple[int, dict[str, float]]]:
    """What the one run's own log holds."""
    (folder,) = project.runs
    records = [
        record
        for path in sorted(folder.glob("log/*.seg"))
        for batch in decode_segment(path.read_bytes()).batches
        for record in batch
    ]
    return [(record[1], record[3]) for record in records if record[0] == "m"]


def seen_through(project: Project, run: subprocess.Popen[str]) -> str:
    """Let the run go on; what it said in all, once it has completed with all of its log."""
    (project.root / "go").touch()
    with late() as stalls:
        began = time.monotonic()
        said, _ = run.communicate(timeout=GIVE_UP_SECONDS)
        took = time.monotonic() - began
    assert run.returncode == 0, said
    assert took <= BOUND_SECONDS + sum(stalls), said
    assert len(logged(project)) == 200
    assert ends(project.runs[0]) == [0]
    return said


def left_out(said: str) -> list[str]:
    return [line for line in said.splitlines() if "left out" in line]


def gone(pid: int) -> bool:
    """Whether a process has ended, or ends within a while."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):  # the latter: as it is read
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def patient(project: Project, tmp_path: Path) -> Project:
    """The project, whose runs wait for W&B longer than users' do: ten seconds are little on a busy machine."""
    (folder := tmp_path / "patient").mkdir()
    (folder / "sitecustomize.py").write_text(PATIENT)
    project.environment["PYTHONPATH"] = f"{folder}{os.pathsep}{ROOT}"
    return project


def test_the_whole_run_is_in_the_file_that_it_writes_offline(patient: Project) -> None:
    project = patient
    done = project.crown("task=train", "tracker=wandb", "task.steps=3000")
    assert done.returncode == 0, done.stdout
    run_id = project.runs[0].name
    there = wandb_files.rows(project.root / ".crown", run_id)
    assert len(there) == 3000
    assert there == logged(project)
    assert f"crown-exp push --wandb {run_id}" in done.stdout
    assert left_out(done.stdout) == []
    assert project.tree() == {"pyproject.toml", "tasks.py", "conf/task/train.yaml"}


def test_every_run_of_a_sweep_has_its_own(patient: Project) -> None:
    project = patient
    done = project.crown("-m", "task=train", "tracker=wandb", "task.steps=3,5")
    assert done.returncode == 0, done.stdout
    home = project.root / ".crown"
    there = [wandb_files.rows(home, folder.name) for folder in project.runs]
    assert [len(rows) for rows in there] == [3, 5]


@pytest.mark.parametrize("which", ["wandb's service", "our process"])
def test_killed_in_mid_run(
    project: Project, begun: Callable[..., subprocess.Popen[str]], which: str
) -> None:
    run = begun()
    ours, theirs = ready(run)
    os.kill(theirs if which == "wandb's service" else ours, signal.SIGKILL)
    (line,) = left_out(seen_through(project, run))
    reasons = {
        "wandb's service": "W&B's process was ended",
        "our process": "its process was ended by SIGKILL: it said nothing",
    }
    assert line.startswith(f"WandB failed: {reasons[which]};")
    later = f"to send it later: crown-exp push --wandb {project.runs[0].name}"
    assert line.endswith(f"it is left out, and the run's own log has it all; {later}")
    assert gone(ours) and gone(theirs)


def test_stopped_in_mid_run_it_delays_the_end_by_ten_seconds_and_leaves_with_it(
    project: Project, begun: Callable[..., subprocess.Popen[str]]
) -> None:
    run = begun()
    ours, theirs = ready(run)
    os.kill(theirs, signal.SIGSTOP)
    try:
        (line,) = left_out(seen_through(project, run))
        assert line.startswith("WandB was not done 10 s after the end")
        assert gone(ours)
    finally:
        os.kill(theirs, signal.SIGKILL)


def test_a_run_that_is_killed_leaves_what_it_logged_and_no_process(
    project: Project, begun: Callable[..., subprocess.Popen[str]]
) -> None:
    run = begun()
    ours, theirs = ready(run)
    run.kill()
    run.communicate()
    assert gone(ours) and gone(theirs)
    there = wandb_files.rows(project.root / ".crown", project.runs[0].name)
    assert there == logged(project)[: len(there)]
    assert list(Path(project.environment["TMPDIR"]).iterdir()) == []


@pytest.fixture
def deaf() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers(project: Project, deaf: str) -> None:
    project.environment |= {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": deaf}
    run = project.popen("task=train", "tracker=wandb")
    said = seen_through(project, run)
    (line,) = left_out(said)
    assert line.startswith("WandB was not done 10 s after the end")
    assert KEY not in said


@pytest.mark.full
def test_a_server_that_is_not_there(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    project.environment |= {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": url}
    run = project.popen("task=train", "tracker=wandb")
    assert len(left_out(seen_through(project, run))) == 1


def test_a_key_that_is_none_is_never_shown(project: Project) -> None:
    project.environment |= {
        "WANDB_API_KEY": "short-and-secret",
        "WANDB_BASE_URL": "http://127.0.0.1:9",
    }
    said = seen_through(project, project.popen("task=train", "tracker=wandb"))
    (line,) = left_out(said)
    assert "API key must have 40+ characters" in line
    assert "short-and-secret" not in said
