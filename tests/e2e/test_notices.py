"""A spot machine is taken, as its user sees it: one line at the end, the same in `show`, and it goes on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.metadata_server import MetadataServer
from tests.running import Heard, Project, ends

TASKS = """
import time
from pathlib import Path

def slow(run, *, turns: int = 60):
    for turn in run.steps(turns):
        Path("began").touch()
        time.sleep(0.01 if run.attempt > 1 else 2)

def quick(run, *, turns: int = 100_000):
    for turn in run.steps(turns):
        time.sleep(0.01)
        if run.attempt > 1:
            break
"""


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with MetadataServer() as found:
        yield found


@pytest.mark.parametrize("cloud", ["aws", "azure"])
def test_notice_then_sigterm(tmp_path: Path, server: MetadataServer, cloud: str) -> None:
    project = Project.write(tmp_path, TASKS)
    child = project.popen("task=slow", "tracker=none", env=server.environment(cloud))
    heard = Heard(child)
    while not (tmp_path / "began").exists():
        time.sleep(0.02)
        assert child.poll() is None, heard.rest()
    server.give_notice(cloud, seconds=90)
    heard.until("stopping at the end of this turn")
    for _ in range(3):
        child.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    said = heard.rest()
    assert child.returncode == 75, said
    (run,) = project.runs
    assert ends(run) == [75]
    (line,) = [line for line in said.splitlines() if " preempted after " in line]
    told = re.search(r"(notice \d\d s, saved in \d+\.\d s, steps lost 0)$", line)
    assert told is not None, said
    assert f"{told[1]} (exit code 75)" in project.crown("show", "latest").stdout
    server.documents.clear()
    again = project.crown("resume", "latest", env=server.environment(cloud))
    assert again.returncode == 0, again.stdout
    assert f"preempted: {told[1]}" in project.crown("show", "latest").stdout
    (end,) = run.glob("attempts/000001.end.json")
    assert json.loads(end.read_text())["reason"] == told[1]


def begun(project: Project, server: MetadataServer, said: Path) -> subprocess.Popen[str]:
    """A run of quick turns that knows how long its saves take: the second begins when the first is told of."""
    with said.open("w") as out:
        child = project.popen(
            "task=quick", "tracker=none", "checkpoint.every='5 steps'",
            env=server.environment("aws"), stdout=out,
        )  # fmt: skip
    while len([*project.root.glob(".crown/store/runs/*/checkpoints/*.json")]) < 2:
        time.sleep(0.02)
        assert child.poll() is None, said.read_text()
    return child


TRAINED_ON = r"(notice \d+ s, trained on for \d+ s, saved in \d+\.\d s, steps lost 0)"


def test_a_long_notice_is_trained_in_until_sigterm(tmp_path: Path, server: MetadataServer) -> None:
    project, said = Project.write(tmp_path, TASKS), tmp_path / "said.txt"
    child = begun(project, server, said)
    server.give_notice("aws", seconds=118)
    while "training on, saving again in about " not in said.read_text():
        time.sleep(0.02)
        assert child.poll() is None, said.read_text()
    shown = project.crown("show", "latest").stdout
    assert re.search(r"notice .*cloud AWS .*trains_on \d+", shown), shown
    for _ in range(3):
        child.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert child.wait(timeout=60) == 75, said.read_text()
    told = re.search(f"{TRAINED_ON}$", said.read_text(), re.MULTILINE)
    assert told is not None, said.read_text()
    assert told[1] in project.crown("show", "latest").stdout
    server.documents.clear()
    again = project.crown("resume", "latest", env=server.environment("aws"))
    assert again.returncode == 0, again.stdout
    (run,) = project.runs
    (end,) = run.glob("attempts/000001.end.json")
    assert f"goes on after step {json.loads(end.read_text())['step']}\n" in again.stdout


def test_nobody_has_to_tell_it_when_the_time_has_come(
    tmp_path: Path, server: MetadataServer
) -> None:
    """A machine that is too slow for this notice ends at once; what counts is that it ends by itself, saved."""
    project, said = Project.write(tmp_path, TASKS), tmp_path / "said.txt"
    child = begun(project, server, said)
    server.give_notice("aws", seconds=12)
    assert child.wait(timeout=60) == 75, said.read_text()
    (run,) = project.runs
    assert ends(run) == [75]
    (end,) = run.glob("attempts/000001.end.json")
    record = json.loads(end.read_text())
    assert re.fullmatch(
        r"notice \d+ s(, trained on for \d+ s)?, saved in .* s, steps lost 0", record["reason"]
    )
    assert record["saved"] == record["step"] > 0


def test_no_metadata_server_costs_nothing(tmp_path: Path) -> None:
    project = Project.write(tmp_path, TASKS)
    nowhere = {"CROWN_NOTICES__CLOUD": "aws", "CROWN_NOTICES__ENDPOINT": "http://127.0.0.1:9"}
    done = project.crown("task=slow", "task.turns=1", "tracker=none", env=nowhere)
    assert done.returncode == 0 and "metadata" not in done.stdout
