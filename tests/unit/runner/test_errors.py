"""What a task does wrong: its exit code, its words, and what its records say."""

from __future__ import annotations

import bdb
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crown_exp import Run
from crown_exp.runner.tracebacks import OURS
from tests.running import Lab


def broken(run: Run) -> None:
    for turn in run.steps(5):
        if turn == 2:
            try:
                {}["absent"]
            except KeyError as error:
                raise ValueError("cannot go on\nsecond line") from error


def test_a_task_that_raises(lab: Lab) -> None:
    ended = lab.run(broken)
    assert (ended.code, ended.state, ended.ending.step) == (1, "failed", 2)
    assert ended.ending.error == "ValueError: cannot go on"
    assert ended.said.count("Traceback (most recent call last)") == 2
    assert "KeyError: 'absent'" in ended.said
    assert "direct cause" in ended.said
    assert "in broken" in ended.said
    assert OURS not in ended.said
    (end,) = ended.facts.ends
    assert end.exit_code == 1
    assert end.error is not None
    assert (end.error["type"], end.error["message"]) == ("ValueError", "cannot go on\nsecond line")
    assert end.error["traceback"].endswith("ValueError: cannot go on\nsecond line\n")
    assert ended.facts.result is None


def test_only_the_end_of_a_deep_traceback_is_kept(lab: Lab) -> None:
    def even(number: int) -> int:
        return odd(number + 1)

    def odd(number: int) -> int:
        return even(number + 1)

    ended = lab.run(lambda run: even(0))
    assert ended.ending.error.startswith("RecursionError")
    (end,) = ended.facts.ends
    assert end.error is not None
    assert 1_000 < len(end.error["traceback"]) < 20_000


def test_a_group_of_errors(lab: Lab) -> None:
    def task(run: Run) -> None:
        for _ in run.steps(1):
            raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])

    ended = lab.run(task)
    assert ended.code == 1
    assert "ValueError: one" in ended.said
    assert "TypeError: two" in ended.said
    assert OURS not in ended.said


class Broken:
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 7:
            raise ValueError("sample 7 is damaged")
        return torch.tensor(float(index))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_dataset(lab: Lab, workers: int) -> None:
    def task(run: Run) -> None:
        for _ in run.steps(run.batches(Broken(), batch_size=3, order="sequential")):
            pass

    ended = lab.run(task, {"device": {"workers": workers}})
    assert (ended.code, ended.state, ended.ending.step) == (1, "failed", 2)
    assert ended.ending.error == "ValueError: sample 7 is damaged"
    assert "Broken: while reading sample 7" in ended.said
    assert "in __getitem__" in ended.said
    assert OURS not in ended.said


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (None, 0), (3, 1), ("no licence", 1)])
def test_sys_exit_in_a_task(lab: Lab, code: Any, expected: int) -> None:
    def task(run: Run) -> None:
        for _ in run.steps(3):
            sys.exit(code)

    ended = lab.run(task)
    assert (ended.code, ended.state) == (expected, "failed" if expected else "completed")
    if expected:
        assert ended.ending.error == f"the task called sys.exit({code!r})"
        assert "test_errors.py" in ended.said


def test_sys_exit_at_import(lab: Lab) -> None:
    lab.home.mkdir()
    (lab.home / "leaving.py").write_text("import sys\nsys.exit(4)\n")
    ended = lab.run("leaving.train")
    assert (ended.code, ended.state) == (1, "failed")
    assert ended.ending.error == "importing leaving.train called sys.exit(4)"


def test_a_module_that_raises_at_import(lab: Lab) -> None:
    lab.home.mkdir()
    (lab.home / "raising.py").write_text("def make():\n    return 1 / 0\n\nmake()\n")
    ended = lab.run("raising.train")
    assert (ended.code, ended.state) == (1, "failed")
    assert ended.ending.error == "ZeroDivisionError: division by zero"
    assert "raising.py" in ended.said
    assert "in make" in ended.said
    assert OURS not in ended.said
    assert "importlib" not in ended.said


def test_a_module_that_imports_what_is_not_there(lab: Lab) -> None:
    lab.home.mkdir()
    (lab.home / "wanting.py").write_text("import surely_not_installed\n")
    ended = lab.run("wanting.train")
    assert ended.ending.error == "ModuleNotFoundError: No module named 'surely_not_installed'"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere_at_all.train", "_target_=nowhere_at_all.train: no module named 'nowhere_at_all'"),
        ("os.path.nope", "_target_=os.path.nope: os.path has no 'nope'"),
        ("os.sep", "task._target_=os.sep is a str, not a function"),
    ],
)
def test_a_target_that_names_no_function(lab: Lab, target: str, words: str) -> None:
    ended = lab.run(target)
    assert (ended.code, ended.state, ended.ending.error) == (1, "failed", words)
    assert "Traceback" not in ended.said


class Odd:
    item = "not a method"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (object(), "the result is a object;"),
        ({"a": {"b": [1, {2}]}}, "the result['a']['b'][1] is a set;"),
        ({"w": torch.zeros(2, 3)}, "the result['w'] is a Tensor of shape (2, 3);"),
        ([np.zeros(4)], "the result[0] is a ndarray of shape (4,);"),
        (1 + 2j, "the result is a complex;"),
        (Odd(), "the result is a Odd;"),
        (np.complex64(1), "the result is a complex64 of shape ();"),
    ],
)
def test_a_result_that_cannot_be_kept(lab: Lab, result: Any, words: str) -> None:
    ended = lab.run(lambda run: result)
    assert (ended.code, ended.state) == (1, "failed")
    assert words in ended.ending.error
    assert "return numbers, strings, lists or dicts of them" in ended.said
    assert ended.facts.result is None


def test_results_that_can(lab: Lab) -> None:
    def task(run: Run) -> Any:
        return {
            "a": torch.tensor(0.5), "b": torch.tensor([[2]]), "c": np.float32(0.25), "d": np.int64(3),
            "e": np.array([True]), "f": (1, "x", None, True), 5: float("inf"), "n": {},
        }  # fmt: skip

    ended = lab.run(task)
    assert ended.code == 0, ended.said
    assert ended.facts.result is not None
    assert ended.facts.result.result == {
        "a": 0.5, "b": 2, "c": 0.25, "d": 3, "e": True, "f": [1, "x", None, True], "5": float("inf"),
        "n": {},
    }  # fmt: skip


def lacking_memory(run: Run) -> None:
    raise MemoryError


def lacking_device_memory(run: Run) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


def asking_too_much(run: Run) -> None:
    for _ in run.steps(1):
        torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("task", [lacking_memory, lacking_device_memory, asking_too_much])
def test_out_of_memory(lab: Lab, task: Any) -> None:
    ended = lab.run(task)
    assert (ended.code, ended.state) == (78, "failed")
    assert ended.ending.error.startswith("out of memory: ")
    assert "run.split" in ended.ending.error
    assert task.__name__ in ended.said


def test_leaving_the_debugger_is_a_stop(lab: Lab) -> None:
    def task(run: Run) -> None:
        raise bdb.BdbQuit

    ended = lab.run(task)
    assert (ended.code, ended.state) == (130, "stopped")
    assert "Traceback" not in ended.said


def test_the_end_block_of_a_failure(lab: Lab) -> None:
    said = lab.run(broken).said.splitlines()
    assert said[0].startswith("test  r261124-000001")
    assert re.fullmatch(r"r261124-000001 failed after 2 steps in \d+:\d\d, [\d,]+ MB", said[-3])
    assert said[-2:] == [
        f"folder  {lab.blobs.local_path('runs/r261124-000001')}",
        "next    crown-exp show r261124-000001",
    ]


def test_data_that_does_not_do(lab: Lab, tmp_path: Path) -> None:
    def run_over(data: Any, **options: Any) -> str:
        def task(run: Run) -> None:
            run.batches(data, **({"batch_size": 4} | options))

        ended = lab.run(task)
        assert (ended.code, ended.state) == (1, "failed")
        assert "Traceback" not in ended.said
        assert "test_errors.py" in ended.said
        return ended.ending.error

    assert "list holds no samples" in run_over([])
    assert "batch_size=4 needs 4 samples a turn, the dataset has 3" in run_over([1, 2, 3])
    assert "batch_size=0 must be at least 1" in run_over([1, 2, 3], batch_size=0)
    assert "workers=-1 must be at least 0" in run_over([1, 2, 3, 4], workers=-1)
    assert "can be read once" in run_over(iter([1, 2, 3]))
    assert "split= needs the dataset's group" in run_over([1, 2, 3, 4], split="test")
