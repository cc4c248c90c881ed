"""docs/tutorial.md, step by step: each writes the files it shows and types its commands, in one project."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from tests.pages import ROOT, Block, Shell, blocks_of, changed, compare, masked, missing

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

PAGE = ROOT / "docs/tutorial.md"
RUN = re.compile(r"\br\d{6}-(\w{6})\b")


def steps() -> Iterator[tuple[str, list[Block]]]:
    """The numbered headings of the page, each with the blocks below it."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    starts = [at for at, line in enumerate(lines, 1) if line.startswith("## ")]
    for start, end in pairwise([*starts, len(lines) + 1]):
        yield lines[start - 1][3:], [it for it in blocks_of(PAGE) if start < it.line < end]


STEPS = dict(steps())


def test_the_steps_are_numbered() -> None:
    assert [title.partition(". ")[0] for title in STEPS] == [str(n + 1) for n in range(len(STEPS))]


def test_nothing_is_shown_that_is_not_carried_out() -> None:
    first, *rest = blocks_of(PAGE)
    assert (first.language, first.text) == ("sh", "pip install matplotlib\n")
    assert rest == [block for blocks in STEPS.values() for block in blocks]
    assert {block.language for block in rest} == {"console", "python", "yaml", "diff"}


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / link).exists(), link


@dataclass
class Learner:
    """Someone who works through the page. The runs that it shows are others than those made here."""

    shell: Shell
    ids: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def carry_out(self, block: Block) -> None:
        if block.language == "console":
            compare(block, self.type, self.missing)
        elif block.language == "diff":
            path = self.shell.directory / block.path
            path.write_text(changed(path.read_text(encoding="utf-8"), block), encoding="utf-8")
        else:
            path = self.shell.directory / block.path
            path.parent.mkdir(exist_ok=True)  # of a group that is new
            path.write_text(block.body, encoding="utf-8")

    def type(self, command: str) -> tuple[int, str]:
        for shown, made in self.ids.items():
            command = command.replace(shown, made)
        command, at, _ = command.partition(" # and Ctrl-C")
        return self.interrupted(command) if at else self.shell.type(command)

    def interrupted(self, command: str) -> tuple[int, str]:
        """A command of a run, and Ctrl-C once it has logged some hundred turns."""
        logs = ".crown/store/runs/*/log/*.seg"
        before = set(self.shell.directory.glob(logs))
        child = subprocess.Popen(
            shlex.split(command), cwd=self.shell.directory, env=self.shell.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        while child.poll() is None:
            new = set(self.shell.directory.glob(logs)) - before
            if any(path.stat().st_size > 10_000 for path in new):
                child.send_signal(signal.SIGINT)
                break
            time.sleep(0.05)
        said, _ = child.communicate(timeout=120)
        self.shell.code = child.returncode
        return child.returncode, said

    def missing(self, printed: str, shown: str) -> str:
        """What is shown and not printed, after noting which run stands for which."""
        here = defaultdict(list)
        for line in printed.splitlines():
            here[one(line)].append(line)
        for line in shown.splitlines():
            if RUN.search(line) and here[one(line)]:
                same = here[one(line)].pop(0)
                self.ids |= dict(zip(RUN.findall(line), RUN.findall(same), strict=True))
        for name, made in self.ids.items():
            shown = re.sub(rf"(?<!-){name}", made, shown)
        return missing(printed, shown)


def one(line: str) -> str:
    """A line, masked."""
    return "".join(masked(line))


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Learner:
    root = tmp_path_factory.mktemp("tutorial")
    path = os.pathsep.join((str(ROOT), str(ROOT / "launchers")))
    return Learner(Shell(root, {"PYTHONPATH": path, "HOME": str(root), "PYTEST_ADDOPTS": ""}))


@pytest.mark.parametrize("step", STEPS)
def test_step(step: str, learner: Learner) -> None:
    if learner.done != [*STEPS][: len(learner.done)] or step != [*STEPS][len(learner.done)]:
        pytest.skip("it takes the steps before it")
    for block in STEPS[step]:
        learner.carry_out(block)
    learner.done.append(step)


def test_what_is_there_at_the_end(learner: Learner) -> None:
    if len(learner.done) != len(STEPS):
        pytest.skip("it takes all steps")
    lab: Path = learner.shell.directory
    assert (lab / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(lab.glob(".crown/store/runs/*/files/*/confusion.png"))) == 6
    assert len(results(lab, 2)) == 1
    assert results(lab, 1) == results(lab, 2)


def results(lab: Path, attempts: int) -> list[object]:
    """What the runs of a thousand steps returned that took so many attempts."""
    records = [json.loads(path.read_text()) for path in lab.glob(".crown/store/runs/*/result.json")]
    return [it["result"] for it in records if (it["step"], it["attempt"]) == (1000, attempts)]
