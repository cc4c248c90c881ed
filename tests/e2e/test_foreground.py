"""A single run is in the foreground: a debugger, pytest and a notebook work as in a plain script."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.running import Project, ends

TASKS = """
import time

def debugged(run):
    total = 0
    for turn in run.steps(6):
        time.sleep(0.3)
        total += turn
        if turn in (2, 4):
            breakpoint()
        print("total is", total)
    return {"total": total}

def shown(run):
    for turn in run.steps(30):
        time.sleep(0.05)
        run.log(loss=1 / (turn + 1))
        if turn == 20:
            print("a word of the task's own")
    for turn in run.steps(range(20), name="finetune"):
        time.sleep(0.05)
        run.log(loss=0.5)
    return {"loss": 0.5}

def lasting(run):
    for turn in run.steps(100_000):
        time.sleep(0.05)
        run.log(loss=0.5)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.write(tmp_path, TASKS)


class Terminal:
    """A pseudo-terminal of 80 columns with `python -m crown_exp …` in it, and somebody who types."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.leader, follower = os.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.child = project.popen(
            *arguments, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
            env={"TERM": "xterm", "PYTHONUNBUFFERED": "1"},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # where Ctrl-C comes from
        )  # fmt: skip
        os.close(follower)
        self.said = ""

    def read(self, seconds: float) -> bool:
        """More of what is said; False at its end."""
        if select.select([self.leader], [], [], seconds)[0]:
            try:
                found = os.read(self.leader, 65536).decode(errors="replace")
            except OSError:  # the other side is closed
                found = ""
            self.said += found
            return bool(found)
        return True

    def until(self, words: str, seconds: float = 60) -> str:
        """Everything said from here up to these words."""
        start, limit = len(self.said), time.monotonic() + seconds
        while words not in self.said[start:]:
            assert time.monotonic() < limit and self.read(0.1), f"no {words!r} in {self.said!r}"
        return self.said[start:]

    def type(self, line: str) -> None:
        os.write(self.leader, f"{line}\n".encode())

    def end(self) -> int:
        while self.read(1) and self.child.poll() is None:
            pass
        while self.read(0.2) and select.select([self.leader], [], [], 0)[0]:
            pass
        os.close(self.leader)
        return self.child.wait(timeout=120)


def screen(said: str) -> list[str]:
    """The lines that somebody in front of the terminal sees at the end; progress may not be wider."""
    lines, column = [""], 0
    for part in re.split(r"(\x1b\[K|\r|\n)", re.sub(r"\x1b\[\??\d*[a-zA-JL-Z]", "", said)):
        if part == "\n":
            lines.append("")
            column = 0
        elif part == "\r":
            column = 0
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:column]
        else:
            lines[-1] = lines[-1][:column].ljust(column) + part + lines[-1][column + len(part) :]
            column += len(part)
            assert column <= 80 or " steps " not in lines[-1], lines[-1]
    return [line.rstrip() for line in lines]


def test_a_breakpoint_in_a_terminal(project: Project) -> None:
    terminal = Terminal(project, "task=debugged")
    for total in (3, 10):
        terminal.until("(Pdb) ")
        before = len(terminal.said)
        time.sleep(0.6)  # two drains of the log: the prompt must stay as it is
        terminal.read(0)
        assert terminal.said[before:] == ""
        terminal.type("p total")
        assert f"\r\n{total}\r\n(Pdb) " in terminal.until("(Pdb) ")
        terminal.type("c")
    terminal.until("next ")
    assert terminal.end() == 0
    lines = screen(terminal.said)
    assert [line for line in lines if line.startswith("total is")] == [
        f"total is {total}" for total in (0, 1, 3, 6, 10, 15)
    ]
    for place in (line for line in lines if "tasks.py(" in line):
        assert place.startswith("> ")  # on a line of its own, not behind the progress
    assert any(line.startswith("(Pdb) p total") for line in lines)
    (run,) = project.runs
    assert ends(run) == [0]


def test_leaving_the_debugger_stops_the_run(project: Project) -> None:
    terminal = Terminal(project, "task=debugged")
    terminal.until("(Pdb) ")
    terminal.type("q")
    terminal.until("next ")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.said
    assert "stopped after 2 steps" in terminal.said


def test_ctrl_c_in_a_terminal(project: Project) -> None:
    terminal = Terminal(project, "task=lasting")
    terminal.until("ETA")
    os.write(terminal.leader, b"\x03")
    terminal.until("next ")
    assert terminal.end() == 130
    lines = screen(terminal.said)
    assert any(line.startswith("stopping at the end of this turn") for line in lines), lines
    assert "Traceback" not in terminal.said


def test_progress_on_a_terminal(project: Project) -> None:
    terminal = Terminal(project, "task=shown")
    assert terminal.end() == 0
    recorded, *lines = screen(terminal.said)
    assert re.fullmatch(r"r\d{6}-\w{6} recorded", recorded)
    assert lines[0].startswith("shown  r")
    assert lines[1] == "a word of the task's own"
    assert re.fullmatch(r"\[={20}\] 30/30 steps  [\d.]+/s  loss 0\.03333", lines[2])
    assert re.fullmatch(r"\[={20}\] finetune 20/20 steps  [\d.]+/s  loss 0\.5", lines[3])
    assert re.fullmatch(r"\S+ completed after 50 steps in \d+:\d\d, [\d,]+ MB", lines[4])
    assert re.fullmatch(r"  loss +0\.5", lines[5])
    assert lines[6].startswith("folder  .crown/store/runs/r")
    assert lines[7] == "next    python -m crown_exp -m task=shown seed=1,2,3"
    assert lines[8:] == [""]
    drawn = re.findall(r"\] (?:finetune )?(\d+)/\d+ steps", terminal.said)
    assert len(drawn) > 5  # it moved
    assert re.search(r"\[=+ +\] \d+/30 steps  [\d.]+/s  ETA 0:0\d  loss 0\.\d+", terminal.said)


def test_progress_in_a_file(project: Project) -> None:
    began = time.monotonic()
    done = project.crown("task=shown")
    recorded, *lines = done.stdout.splitlines()
    assert recorded.endswith(" recorded")
    between = [line for line in lines if re.match(r"(finetune )?(\d+)/(?!\2 )\d+ steps", line)]
    assert len(between) <= (time.monotonic() - began) / 10  # where the machine stood still
    lines = [line for line in lines if line not in between]
    assert len(lines) == 8
    assert "\x1b" not in done.stdout and "\r" not in done.stdout
    assert lines[2].startswith("30/30 steps  ")


def test_no_progress(project: Project) -> None:
    done = project.crown("task=shown", "tracker=none")
    assert "steps  " not in done.stdout
    assert "completed after 50 steps" in done.stdout


# --- pytest -----------------------------------------------------------------------------------------

USER_TEST = """
import crown_exp

def test_my_task(capsys):
    started = crown_exp.start("task=short")
    assert started.result == {"total": 3}
    assert started.folder.is_dir()

def test_again_and_what_it_says(capsys):
    crown_exp.start("task=short")
    said = capsys.readouterr()
    assert "completed after 3 steps" in said.err
    assert "turn 2" in said.out

def test_a_failure_is_an_exception():
    import pytest
    with pytest.raises(crown_exp.errors.CrownError, match="ValueError: broken"):
        crown_exp.start("task=failing")
"""


@pytest.mark.parametrize("flags", [[], ["-s"]])
def test_under_pytest(tmp_path: Path, flags: list[str]) -> None:
    project = Project.write(
        tmp_path,
        "def short(run):\n    for turn in run.steps(3):\n        print('turn', turn)\n"
        "    return {'total': 3}\n\n\ndef failing(run):\n    raise ValueError('broken')\n",
    )
    (tmp_path / "test_mine.py").write_text(USER_TEST)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        *flags,
    ]
    done = subprocess.run(
        command, cwd=tmp_path, text=True, capture_output=True, check=False,
        env=dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert [ends(run) for run in project.runs] == [[0], [0], [1]]


# --- a notebook -------------------------------------------------------------------------------------

CELLS = [
    "import asyncio, crown_exp",
    "asyncio.get_running_loop().is_running()",
    "started = crown_exp.start('task=short', 'task.base=5')\nstarted.result",
    "crown_exp.start('task=short', 'task.base=5').result == started.result",
    "try:\n    crown_exp.start('task=shrot')\nexcept crown_exp.errors.ConfigError as error:\n    print(error)",
]


def test_in_a_notebook_whose_loop_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    project = Project.write(
        tmp_path,
        "def short(run, *, base=0):\n    for turn in run.steps(3):\n        base += turn\n"
        "        run.log(base=base)\n    return {'total': base}\n",
        short="base: 0",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".ipython"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    nbclient.NotebookClient(
        notebook,
        timeout=120,
        iopub_timeout=120,
        startup_timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    outputs = [
        "".join(output.get("text", "") or output["data"]["text/plain"] for output in cell.outputs)
        for cell in notebook.cells
    ]
    assert outputs[1] == "True"
    assert outputs[2].endswith("{'total': 8}")
    assert "completed after 3 steps" in outputs[2]
    assert outputs[3].endswith("True")
    assert "did you mean short" in outputs[4]
    assert [ends(run) for run in project.runs] == [[0], [0]]
