"""A run that is killed again and again is one curve in W&B: each step once in all that its attempts sent."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.tracking import Point, TrackedRun
from crown_exp.tracking.wandb import WandB
from tests import wandb_files
from tests.started import noted
from tests.wandb_server import Server, wandb_server

pytest.importorskip("wandb", reason="W&B is not installed")
pytestmark = pytest.mark.skipif(
    not Path("/proc").is_dir(), reason="processes are looked up in /proc"
)

RUN = "r261124-k7f3q2"
STEPS = 1500

ATTEMPT = """
import sys, time
from functools import partial
from pathlib import Path
from crown_exp.folder import RunPaths
from crown_exp.folder.segment import RESUMED
from crown_exp.storage import Portal, open_blobs
from crown_exp.tracking import TrackedRun
from crown_exp.tracking.feed import Feed
from crown_exp.tracking.replay import earlier_points
from crown_exp.tracking.run_log import RunLog
from crown_exp.tracking.wandb import WandB

root, run_id, attempt, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
saved = root / "saved"
blobs = open_blobs(str(root / "store"))
with Portal() as portal:
    resumed = int(saved.read_text()) if saved.exists() else 0
    run = TrackedRun(
        id=run_id, name="killed", experiment=None, sweep=None, tags=(), user="me", config={},
        attempt=attempt, home=root / "home", resumed=resumed if attempt > 1 else None,
        earlier=partial(portal.call, earlier_points, blobs, run_id, attempt, resumed),
    )
    def tracker():
        made = WandB()
        made.finish_seconds = 130  # a machine may be busy, or stand still
        return made

    feed = Feed(tracker, "WandB", run, finish_seconds=120)
    log = RunLog(blobs.local_path(RunPaths(run_id).segment(attempt, 1)), run_id, attempt, [feed])
    if attempt > 1:
        log.event(RESUMED, step=resumed, lost=0)
    log.put(0, {"size": 10.0})
    for step in range(resumed + 1, steps + 1):
        log.put(step, {"loss": 1 / step})
        if step % 10 == 0:
            log.put(step, {"accuracy": step / 7})
        if step % 50 == 0:
            log.drain()
            saved.with_suffix(".new").write_text(str(step))
            saved.with_suffix(".new").replace(saved)
        time.sleep(0.003)
    log.put(steps, {"final": 1.0})
    log.close()
    feed.finish(0, None)
    sys.exit(7 if feed.out else 0)
"""


def expected() -> dict[tuple[int, str], float]:
    """What a run that nobody touches logs, by step and name."""
    found = {(0, "size"): 10.0, (STEPS, "final"): 1.0}
    for step in range(1, STEPS + 1):
        found[step, "loss"] = 1 / step
        if step % 10 == 0:
            found[step, "accuracy"] = step / 7
    return found


def check(rows: list[wandb_files.Row]) -> None:
    """Each step and name is there once, with its value."""
    sent = Counter((step, name) for step, values in rows for name in values)
    whole = expected()
    assert {pair: count for pair, count in sent.items() if count > 1} == {}
    assert sorted(whole.keys() - sent.keys()) == sorted(sent.keys() - whole.keys()) == []
    assert all(whole[step, name] == value for step, it in rows for name, value in it.items())


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user's whom nobody has told of W&B."""
    for name in ("user", "t"):
        (tmp_path / name).mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.crown_exp]\n")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    paths = {"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(tmp_path / "user")}
    return ours | paths | {"TMPDIR": str(tmp_path / "t")}


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[Server]:
    with wandb_server() as server:
        environment |= {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0123456789" * 4}
        yield server


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    try:
        found = wandb_files.children(pid)
    except FileNotFoundError:
        return []
    return [*found, *(it for child in found for it in descendants(child))]


def saved(root: Path) -> int:
    """The step from which the next attempt goes on."""
    path = root / "saved"
    return int(path.read_text()) if path.exists() else 0


def kill(process: subprocess.Popen[str], with_children: bool) -> None:
    """SIGKILL, for the processes of W&B as well or not: then they notice, and send what they have."""
    pids = [process.pid, *(descendants(process.pid) if with_children else [])]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.communicate()


def lived_through(root: Path, environment: dict[str, str], kills: int, seed: int) -> str:
    """Attempts that are killed at random moments, and one that is not; what that one said."""
    chance = random.Random(seed)
    for attempt in range(1, kills + 2):
        process = noted(subprocess.Popen(
            [sys.executable, "-c", ATTEMPT, str(root), RUN, str(attempt), str(STEPS)],
            cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ))  # fmt: skip
        if attempt <= kills:
            step = (attempt - chance.random()) * STEPS / (kills + 1)
            while saved(root) < step and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.3))
            kill(process, with_children=chance.random() < 0.7)
            continue
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said
    return said


def test_offline_each_step_is_once_in_the_files_of_all_attempts(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    said = lived_through(tmp_path, environment, kills=3, seed=0)
    assert "not those of an earlier one" not in said
    check(wandb_files.rows(tmp_path / "home", RUN))


def test_online_each_step_is_once_on_the_server(
    tmp_path: Path, environment: dict[str, str], server: Server
) -> None:
    lived_through(tmp_path, environment, kills=2, seed=1)
    check(wandb_files.points(server.runs[RUN].history))


def test_what_is_pushed_later_is_there_once_whatever_attempt_computed_it(
    tmp_path: Path, server: Server, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "WANDB_BASE_URL", "WANDB_API_KEY"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.chdir(tmp_path)
    run = TrackedRun(
        id=RUN, name="killed", experiment=None, sweep=None, tags=(), user="me", config={},
        attempt=1, home=tmp_path / "home",
    )  # fmt: skip
    tracked, pushed = WandB(), WandB()
    tracked.finish_seconds = pushed.finish_seconds = 120  # a machine may be busy, or stand still
    tracked.start(run)
    tracked.log([Point(step, 1.6e9, {"loss": 1 / step}) for step in range(1, 8)])
    tracked.finish(75, None)
    pushed.start(run)
    assert pushed.resumed
    pushed.hold(10)
    pushed.catch_up([Point(step, 1.7e9, {"loss": 1 / step}) for step in range(1, 11)])
    pushed.finish(0, None)
    assert pushed.sent == 3
    assert [step for step, _ in wandb_files.points(server.runs[RUN].history)] == [*range(1, 11)]


@pytest.mark.full
@pytest.mark.parametrize("seed", range(4))
def test_offline_however_often_it_is_killed(
    tmp_path: Path, environment: dict[str, str], seed: int
) -> None:
    lived_through(tmp_path, environment, kills=10, seed=seed)
    check(wandb_files.rows(tmp_path / "home", RUN))


@pytest.mark.full
@pytest.mark.parametrize("seed", range(2))
def test_online_however_often_it_is_killed(
    tmp_path: Path, environment: dict[str, str], server: Server, seed: int
) -> None:
    lived_through(tmp_path, environment, kills=8, seed=seed)
    check(wandb_files.points(server.runs[RUN].history))
