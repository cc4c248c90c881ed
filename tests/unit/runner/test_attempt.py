"""One attempt: what it records, and what it does with a run that is over."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import crown_exp
from crown_exp import Run
from crown_exp.errors import ConfigError, StoreError
from crown_exp.outcome import ExitCode
from tests.running import Lab


def train(run: Run) -> dict[str, float]:
    for turn in run.steps(3):
        run.log(loss=1 / (turn + 1))
    return {"loss": 1 / 3}


def test_the_records_of_a_run(lab: Lab) -> None:
    ended = lab.run(train, {"seed": 3, "device": {"threads": 1}})
    assert (ended.code, ended.state, ended.ending.error) == (0, "completed", "")
    (attempt,), (end,), result = ended.facts.attempts, ended.facts.ends, ended.facts.result
    assert (attempt.attempt, attempt.pid, attempt.job) == (1, os.getpid(), None)
    assert attempt.numerics.pop("device_name")
    assert attempt.numerics == {
        "device": "cpu", "precision": "fp32", "tf32": False, "deterministic": False,
        "compile": False, "accumulate": 1, "threads": 1, "ranks": 1,
    }  # fmt: skip
    assert attempt.versions["torch"] == torch.__version__
    assert attempt.versions["crown_exp"] == crown_exp.__version__
    assert (end.exit_code, end.step, end.reason, end.error) == (0, 3, "completed", None)
    assert result is not None
    assert (result.result, result.step, result.attempt) == ({"loss": 1 / 3}, 3, 1)
    assert attempt.started <= result.ended == end.ended


def test_what_is_said_of_it(lab: Lab) -> None:
    folder = lab.blobs.local_path("runs/r261124-000001")
    first, progress, *rest = lab.run(train).said.splitlines()
    assert first == "test  r261124-000001  cpu (auto: no GPU here; fp32: the default on cpu)"
    assert progress.startswith("3/3 steps  ")
    assert progress.endswith("  loss 0.3333")
    assert re.fullmatch(
        r"r261124-000001 completed after 3 steps in \d+:\d\d, [\d,]+ MB", rest.pop(0)
    )
    assert rest == [
        "  loss             0.333333",
        f"folder  {folder}",
        "next    python -m crown_exp -m task=x seed=1,2,3",
    ]


def test_the_device_its_reason_and_the_memory_it_took_are_recorded(lab: Lab) -> None:
    events = {record[2]: record[3] for record in lab.run(train).records if record[0] == "e"}
    reason = "auto: no GPU here; fp32: the default on cpu"
    assert events["device"].pop("name")
    assert events["device"] == {"device": "cpu", "reason": reason}
    assert 50e6 < events["memory"]["host"] < 50e9 and "device" not in events["memory"]


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        (None, []),
        (0.25, ["  result           0.25"]),
        ({"a": True, "b": [1, 2], "c": None, "d": {"e": 1}},
         ["  a                True", "  b                [1, 2]", "  c                None",
          '  d                {"e": 1}']),
        ([1.0, 2.0], ["  result           [1.0, 2.0]"]),
    ],
)  # fmt: skip
def test_how_results_are_shown(lab: Lab, result: Any, lines: list[str]) -> None:
    said = lab.run(lambda run: result).said.splitlines()
    assert [line for line in said if line.startswith("  ")] == lines


def test_a_completed_run_is_not_run_again(lab: Lab) -> None:
    called: list[int] = []

    def task(run: Run) -> dict[str, int]:
        called.append(1)
        return {"answer": 42}

    run = lab.make(task)
    lab.attempt(run)
    again = lab.attempt(run, take_over=True)
    assert called == [1]
    assert (again.code, again.ending.result) == (0, {"answer": 42})
    assert again.said == f"{run} is completed already; nothing was run\n  answer           42\n"
    assert len(again.facts.attempts) == 1


def test_a_stopped_run_goes_on_as_another_attempt(lab: Lab) -> None:
    def task(run: Run) -> int:
        if run.attempt == 1:
            raise KeyboardInterrupt
        return run.attempt

    run = lab.make(task)
    assert lab.attempt(run, job="7").code == 130
    again = lab.attempt(run, job="7")
    assert (again.code, again.ending.result, again.state) == (0, 2, "completed")
    assert "  attempt 2  " in again.said
    assert "begins again from the start: nothing was saved" in again.said
    assert [attempt.job for attempt in again.facts.attempts] == ["7", "7"]


def test_a_device_that_is_not_there_makes_no_attempt(lab: Lab) -> None:
    for config, words in (
        ({"kind": "cuda"}, "device: cuda is not available on this machine; expected auto, cpu"),
        ({"precision": "fp16"}, "device.precision: fp16 is not available on this cpu"),
    ):
        run = lab.make(train, {"device": config})
        with pytest.raises(ConfigError) as caught:
            lab.attempt(run)
        assert words in str(caught.value)
        assert lab.facts(run).attempts == []


def test_the_code_that_ran_is_hashed_as_it_was_imported(lab: Lab) -> None:
    lab.home.mkdir()
    shutil.copytree(Path(__file__).parent, lab.home / "site-packages")
    source = "import pathlib\n\ndef train(run):\n    pathlib.Path(__file__).write_text('# edited meanwhile')\n"
    (lab.home / "edited.py").write_text(source)
    ended = lab.run("edited.train")
    (end,) = ended.facts.ends
    assert ended.code == 0, ended.said
    assert end.code is not None
    assert end.code["files"] == ["edited.py"]
    digest = hashlib.sha256(source.encode()).hexdigest()
    from crown_exp.compute.code import code_hash

    assert end.code["hash"] == code_hash({"edited.py": digest})


@pytest.mark.parametrize("progress", ["none", "lines", "bar"])
def test_progress_can_be_chosen(lab: Lab, progress: str) -> None:
    said = lab.run(train, {"tracker": {"progress": progress}}).said
    assert ("3/3 steps" in said) == (progress != "none")
    assert ("\r" in said) == (progress == "bar")


def test_a_run_of_a_sweep_says_which_it_is(lab: Lab) -> None:
    from dataclasses import replace

    from crown_exp.folder import RunPaths
    from crown_exp.folder.records import encode

    run = lab.make(train)
    record = replace(lab.facts(run).run, sweep={"id": "s-1", "number": 7, "of": 40})
    lab.portal.call(lab.blobs.put, RunPaths(run).record, encode(record))
    said = lab.attempt(run).said
    assert f"test  {run}  run 7 of 40  cpu" in said
    assert "next" not in said


def test_a_command_to_type_next_is_one_that_works_in_a_shell(lab: Lab) -> None:
    from dataclasses import replace

    from crown_exp.folder import RunPaths
    from crown_exp.folder.records import encode

    run = lab.make(train)
    record = replace(
        lab.facts(run).run, overrides=["+experiment=x", "seed=4", "name=a b", "task.w='$HOME'"]
    )
    lab.portal.call(lab.blobs.put, RunPaths(run).record, encode(record))
    *_, last = lab.attempt(run).said.splitlines()
    assert last == (
        "next    python -m crown_exp -m +experiment=x 'name=a b' 'task.w='\"'\"'$HOME'\"'\"'' seed=1,2,3"
    )


def test_every_exit_code_has_words(lab: Lab) -> None:
    from crown_exp.errors import Diverged, OutOfMemory, Stopped, StoreError, TaskError

    expected = {
        ExitCode.RAISED: ("failed", TaskError("wrong")),
        ExitCode.OUT_OF_MEMORY: ("failed", OutOfMemory("no room")),
        ExitCode.DIVERGED: ("failed", Diverged("nan")),
        ExitCode.INFRASTRUCTURE: ("lost", StoreError("away")),
        ExitCode.PREEMPTED: ("preempted", Stopped("told to", 75)),
        ExitCode.CAPPED: ("capped", Stopped("too dear", 77)),
        ExitCode.INTERRUPTED: ("stopped", Stopped("by you", 130)),
    }
    for code, (state, error) in expected.items():

        def task(run: Run, error: BaseException = error) -> None:
            raise error

        ended = lab.run(task)
        assert ended.code == code
        assert f"{ended.id} {state} after 0 steps" in ended.said
        assert str(error) in ended.said


def test_a_failed_run_is_not_run_again(lab: Lab) -> None:
    calls = []

    def fails(run: Run) -> None:
        calls.append(run.attempt)
        raise ValueError("no")

    run = lab.make(fails)
    assert lab.attempt(run).code == 1
    again = lab.attempt(run)
    assert (again.code, again.state) == (1, "failed")
    assert "failed (ValueError: no) already; nothing was run" in again.said
    assert calls == [1]
    assert len(again.facts.attempts) == 1


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("I do not speak")


def test_an_error_that_cannot_tell_its_message_ends_the_run_like_any_other(lab: Lab) -> None:
    def fails(run: Run) -> None:
        raise Mute

    ended = lab.run(fails)
    assert (ended.code, ended.state) == (1, "failed")
    assert ended.facts.ends[0].error is not None
    assert ended.facts.ends[0].error["type"] == "Mute"


@pytest.mark.parametrize("damage", [b"", b"a: [", b"- 1\n", b"task: {}\n", b"\xff\xfe"])
def test_a_damaged_config_is_told_in_a_line(lab: Lab, damage: bytes) -> None:
    run = lab.make(train)
    config = lab.blobs.local_path(f"runs/{run}/config.yaml")
    assert config is not None
    config.write_bytes(damage)
    with pytest.raises(StoreError, match=r"config\.yaml: damaged"):
        lab.attempt(run)


async def asynchronous(run: Run) -> None:
    """Not a task."""


def test_an_async_task_is_refused(lab: Lab) -> None:
    ended = lab.run(asynchronous)
    assert ended.code == 1
    assert "is async; a task is a plain function" in ended.said
