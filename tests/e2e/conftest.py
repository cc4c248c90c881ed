"""A project of a user's own, with tasks that need no torch, and the command line in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crown_exp.__main__ import guarded

TASKS = '''
"""Tasks of a user who has no GPU and no patience."""
import os
import sys
import time
from pathlib import Path

from crown_exp import Config
from crown_exp.errors import Diverged


def quick(run, env: Config, *, gain: float = 1.0, text: str = "", fail: str = "", turns: int = 0):
    """Returns what it was given."""
    if fail == "raise":
        raise ValueError("no good")
    if fail == "exit":
        sys.exit(3)
    if fail == "memory":
        raise MemoryError
    if fail == "diverge":
        raise Diverged("a loss is not finite")
    if fail == "interrupt":
        raise KeyboardInterrupt
    for _ in run.steps(turns):
        pass
    variable = os.environ.get("MY_VARIABLE", "")
    return {"gain": gain, "size": env["size"], "text": text, "pid": os.getpid(), "variable": variable}


def slow(run, *, n: int = 0):
    """Turns until it is stopped; tells in a file that it has begun."""
    for turn in run.steps(100_000):
        Path(f"began-{n}").touch()
        time.sleep(0.01)


class Env:
    """Something that a task is handed."""

    def __init__(self, size: int = 3) -> None: ...
'''
CALLBACK = '''
from hydra.experimental.callback import Callback

SEEN = []


class Noting(Callback):
    """Notes what Hydra tells it."""

    def on_run_start(self, config, **rest): SEEN.append("run_start")
    def on_run_end(self, config, job_return, **rest): SEEN.append("run_end")
    def on_multirun_start(self, config, **rest): SEEN.append("multirun_start")
    def on_multirun_end(self, config, **rest): SEEN.append("multirun_end")
    def on_job_start(self, config, **rest): SEEN.append(f"job_start {config.hydra.job.num}")
    def on_job_end(self, config, job_return, **rest):
        value = job_return._return_value
        SEEN.append((job_return.status.name, value["gain"] if isinstance(value, dict) else str(value)))
'''
FILES = {
    "pyproject.toml": "[tool.crown_exp]\n",
    "their_tasks.py": TASKS,
    "their_callbacks.py": CALLBACK,
    "conf/task/quick.yaml": "_target_: their_tasks.quick\n",
    "conf/task/slow.yaml": "_target_: their_tasks.slow\n",
    "conf/env/small.yaml": "_target_: their_tasks.Env\nsize: 1\n",
    "conf/env/large.yaml": "_target_: their_tasks.Env\nsize: 100\n",
    "conf/experiment/quick.yaml": (
        "# @package _global_\ndefaults:\n  - /env: small\n  - override /task: quick\n"
    ),
}


@dataclass(frozen=True)
class Said:
    """What a command did. out, err: also of the processes it started."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


class CommandLine:
    """`crown-exp …` in the project, in this process: the same function, without the cost of a start."""

    def __init__(self, root: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.root, self.capture = root, capture

    def __call__(self, *arguments: str) -> Said:
        self.capture.readouterr()
        code = guarded(arguments)
        out, err = self.capture.readouterr()
        return Said(code, out, err)

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def read(self, pattern: str) -> list[dict[str, Any]]:
        """The JSON records of all runs whose path ends so, in the order in which the runs were made."""
        found = (
            json.loads(file.read_text())
            for file in self.root.glob(f".crown/store/runs/*/{pattern}")
        )
        return sorted(found, key=lambda record: str(record.get("created", record.get("written"))))

    def runs(self) -> list[dict[str, Any]]:
        """run.json of every run, in order."""
        return self.read("run.json")

    def results(self) -> dict[str, Any]:
        """What each run returned, by its name."""
        results = {record["run"]: record["result"] for record in self.read("result.json")}
        return {run["name"]: results[run["id"]] for run in self.runs() if run["id"] in results}

    def stop(self, *arguments: str, began: str, with_signal: int, group: bool) -> Said:
        """A real process that is sent a signal as soon as the file `began` is there."""
        process = subprocess.Popen(
            [sys.executable, "-m", "crown_exp", *arguments],
            cwd=self.root, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        with process:
            try:
                while not (self.root / began).exists() and process.poll() is None:
                    time.sleep(0.01)
                (os.killpg if group else os.kill)(process.pid, with_signal)
                out, err = process.communicate(timeout=120)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        return Said(process.returncode, out, err)

    def interrupt(self, *arguments: str, began: str) -> Said:
        """Ctrl-C: the terminal sends it to all processes of the command."""
        return self.stop(*arguments, began=began, with_signal=signal.SIGINT, group=True)


@pytest.fixture
def crown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> CommandLine:
    """A project in the current directory, and its command line."""
    root = tmp_path / "theirs"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for module in ("their_tasks", "their_callbacks"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    made = CommandLine(root, capfd)
    for path, text in FILES.items():
        made.write(path, text)
    return made


def words(table: Sequence[str]) -> list[list[str]]:
    """The cells of a printed table."""
    return [line.split() for line in table]
