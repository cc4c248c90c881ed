"""crown-exp verify: planted inexactnesses are found and named, exact tasks pass, nothing stays."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Project

HEAD = """
import os
import random
import time
from pathlib import Path

import numpy as np
import torch

SEEN = {}
calls = 0
WORDS = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"}


class Numbers:
    def __init__(self, own=False):
        self.own, self.dice, self.asked = own, random.Random(3), 0

    def __len__(self):
        return 32

    def __getitem__(self, index):
        self.asked += 1
        noise = self.dice.random() if self.own else torch.rand(()).item()
        return torch.full((3,), index / 32) + noise


class Counter:
    count = 0


def made(run, own=False):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.3), torch.nn.Linear(4, 1))
    opt = torch.optim.AdamW(net.parameters(), lr=0.01)
    run.track(net=net, opt=opt)
    return net, opt, run.batches(Numbers(own), batch_size=4)


def turn(run, net, opt, batch, factor=1.0):
    loss = (net(batch) - batch.sum()).square().mean() * factor
    run.backward(loss)
    run.update(opt)
    run.log(loss=loss)
"""

CLEAN = """
def clean(run):
    net, opt, batches = made(run)
    kept = run.state(total=0.0)
    dice = np.random.default_rng(5)
    run.track(dice=dice)
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch, 1 + kept.total + dice.random() + random.random())
        kept.total += 0.1
    for number in run.steps(3, name="more"):
        turn(run, net, opt, torch.rand(4, 3))
    return {"total": kept.total}
"""

PLANTED = {
    "untracked_local": ("kill", "total", """
    total = 0.0
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch, 1 + total)
        total += 0.1
"""),
    "global_cache": ("kill", "SEEN", """
    for batch in run.steps(batches, 40):
        SEEN[run.step] = 0.1
        turn(run, net, opt, batch, 1 + len(SEEN))
"""),
    "global_name": ("kill", "calls", """
    global calls
    for batch in run.steps(batches, 40):
        calls += 1
        turn(run, net, opt, batch, 1 + calls)
"""),
    "time_dependent": ("repeat", "time", """
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch, 1 + time.time() % 1)
"""),
    "unseeded": ("repeat", "without a seed", """
    dice = np.random.default_rng()
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch, 1 + dice.random())
"""),
    "set_order": ("repeat", "WORDS", """
    factors = {word: number for number, word in enumerate(WORDS)}
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch, 1 + factors["alpha"] + 0.1 * factors["beta"])
"""),
    "class_counter": ("kill", "Counter.count", """
    for batch in run.steps(batches, 40):
        Counter.count += 1
        turn(run, net, opt, batch, 1 + Counter.count)
"""),
    "untracked_generator": ("kill", "generator", """
    noise = torch.Generator().manual_seed(7)
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch, 1 + torch.rand((), generator=noise).item())
"""),
    "dataset_with_state": ("workers", "self.dice", """
    batches = run.batches(Numbers(own=True), batch_size=4)
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch)
"""),
    "file_outside": ("repeat", "a file", """
    file = Path(os.environ["SCRATCH"]) / "count"
    for batch in run.steps(batches, 40):
        count = int(file.read_text()) if file.exists() else 0
        file.write_text(str(count + 1))
        turn(run, net, opt, batch, 1 + count)
"""),
    "file_in_the_run": ("kill", "a file", """
    file = run.folder / "count"
    for batch in run.steps(batches, 40):
        count = int(file.read_text()) if file.exists() else 0
        file.write_text(str(count + 1))
        turn(run, net, opt, batch, 1 + count)
"""),
    "untracked_average": ("kill", "average", """
    average = [weight.detach().clone() for weight in net.parameters()]
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch, 1 + average[0].sum().abs().item())
        average = [0.9 * old + 0.1 * new.detach() for old, new in zip(average, net.parameters())]
"""),
    "rate_by_hand": ("kill", "rate", """
    rate = 0.01
    for batch in run.steps(batches, 40):
        rate *= 0.9
        opt.param_groups[0]["lr"] = rate
        turn(run, net, opt, batch)
"""),
    "process_number": ("repeat", "getpid", """
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch, 1 + os.getpid() / 1e6)
"""),
    "attempt_number": ("kill", "run.attempt", """
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch, run.attempt)
"""),
    "only_logged": ("kill", "sum_of", """
    sum_of = 0.0
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch)
        sum_of += 1
        run.log(sum_of=sum_of)
"""),
}  # fmt: skip

OTHERS = """
def no_turn(run):
    return {"answer": 42}


def no_loop(run):
    for number in run.steps(0):
        pass
    return {"answer": 42}


def failing(run):
    for number in run.steps(5):
        if number == 2:
            raise ValueError("broken")


def timed(run):
    net, opt, batches = made(run)
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch)
        run.log(seconds=time.time())


def strange_state(run):
    net, opt, batches = made(run)
    if run.resumed:
        run.track(more=torch.nn.Linear(1, 1))
    for batch in run.steps(batches, 40):
        turn(run, net, opt, batch)


def slow(run):
    for number in run.steps(8):
        Path(os.environ["SCRATCH"], "began").touch()
        time.sleep(0.5)
"""

TASKS = "\n\n".join(
    [HEAD, CLEAN, OTHERS]
    + [
        f"def {name}(run):\n    net, opt, batches = made(run)\n{body}"
        for name, (_, _, body) in PLANTED.items()
    ]
)

QUICK = ("untracked_local", "set_order")
OWN = ("device=cpu", "device.threads=1")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    root = tmp_path / "theirs"
    root.mkdir()
    (tmp_path / "scratch").mkdir()
    project = Project.write(root, TASKS)
    with tempfile.TemporaryDirectory(prefix="crown-", dir="/tmp") as temporary:
        project.environment = {"TMPDIR": temporary, "SCRATCH": str(tmp_path / "scratch")}
        yield project


def left(project: Project) -> list[str]:
    """Every file of the project and of the temporary directory, without caches of Python and torch."""
    tops = [project.root, Path(project.environment["TMPDIR"])]
    paths = [str(path) for top in tops for path in top.rglob("*")]
    return sorted(path for path in paths if not re.search("__pycache__|torchinductor_", path))


def verified(project: Project, task: str, *options: str) -> tuple[int, dict[str, object], str]:
    """The exit code, the verdict, and what was said on the way."""
    done = project.crown("verify", f"task={task}", *OWN, "--json", *options)
    told = done.stdout.splitlines()[-1] if done.stdout else ""
    return done.returncode, json.loads(told) if told.startswith("{") else {}, done.stdout


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in PLANTED],
)
def test_what_is_planted_is_found(project: Project, name: str) -> None:
    kind, suspect, _ = PLANTED[name]
    code, proof, said = verified(project, name)
    assert code == 1, said
    assert not proof["exact"]
    first = next(item for item in proof["comparisons"] if not item["equal"])
    assert first["kind"] == kind, said
    assert first["names"], said
    assert not suspect or any(
        suspect in f"{it['file']} {it['what']}" for it in proof["suspects"]
    ), said


def test_a_clean_task_is_exact(project: Project) -> None:
    before = left(project)
    done = project.crown("verify", "task=clean", *OWN)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "exact: 11 steps, 3 kills, 0 bits differ"
    assert left(project) == before


def test_the_first_tensor_is_named_with_its_step(project: Project) -> None:
    done = project.crown("verify", "task=untracked_local", *OWN)
    assert done.returncode == 1
    assert re.search(
        r"^inexact \(kill: .*\): loss in step 3 was \S+ and is \S+; "
        r"net\.0\.weight after step 3 has other values",
        done.stdout, re.MULTILINE,
    ), done.stdout  # fmt: skip
    assert "tasks.py  total: carried from turn to turn" in done.stdout


@pytest.mark.parametrize(
    ("task", "code", "words"),
    [
        ("no_turn", 2, "no_turn: makes no turn of run.steps"),
        ("no_loop", 2, "no_loop: makes no turn of run.steps"),
        ("failing", 1, "failing does not complete by itself: ValueError: broken"),
        (
            "strange_state",
            1,
            "it does not complete: cannot go on at step 2: more was not tracked then",
        ),
    ],
)
def test_tasks_that_cannot_be_proved(project: Project, task: str, code: int, words: str) -> None:
    before = left(project)
    done = project.crown("verify", f"task={task}", *OWN)
    assert done.returncode == code, done.stdout
    assert words in done.stdout
    assert left(project) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("task=nowhere",), "nowhere"),
        (("task=clean", "task.stepz=3"), "task.stepz"),
        (("task=clean", "seed=1,2"), "is a sweep of 2 runs"),
        (("task=clean", "debug=true"), "debug: verify makes runs of its own: leave it out"),
        (("task=clean", "resume=latest"), "resume: verify makes runs of its own: leave it out"),
        (("task=clean", "--step", "0"), "--step"),
        ((), "Missing argument"),
    ],
)
def test_bad_input(project: Project, arguments: tuple[str, ...], words: str) -> None:
    before = left(project)
    done = project.crown("verify", *arguments)
    assert done.returncode == 2, done.stdout
    assert words in done.stdout
    assert left(project) == before


@pytest.mark.full
def test_a_metric_that_may_differ(project: Project) -> None:
    code, proof, said = verified(project, "timed")
    assert code == 1
    assert [item["names"] for item in proof["comparisons"]] == [["seconds"], [], []], said
    code, proof, said = verified(project, "timed", "--ignore", "seconds", "--steps", "2")
    assert (code, proof["steps"], proof["kills"]) == (0, 2, 2), said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_after_a_signal(project: Project, number: int) -> None:
    before = left(project)
    child = project.popen("verify", "task=slow", *OWN, start_new_session=True)
    began = Path(project.environment["SCRATCH"]) / "began"
    while not began.exists():
        assert child.poll() is None
        time.sleep(0.01)
    os.killpg(child.pid, number)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == (130 if number == signal.SIGINT else 75), said
    assert left(project) == before


def test_the_user_s_own_store_is_not_touched(project: Project) -> None:
    kept = project.crown("task=no_turn", *OWN)
    assert kept.returncode == 0
    before = left(project)
    assert project.crown("verify", "task=no_turn", *OWN).returncode == 2
    assert left(project) == before
