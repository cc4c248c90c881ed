"""Ctrl-C at any moment of a process: no traceback, the right code, whole records."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.running import Project, ends

TASKS = """
import time

def pure(run):
    for turn in run.steps(15):
        time.sleep(0.02)
        run.log(x=turn)
    return {"x": 1}

def with_torch(run):
    import torch
    weight = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for batch in run.steps(run.batches(torch.ones(64, 3), batch_size=4), 100):
        run.backward(((batch - weight) ** 2).mean())
        run.update(optimizer)
        run.log(x=weight[0])
    return {"x": weight[0]}

def slow_turns(run):
    for turn in run.steps(1000):
        print("turn", turn, flush=True)
        for _ in range(2400):  # longer than anything waits here
            time.sleep(0.05)

def stubborn(run):
    while True:
        try:
            print("ready", flush=True)
            time.sleep(60)
        except Exception:
            pass
"""


def life(project: Project, *arguments: str) -> float:
    started = time.monotonic()
    done = project.crown(*arguments)
    assert done.returncode == 0, done.stdout
    return time.monotonic() - started


def python_s_own(said: str) -> str:
    """What is left after a traceback of an interpreter that has not come to our first line yet."""
    if re.search(r'File "[^"]*(crown_exp/|tasks\.py)', said):
        return said
    return re.sub(
        r"(Could not import runpy module\n)?Traceback.*\nKeyboardInterrupt\n", "", said, flags=re.S
    )


def interrupt(project: Project, after: float, *arguments: str, group: bool = False) -> None:
    """Start, interrupt, and hold everything against what must be."""
    known = set(project.runs)
    child = project.popen(*arguments, start_new_session=True)
    with suppress(subprocess.TimeoutExpired):  # it may live shorter than the one that was measured
        child.wait(after)
    if group:
        send_to_group(child)
    else:
        child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    where = f"{after:.3f} s after the start: {child.returncode}\n{said}"
    assert halves(project) == [], where
    left = python_s_own(said)
    assert "Traceback" not in left and "ignored" not in left, where
    begun = [ends(run) for run in project.runs if run not in known]
    if child.returncode != 130 and left == said:
        assert child.returncode in (0, -signal.SIGINT), where
        assert child.returncode == 0 or not begun, where
    for codes in begun:
        assert codes in ([], [0], [130]), (codes, where)
    if child.returncode == 0:
        assert all(codes == [0] for codes in begun), where


def halves(project: Project) -> list[str]:
    """Files of the store that belong to no whole run."""
    store = project.root / ".crown/store"
    whole = (
        "run.json",
        "config.yaml",
        "code/commit",
        "code/diff",
        "code/untracked.tar.gz",
        "code/lock",
    )
    found = []
    for path in store.rglob("*"):
        parts = path.relative_to(store).parts
        if path.is_file() and (
            parts[0] != "runs"
            or any(part.startswith(".crown-") for part in parts)
            or not all((store / "runs" / parts[1] / name).exists() for name in whole)
        ):
            found.append("/".join(parts))
    return sorted(found)


def send_to_group(child: subprocess.Popen[str]) -> None:
    """As a terminal does."""
    import os

    try:
        os.killpg(child.pid, signal.SIGINT)
    except ProcessLookupError:
        pass


def spread(project: Project, count: int, *arguments: str, group: bool = False) -> None:
    whole = life(project, *arguments)
    draw = random.Random(count)
    for number in range(count):
        interrupt(project, whole * (number + draw.random()) / count, *arguments, group=group)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.write(tmp_path, TASKS)


def test_ctrl_c_at_any_moment(project: Project) -> None:
    spread(project, 17, "task=pure")


def test_ctrl_c_at_any_moment_of_a_run_with_torch(project: Project) -> None:
    spread(project, 4, "task=with_torch")


def test_ctrl_c_at_any_moment_of_a_sweep(project: Project) -> None:
    spread(project, 5, "-m", "task=pure", "seed=1,2", group=True)


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "arguments", [("task=pure",), ("task=with_torch",), ("-m", "task=pure", "seed=1,2")]
)
def test_ctrl_c_at_many_moments(project: Project, arguments: tuple[str, ...]) -> None:
    spread(project, 100, *arguments, group="-m" in arguments)


def wait_for(child: subprocess.Popen[str], words: str) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if words in line:
            return
    raise AssertionError(f"it ended without a word of {words!r}")


def test_once_at_the_end_of_the_turn_twice_at_once(project: Project) -> None:
    child = project.popen("task=slow_turns")
    wait_for(child, "turn 0")
    child.send_signal(signal.SIGINT)
    wait_for(child, "stopping at the end of this turn; Ctrl-C again to stop now")
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "stopped after 0 steps" in said
    assert "Traceback" not in said
    (run,) = project.runs
    assert ends(run) == [130]


def test_sigterm_is_called_again(project: Project) -> None:
    child = project.popen("task=stubborn")
    wait_for(child, "ready")
    child.terminate()
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 75
    assert "preempted after 0 steps" in said
    (run,) = project.runs
    assert ends(run) == [75]
    again = project.popen("run", str(run))
    wait_for(again, "ready")
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    assert again.returncode == 130
    assert ends(run) == [75, 130]


def test_sigterm_before_a_run_begins(project: Project) -> None:
    slow_import = "import time\nprint('ready', flush=True)\ntime.sleep(600)\n"
    (project.root / "tasks.py").write_text(slow_import + TASKS)
    child = project.popen("task=pure")
    wait_for(child, "ready")
    child.terminate()
    said, _ = child.communicate(timeout=120)
    (run,) = project.runs
    folder = run.relative_to(project.root)
    waits = f"{run.name} was recorded but did not begin; folder {folder}"
    next_words = f"next crown-exp resume {run.name.partition('-')[2]}"
    assert (child.returncode, said) == (75, f"{waits}; {next_words}\ninterrupted\n")
    assert ends(run) == []


@pytest.mark.parametrize(
    ("arguments", "number", "code"),
    [
        (("task=pure",), signal.SIGINT, 130),
        (("task=pure",), signal.SIGTERM, 75),
        (("-m", "task=pure", "seed=1,2"), signal.SIGINT, 130),
    ],
)
def test_a_signal_while_a_run_is_recorded(
    project: Project, arguments: tuple[str, ...], number: signal.Signals, code: int
) -> None:
    # It takes long to begin: else a signal that is sent late would come in the run
    (project.root / "tasks.py").write_text(f"import time\ntime.sleep(600)\n{TASKS}")
    for part in range(8):
        data = random.Random(part).randbytes(2_400_000).hex()
        (project.root / f"data{part}.yaml").write_text(data)
    child = project.popen(*arguments)
    runs = project.root / ".crown/store/runs"
    while not list(runs.glob("*/code/*")) and child.poll() is None:
        time.sleep(0.001)
    child.send_signal(number)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == code, said
    assert "Traceback" not in said
    assert halves(project) == []
    assert all(ends(run) == [] for run in project.runs)
    assert not project.runs or "recorded but did not begin" in said


def test_a_stop_of_a_sweep_starts_no_other_run(project: Project) -> None:
    child = project.popen("-m", "task=stubborn", "seed=1,2,3", start_new_session=True)
    wait_for(child, "ready")
    send_to_group(child)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert [ends(run) for run in project.runs] == [[130]]
    assert "Traceback" not in said
