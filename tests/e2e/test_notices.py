"""A spot machine is taken, as its user sees it: one line at the end, the same in `show`, and it goes on."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.metadata_server import MetadataServer
from tests.running import Project, ends

TASKS = """
import time
from pathlib import Path

def slow(run, *, turns: int = 3):
    for turn in run.steps(turns):
        Path("began").touch()
        time.sleep(0.3 if run.attempt > 1 else 2)
"""


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with MetadataServer() as found:
        yield found


@pytest.mark.parametrize("cloud", ["aws", "azure"])
def test_notice_then_sigterm(tmp_path: Path, server: MetadataServer, cloud: str) -> None:
    project = Project.write(tmp_path, TASKS)
    child = project.popen("task=slow", "tracker=none", env=server.environment(cloud))
    while not (tmp_path / "began").exists():
        time.sleep(0.02)
        assert child.poll() is None, child.communicate()[0]
    server.give_notice(cloud, seconds=90)
    asked = server.asked.total()
    while server.asked.total() == asked:
        time.sleep(0.02)
    time.sleep(0.3)
    for _ in range(3):
        child.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 75, said
    (run,) = project.runs
    assert ends(run) == [75]
    (line,) = [line for line in said.splitlines() if " preempted after " in line]
    told = re.search(r"(notice \d\d s, saved in \d\.\d s, steps lost 0)$", line)
    assert told is not None, said
    assert f"{told[1]} (exit code 75)" in project.crown("show", "latest").stdout
    server.documents.clear()
    again = project.crown("resume", "latest", env=server.environment(cloud))
    assert again.returncode == 0, again.stdout
    assert f"preempted: {told[1]}" in project.crown("show", "latest").stdout
    (end,) = run.glob("attempts/000001.end.json")
    assert json.loads(end.read_text())["reason"] == told[1]


def test_no_metadata_server_costs_nothing(tmp_path: Path) -> None:
    project = Project.write(tmp_path, TASKS)
    nowhere = {"CROWN_NOTICES__CLOUD": "aws", "CROWN_NOTICES__ENDPOINT": "http://127.0.0.1:9"}
    done = project.crown("task=slow", "task.turns=1", "tracker=none", env=nowhere)
    assert done.returncode == 0 and "metadata" not in done.stdout
