"""debug=true: a few turns, one save, nothing kept; a debugger where it broke. And docs/debugging.md."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import crown_exp
from crown_exp.__main__ import guarded
from crown_exp.config.project import builtin_conf
from tests.e2e.test_foreground import Terminal
from tests.exactness.zygote import Zygote
from tests.running import Project

TASKS = """
import os
import time
from multiprocessing import parent_process
from pathlib import Path

import torch
from crown_exp import Config


class Numbers:
    def __init__(self, size: int = 64) -> None:
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.ones(3) * index, parent_process() is not None


class Spy:
    def __init__(self, file: str = "spied") -> None:
        self.file = file

    def start(self, run):
        Path(self.file).touch()

    def points(self, points): ...
    def artifact(self, artifact): ...
    def finish(self, code, result): ...


class Env:
    def __init__(self) -> None:
        self.seen = {1, 2}

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state): ...


def train(run, dataset, *, steps: int = 100, fail: int = 0):
    net = torch.nn.Linear(3, 1).to(run.device)
    opt = torch.optim.AdamW(net.parameters(), lr=0.01)
    run.track(net=net, opt=opt)
    total, in_workers = 0.0, False
    for images, apart in run.steps(run.batches(dataset, batch_size=8), steps):
        loss = net(images).square().mean()
        run.backward(loss)
        run.update(opt)
        total += loss.item()
        in_workers = bool(apart.any())
        if run.step == fail:
            torch.ones(2) @ torch.ones(3)
    run.artifact("out.txt", "text")
    return {"turns": run.step, "workers": in_workers, "folder": str(run.folder)}


def rolled(run):
    run.track(env=Env())
    for turn in run.steps(10):
        pass


def slow(run):
    for turn in run.steps(1000):
        Path(run.folder / "files").mkdir(exist_ok=True)
        Path("began").write_text(str(run.folder))
        time.sleep(0.05)


def failing(run):
    local = 41
    raise ValueError("broken")
"""
SETTINGS = """# @package _global_
defaults:
  - override /task: train
  - override /dataset: numbers
  - override /tracker: spy
device: {workers: 2, threads: 1}
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """With a short path, as most are: the sockets by which workers send allow no long one."""
    with tempfile.TemporaryDirectory(prefix="crown-", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def project(tmp_path: Path, temporary: Path, zygote: Zygote) -> Project:
    root = tmp_path / "theirs"
    root.mkdir()
    project = Project.write(root, TASKS)
    for name, text in {
        "dataset/numbers": "_target_: tasks.Numbers",
        "tracker/spy": "_target_: tasks.Spy\nprogress: lines",
        "experiment/numbers": SETTINGS,
    }.items():
        (root / f"conf/{name}.yaml").parent.mkdir(exist_ok=True)
        (root / f"conf/{name}.yaml").write_text(text)
    project.environment = {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    project.zygote = zygote
    return project


def everything(project: Project) -> list[str]:
    """Every file and folder of the project, of its .crown, and of the temporary directory.

    Python's caches and torch's, which importing it makes in the temporary directory, are not ours.
    """
    top = project.root.parent
    paths = [str(path.relative_to(top)) for path in top.rglob("*")]
    return sorted(path for path in paths if not re.search("__pycache__|torchinductor_", path))


# --- in processes of their own ----------------------------------------------------------------------


def test_a_few_turns_of_which_nothing_stays(project: Project) -> None:
    before = everything(project)
    done = project.crown("+experiment=numbers", "debug=true")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == ("debug: 5 turns of each loop, no workers (was 2), no Spy, nothing is kept")
    assert "  turns            5" in lines
    assert "  workers          False" in lines
    assert any(
        line.startswith("debug: saved after turn 2 and put back: net, opt") for line in lines
    )
    assert any("not tracked: total;" in line for line in lines)
    (folder,) = re.findall(r"  folder +(\S+)", done.stdout)  # what the task was told
    assert folder.startswith(project.environment["TMPDIR"])
    assert not any(line.startswith("folder") for line in lines)
    assert lines[-1] == "next    python -m crown_exp +experiment=numbers"
    assert everything(project) == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("+experiment=numbers", "task.fail=3"), 1, "RuntimeError: "),
        (("task=rolled",), 1, "env.seen is a set; a state holds tensors"),
        (("task=failing",), 1, "no terminal, so no debugger"),
        (("+experiment=numbers", "dataset.size=0"), 1, "holds no samples"),
        (("+experiment=numbers", "task.stepz=3"), 2, "task.stepz: no such key"),
        (("+experiment=numbers", "-m", "seed=1,2"), 2, "debug=true: is for one run; leave out -m"),
    ],
)
def test_ends_in_error_of_which_nothing_stays(
    project: Project, arguments: tuple[str, ...], code: int, words: str
) -> None:
    before = everything(project)
    done = project.crown(*arguments, "debug=true")
    assert done.returncode == code, done.stdout
    assert words in done.stdout
    assert "folder" not in done.stdout
    assert everything(project) == before
    if code == 2:
        assert len(done.stdout.splitlines()) == 1
    else:
        assert "crown-exp show" not in done.stdout
        assert done.stdout.splitlines()[-1].endswith("debug=true")


def test_a_launcher_that_knows_of_no_debug_run_is_refused(project: Project) -> None:
    done = project.crown("task=failing", "hydra/launcher=basic", "debug=true")
    assert done.returncode == 2
    assert "debug=true: needs hydra/launcher=crown, the default" in done.stdout
    assert project.runs == []


@pytest.mark.parametrize(
    ("number", "group", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 75)]
)
def test_a_signal_of_which_nothing_stays(
    project: Project, number: int, group: bool, code: int
) -> None:
    before = everything(project)
    child = project.popen("task=slow", "debug=true", "limits.steps=1000", start_new_session=True)
    began = project.root / "began"
    while not began.exists() or not began.read_text():
        assert child.poll() is None
        time.sleep(0.01)
    folder = Path(began.read_text())
    assert folder.is_relative_to(project.environment["TMPDIR"])
    assert (folder / "run.json").exists()
    (os.killpg if group else os.kill)(child.pid, number)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == code, said
    assert "folder" not in said
    began.unlink()
    assert everything(project) == before


def test_what_was_kept_before_stays_as_it_was(project: Project) -> None:
    kept = project.crown(
        "+experiment=numbers", "tracker=console", "device.workers=0", "task.steps=2"
    )
    assert kept.returncode == 0
    before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if path.is_file()}
    done = project.crown(
        "+experiment=numbers", "tracker=console", "device.workers=0", "task.steps=2", "debug=true"
    )
    assert done.returncode == 0
    assert "same signature" not in done.stdout
    after = {path: path.stat().st_mtime_ns for path in project.root.rglob("*") if path.is_file()}
    assert {path for path in after if "__pycache__" not in path.parts} == {
        path for path in before if "__pycache__" not in path.parts
    }
    assert all(after[path] == was for path, was in before.items() if "registry" not in path.name)


def test_typed_keys_win_and_one_run_of_m_is_one_run(project: Project) -> None:
    before = everything(project)
    done = project.crown(
        "-m", "+experiment=numbers", "debug=true", "limits.steps=7", "device.workers=1"
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("debug: no Spy, nothing is kept\n")
    assert "  turns            7" in done.stdout
    assert "  workers          True" in done.stdout
    assert everything(project) == before


# --- a terminal -------------------------------------------------------------------------------------


def until_heard(terminal: Terminal, tell: Callable[[], object], words: str) -> str:
    """What is said up to `words` after a signal, which Python misses right after a prompt."""
    for _ in range(10):
        tell()
        with suppress(AssertionError):
            return terminal.until(words, seconds=10)
    return terminal.until(words)


def test_the_debugger_opens_where_the_user_s_code_was(project: Project) -> None:
    before = everything(project)
    terminal = Terminal(project, "+experiment=numbers", "debug=true", "task.fail=3")
    said = terminal.until("(Pdb) ")
    assert "Traceback (most recent call last)" in said
    assert "RuntimeError" in said
    assert re.search(r"> \S+tasks.py\(\d+\)train\(\)", said)
    terminal.type("p net.weight.shape, in_workers")
    assert "(torch.Size([1, 3]), False)" in terminal.until("(Pdb) ")
    pressed = lambda: os.write(terminal.leader, b"\x03")  # noqa: E731 - Ctrl-C is the debugger's
    assert "KeyboardInterrupt" in until_heard(terminal, pressed, "(Pdb) ")
    terminal.type("q")
    said = terminal.until("next ")
    assert "failed after 2 steps" in said
    assert "Traceback" not in said  # it was shown before
    assert terminal.end() == 1
    assert everything(project) == before


def test_a_stop_in_the_debugger_ends_the_run(project: Project) -> None:
    before = everything(project)
    terminal = Terminal(project, "task=failing", "debug=true")
    terminal.until("(Pdb) ")
    said = until_heard(terminal, terminal.child.terminate, "next ")
    assert "failed after 0 steps" in said
    assert terminal.end() == 1
    assert everything(project) == before


def test_a_breakpoint_of_the_user_s_own(project: Project) -> None:
    """Left by q, it is the user's wish to stop, and no error to look into."""
    text = TASKS.replace("local = 41", "breakpoint()")
    (project.root / "tasks.py").write_text(text)
    before = everything(project)
    terminal = Terminal(project, "task=failing", "debug=true")
    terminal.until("(Pdb) ")
    terminal.type("q")
    terminal.until("next ")
    assert terminal.end() == 130
    assert terminal.said.count("(Pdb)") == 1
    assert everything(project) == before


# --- from Python ------------------------------------------------------------------------------------


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """In this process, with the temporary directory of the project."""
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(tempfile, "tempdir", project.environment["TMPDIR"])
    yield project
    sys.modules.pop("tasks", None)


def test_start(here: Project, capfd: pytest.CaptureFixture[str]) -> None:
    before = everything(here)
    started = crown_exp.start("+experiment=numbers", "debug=true")
    assert started.result["turns"] == 5
    with pytest.raises(crown_exp.errors.CrownError, match="was a debug run: its folder is gone"):
        started.folder  # noqa: B018
    assert capfd.readouterr().err.startswith("debug: 5 turns of each loop, no workers (was 2)")
    with pytest.raises(crown_exp.errors.CrownError, match="ValueError: broken"):
        crown_exp.start("task=failing", "debug=true")
    assert everything(here) == before


def test_without_a_temporary_directory(
    here: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", "/proc/nowhere")
        assert guarded(["task=failing", "debug=true"]) == 80
    said = capfd.readouterr().err
    assert said == "no folder to throw away afterwards: No such file or directory; set TMPDIR\n"


# --- the page ---------------------------------------------------------------------------------------

PAGE = builtin_conf().parent / "docs/debugging.md"


def test_every_command_of_the_page(project: Project) -> None:
    text = PAGE.read_text(encoding="utf-8")
    commands = [
        line
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(commands) >= 2
    before = everything(project)
    for command in commands:
        program, *arguments = shlex.split(command.partition(" #")[0])
        assert program == "crown-exp"
        done = project.crown(*arguments, "device.threads=1")
        assert done.returncode == 0, done.stdout
        assert done.stdout.startswith("debug: ")
    assert everything(project) == before


def test_what_the_page_says_is_said(project: Project) -> None:
    """The lines that it shows, but for the numbers in them."""
    text = PAGE.read_text(encoding="utf-8")
    shown = re.findall(r"^(debug: .*)$", text, re.MULTILINE)
    done = project.crown(
        "+experiment=digits_cnn", "debug=true", "device.workers=4", "limits.steps=6"
    )
    assert done.returncode == 0
    saved = next(line for line in shown if "saved after turn" in line)
    assert saved in done.stdout.splitlines()
    carried = next(line for line in shown if "not tracked" in line)
    done = project.crown("+experiment=numbers", "debug=true")
    assert carried in done.stdout.splitlines()
