"""crown-exp batch and crown-exp debug: a turn of a run again, in a copy; the run stays as it is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.e2e.test_foreground import Terminal
from tests.exactness.zygote import Zygote
from tests.running import Project

TASKS = """
import os
from pathlib import Path

import torch


class Numbers:
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {"x": torch.full((3,), float(index)) + torch.rand(3), "index": index, "name": f"n{index}"}


class Counting:
    def __iter__(self):
        for number in range(17):
            yield torch.rand(2) + number


def keep(run, batch):
    if "SEEN" in os.environ:
        torch.save(batch, Path(os.environ["SEEN"]) / f"{run.step}.pt")


def drawn():
    while True:
        yield torch.rand(4)


def learn(run, net, opt, value):
    loss = (net(value) - 1).square().mean()
    run.backward(loss)
    run.update(opt)
    run.log(loss=loss)


def made(run):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    opt = torch.optim.AdamW(net.parameters(), lr=0.01)
    run.track(net=net, opt=opt)
    return net, opt


def train(run, *, fail: int = 0, leave: int = 0):
    net, opt = made(run)
    for batch in run.steps(run.batches(Numbers(), batch_size=8), 23):
        keep(run, batch)
        learn(run, net, opt, batch["x"])
        if run.step == leave:
            break
        if run.step == fail:
            torch.ones(2) @ torch.ones(3)
    for batch in run.steps(run.batches(Counting(), batch_size=2), 12, name="stream"):
        keep(run, batch)
        learn(run, net, opt, torch.rand(2, 3))
    for batch in run.steps(drawn(), 6, name="drawn"):
        keep(run, batch)
        learn(run, net, opt, torch.rand(2, 3))
    return {"turns": run.step}


def no_turn(run):
    return {"answer": 42}


def hands_on(run):
    def turns():
        for batch in run.steps(5):
            yield batch * 2
    for doubled in turns():
        run.log(doubled=doubled)
"""

OWN = ("device=cpu", "device.threads=1", "tracker.progress=none")


def written(top: Path, temporary: Path, zygote: Zygote) -> Project:
    root = top / "theirs"
    root.mkdir()
    (top / "seen").mkdir()
    project = Project.write(root, TASKS)
    project.environment = {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    project.zygote = zygote
    return project


@pytest.fixture(scope="module", params=["0", pytest.param("2", marks=pytest.mark.full)])
def ran(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, zygote: Zygote
) -> Iterator[Project]:
    """A run of three loops, with a checkpoint every few turns, whose batches were kept."""
    top = tmp_path_factory.mktemp("ran")
    with tempfile.TemporaryDirectory(prefix="crown-", dir="/tmp") as temporary:
        project = written(top, Path(temporary), zygote)
        every = ("checkpoint.every='6 steps'", "checkpoint.keep_every='1 steps'")
        workers = f"device.workers={request.param}"
        done = project.crown("task=train", *OWN, *every, workers, env={"SEEN": str(top / "seen")})
        assert done.returncode == 0, done.stdout
        yield project


@pytest.fixture
def project(tmp_path: Path, zygote: Zygote) -> Iterator[Project]:
    with tempfile.TemporaryDirectory(prefix="crown-", dir="/tmp") as temporary:
        yield written(tmp_path, Path(temporary), zygote)


def kept(project: Project) -> dict[str, bytes]:
    """Every file of the project and its store, without the index and Python's caches."""
    paths = [path for path in project.root.parent.rglob("*") if path.is_file()]
    return {
        str(path): path.read_bytes() for path in paths
        if "__pycache__" not in path.parts and "registry" not in path.name and path.suffix != ".pt"
    }  # fmt: skip


def alike(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


# --- batch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [1, 8, 26, 40, *(pytest.param(step, marks=pytest.mark.full) for step in (5, 23, 24, 35, 36))],
)
def test_a_batch_is_what_the_run_saw(ran: Project, step: int) -> None:
    """At the start, across epochs, at the ends of loops; of a stream; of a source that draws by itself."""
    before, temporary = kept(ran), Path(ran.environment["TMPDIR"])
    seen = torch.load(ran.root.parent / "seen" / f"{step}.pt")
    done = ran.crown("batch", f"latest@{step}", "--save", "found.pt")
    assert done.returncode == 0, done.stdout
    found = torch.load(ran.root / "found.pt")
    assert alike(found, seen), (found, seen)
    assert f"turn {step} of r" in done.stdout
    (ran.root / "found.pt").unlink()
    assert kept(ran) == before
    assert not [path for path in temporary.rglob("*") if "torchinductor" not in str(path)]


def test_what_is_shown_of_a_batch(ran: Project) -> None:
    done = ran.crown("batch", "latest@9", "--save", "found.json")
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"turn 9 of r\d+-\w+", lines[1])
    assert re.fullmatch(r" +\.x +float32 \(8, 3\) +min \S+ +max \S+ +mean \S+ +\[.*…", lines[2])
    index = re.fullmatch(r" +\.index +int64 \(8,\) .*\[(.*)\]", lines[3])
    assert index
    tree = json.loads((ran.root / "found.json").read_text())
    assert tree["index"] == [int(number) for number in index[1].split(", ")]
    assert tree["name"] == [f"n{number}" for number in tree["index"]]
    done = ran.crown("batch", "latest@9", "--save", "found.npz")
    assert done.returncode == 0, done.stdout
    script = "import numpy; f = numpy.load('found.npz'); print(f['index'].tolist() == %r)"
    read = subprocess.run(
        [sys.executable, "-c", script % tree["index"]], cwd=ran.root, capture_output=True, text=True
    )
    assert read.stdout == "True\n", read.stderr
    for name in ("found.json", "found.npz"):
        (ran.root / name).unlink()


@pytest.mark.parametrize("every", ["checkpoint.every='2 steps'", "checkpoint.every='1000 steps'"])
def test_of_a_loop_after_one_that_was_left(project: Project, every: str) -> None:
    """Which loop a turn is of is what the run did, whether a checkpoint tells or not."""
    seen = project.root.parent / "seen"
    ran = project.crown("task=train", "task.leave=7", *OWN, every, env={"SEEN": str(seen)})
    assert ran.returncode == 0, ran.stdout
    for step in (7, 8, 11):
        done = project.crown("batch", f"latest@{step}", "--save", "found.pt")
        assert done.returncode == 0, done.stdout
        assert alike(torch.load(project.root / "found.pt"), torch.load(seen / f"{step}.pt"))


def test_bad_input(ran: Project) -> None:
    before = kept(ran)
    for arguments, words in (
        (("batch", "latest@99"), "latest@99: no such turn: the run ended after 41"),
        (("batch", "latest@0"), "latest@0: expected a turn from 1 on"),
        (("batch", "latest"), "latest: expected RUN@STEP, a turn counted from 1: k7f@120"),
        (("batch", "latest@x"), "got 'x' for a step"),
        (("debug", "latest@latest"), "expected RUN@STEP, a turn counted from 1"),
        (("debug", "zzzzzz@3"), "zzzzzz"),
        (
            ("batch", "latest@3", "--save", "found.txt"),
            "expected a file that ends in .pt, .npz, .json",
        ),
        (("batch", "latest@3", "--save", "nowhere/found.pt"), "there is no folder nowhere"),
        (("batch", "latest@3", "task.fail=4"), "would make another turn of it: task.fail ("),
        (("batch", "latest@3", "device.workerz=4"), "device.workerz"),
    ):
        done = ran.crown(*arguments)
        assert done.returncode == 2, done.stdout
        assert words in done.stdout
        assert len(done.stdout.splitlines()) == 1, done.stdout
    assert kept(ran) == before


def test_a_run_without_a_loop(project: Project) -> None:
    assert project.crown("task=no_turn", *OWN).returncode == 0
    for word in ("batch", "debug"):
        done = project.crown(word, "latest@1")
        assert done.returncode == 2
        assert "this run made no turn: its task has no loop of run.steps" in done.stdout


def test_a_run_that_failed(project: Project) -> None:
    """The turn that it failed in is there, and none after it."""
    seen = project.root.parent / "seen"
    assert project.crown("task=train", "task.fail=6", *OWN, env={"SEEN": str(seen)}).returncode == 1
    done = project.crown("batch", "latest@6", "--save", "found.pt")
    assert done.returncode == 0, done.stdout
    assert alike(torch.load(project.root / "found.pt"), torch.load(seen / "6.pt"))
    done = project.crown("batch", "latest@7")
    assert (done.returncode, done.stdout) == (
        2,
        "latest@7: no such turn: the run failed in turn 6\n",
    )


def test_a_fork_begins_after_its_parent(project: Project) -> None:
    every = ("checkpoint.keep_last=9", "limits.steps=4")
    assert project.crown("task=train", *OWN, *every).returncode == 0
    forked = project.crown("fork", "latest@8", "limits.steps=8")
    assert forked.returncode == 0, forked.stdout
    done = project.crown("batch", "latest@8")
    assert (done.returncode, done.stdout) == (
        2, "latest@8: expected a turn from 9 on (those before are another run's: it is a fork)\n",
    )  # fmt: skip
    done = project.crown("batch", "latest@10")
    assert done.returncode == 0, done.stdout


# --- debug ------------------------------------------------------------------------------------------


def typed(project: Project, commands: str, *arguments: str) -> tuple[int, str]:
    """The commands, typed into a debugger's standard input; the exit code, and what was said."""
    child = project.popen(*arguments, stdin=subprocess.PIPE)
    said, _ = child.communicate(commands, timeout=120)
    return child.returncode, said


def test_the_debugger_opens_at_the_top_of_the_turn(ran: Project) -> None:
    before = kept(ran)
    seen = torch.load(ran.root.parent / "seen/15.pt")
    commands = "p ('there', run.step, batch['index'].tolist())\nn\nn\nc\n"
    code, said = typed(ran, commands, "debug", "latest@15")
    assert code == 0, said
    assert re.search(r"> \S+tasks.py\(\d+\)train\(\)\n-> keep\(run, batch\)", said)
    assert f"('there', 15, {seen['index'].tolist()})" in said
    assert "-> learn(run, net, opt, batch" in said
    assert "turn 15 is over; nothing is kept" in said
    assert "TurnIsOver" not in said and "Traceback" not in said
    assert kept(ran) == before
    temporary = Path(ran.environment["TMPDIR"])
    assert not [path for path in temporary.rglob("*") if "torchinductor" not in str(path)]


def test_the_turn_is_the_very_one(ran: Project) -> None:
    """The weights are those of the run at that turn: so is the loss that comes of them."""
    commands = "n\nn\nn\np ('logged', net[0].weight.sum().item())\nc\n"
    first = typed(ran, commands, "debug", "latest@16")[1]
    (found,) = re.findall(r"\('logged', (\S+)\)", first)
    again = typed(ran, "p ('logged', net[0].weight.sum().item())\nc\n", "debug", "latest@17")[1]
    assert re.findall(r"\('logged', (\S+)\)", again) == [found]


def test_a_frame_that_hands_its_turns_on(project: Project) -> None:
    assert project.crown("task=hands_on", *OWN).returncode == 0
    code, said = typed(project, "p batch\nc\n", "debug", "latest@4")
    assert code == 0, said
    assert re.search(r"> \S+tasks.py\(\d+\)turns\(\)\n-> yield batch \* 2\n\(Pdb\) 3", said)


def test_left_by_q(ran: Project) -> None:
    code, said = typed(ran, "q\n", "debug", "latest@3")
    assert code == 130, said
    assert "ended in the debugger" in said


def test_the_error_of_the_turn(project: Project) -> None:
    """In a terminal: the debugger at the top of the turn, and again where it broke."""
    assert project.crown("task=train", "task.fail=6", *OWN).returncode == 1
    before = kept(project)
    terminal = Terminal(project, "debug", "latest@6")
    said = terminal.until("(Pdb) ")
    assert "begins again from the start" not in said
    assert re.search(r"-> keep\(run, batch\)", said)
    terminal.type("c")
    said = terminal.until("(Pdb) ")
    assert "RuntimeError" in said
    assert "-> torch.ones(2) @ torch.ones(3)" in said
    terminal.type("q")
    said = terminal.until("failed after 5 steps")
    assert terminal.end() == 1
    assert "next " not in terminal.said
    assert kept(project) == before
