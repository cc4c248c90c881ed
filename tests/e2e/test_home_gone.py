"""The home of a machine is deleted under a run that ends: nothing can be imported any more, all goes well."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.metadata_server import MetadataServer
from tests.running import Project, ends

TASKS = """
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from crown_exp import clock

class Gone:
    def find_spec(self, name, path, target=None):
        with Path("refused.txt").open("a") as file:
            file.write(f"{threading.current_thread().name}: {name}\\n")
        raise ModuleNotFoundError(f"No module named {name!r}")

def slow(run, *, how: str = "stop"):
    kept = run.state(turns=0)
    for turn in run.steps(100_000):
        kept.turns += 1
        run.log(turns=kept.turns)
        run.artifact("turn.txt", str(turn))
        if turn == 1:
            sys.meta_path.insert(0, Gone())
            Path("began").touch()
        if turn == 3 and how == "raise":
            raise ValueError("broken")
        if turn == 3 and how == "return":
            return 7
        if turn == 3 and how == "limit":
            real = time.monotonic
            clock.time = SimpleNamespace(monotonic=lambda: real() + 7200)
        time.sleep(0.02)
"""

CODES = {"stop": 75, "notice": 75, "interrupt": 130, "limit": 77, "raise": 1, "return": 0}


@pytest.mark.parametrize("how", CODES)
def test_nothing_is_first_imported_at_the_end(tmp_path: Path, how: str) -> None:
    """The index apart, which a run does not need: its thread says so if it comes too late to open it."""
    project = Project.write(tmp_path, TASKS)
    with MetadataServer() as server:
        given = ["limits.run='1 hour'"] if how == "limit" else []
        child = project.popen(
            "task=slow", f"task.how={how}", "tracker=none", *given, env=server.environment("azure")
        )
        while not (tmp_path / "began").exists() and child.poll() is None:
            time.sleep(0.02)
        if how == "notice":
            server.give_notice("azure", seconds=60)
        elif how in ("stop", "interrupt"):
            child.send_signal(signal.SIGTERM if how == "stop" else signal.SIGINT)
        said, _ = child.communicate(timeout=120)
    assert child.returncode == CODES[how], said
    assert (tmp_path / "began").exists()
    (run,) = project.runs
    assert ends(run) == [CODES[how]]
    end = json.loads((run / "attempts/000001.end.json").read_text())
    assert how in ("raise", "return") or end["saved"] == end["step"] > 0
    refused = tmp_path / "refused.txt"
    lines = refused.read_text().splitlines() if refused.exists() else []
    assert [line for line in lines if not line.startswith("crown-index: ")] == []
