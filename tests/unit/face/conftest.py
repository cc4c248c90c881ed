"""A project with three runs, made once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager

import pytest

import crown_exp
from tests.running import Project

TASKS = """
import torch

class Line(torch.nn.Module):
    def __init__(self, width, bias=True):
        super().__init__()
        self.layer = torch.nn.Linear(width, 1, bias=bias)


def line(run, model, *, factor=1.0, text="plain"):
    for turn in run.steps(4):
        run.log(loss=factor / run.step)
    return {"accuracy": factor, "by": {"name": text}}
"""


@contextmanager
def own_tasks() -> Iterator[None]:
    """Every project of these tests has a module `tasks`; inside, none is imported yet."""
    before = sys.modules.pop("tasks", None)
    try:
        yield
    finally:
        sys.modules.pop("tasks", None)
        if before is not None:
            sys.modules["tasks"] = before


@pytest.fixture(autouse=True)
def no_tasks_of_others() -> Iterator[None]:
    with own_tasks():
        yield


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[str]]:
    """The project, and the ids of its runs, the oldest first."""
    root = tmp_path_factory.mktemp("face")
    project = Project.write(root, TASKS, line="factor: 1.0\ntext: plain")
    (root / "conf/model").mkdir()
    (root / "conf/model/narrow.yaml").write_text("_target_: tasks.Line\nwidth: 3\n")
    with chdir(root), own_tasks():
        ids = [
            crown_exp.start("task=line", "model=narrow", f"task.factor={factor}", more).id
            for factor, more in (
                (1.0, "tags=[paper]"),
                (2.0, "tags=[paper]"),
                (3.0, "name='<b>odd</b>'"),
            )
        ]
    return project, ids


@pytest.fixture
def ids(three: tuple[Project, list[str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Inside of the project: the ids of its runs."""
    monkeypatch.chdir(three[0].root)
    return three[1]
