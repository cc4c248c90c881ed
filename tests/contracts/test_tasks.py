"""The experiments that are shipped keep the contract of tasks, and the contract finds those that do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import crown_exp
from crown_exp.testing import TaskContract
from tests.running import Project

ROOT = Path(crown_exp.__file__).parents[1]


class TestDigits(TaskContract):
    overrides = ("+experiment=digits_cnn", "task.steps=12")

    @pytest.fixture(autouse=True)
    def in_the_checkout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(ROOT)


TASKS = """
import random
import uuid

def fine(run):
    for turn in run.steps(3):
        run.log(x=random.random())
    return {"x": float("nan")}

def silent(run):
    for _ in run.steps(3):
        pass

def drawing(run):
    return {"id": uuid.uuid4().hex}

def logging(run):
    for _ in run.steps(3):
        run.log(x=uuid.uuid4().int / 2**128)
    return {"x": 1}

def impatient(run):
    total = []
    for turn in run.steps(3):
        total.append(turn)
    return {"last": total[2]}

def unkept(run):
    return {"x": object()}
"""

TESTS = "from crown_exp.testing import TaskContract\n\n" + "".join(
    f"class Test_{name}(TaskContract):\n    overrides = ('task={name}',)\n\n"
    for name in ("fine", "silent", "drawing", "logging", "impatient", "unkept")
)


def test_the_contract_fails_where_it_should(tmp_path: Path) -> None:
    project = Project.write(tmp_path, TASKS)
    (tmp_path / "test_mine.py").write_text(TESTS + "class Test_none(TaskContract):\n    pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-W", "error", "--tb=line"],
        cwd=tmp_path, text=True, capture_output=True, check=False,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    passed = {
        line.split("::", 1)[1] for line in done.stdout.splitlines() if line.startswith("PASSED")
    }
    completes = "test_it_completes_and_returns_a_result"
    same, early = "test_the_same_seed_gives_the_same_bits", "test_it_can_end_early"
    assert passed == {
        *(f"Test_fine::{name}" for name in (completes, same, early)),
        *(f"Test_silent::{name}" for name in (same, early)),
        *(f"Test_drawing::{name}" for name in (completes, early)),
        *(f"Test_logging::{name}" for name in (completes, early)),
        *(f"Test_impatient::{name}" for name in (completes, same)),
    }, done.stdout  # fmt: skip
    assert "the task returns nothing: return {'accuracy': …}" in done.stdout
    assert "set `overrides` to a short run" in done.stdout
    assert project.runs == []
