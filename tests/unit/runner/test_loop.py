"""`run.steps`: where turns come from, how many there are, what a turn is called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from crown_exp import Run
from crown_exp.data import Batches, Stream
from tests.running import Lab


def turns(lab: Lab, source: Any, total: Any = None, limit: int | None = None) -> list[Any]:
    """What a loop yields, as a result."""

    def task(run: Run) -> list[Any]:
        return list(run.steps(source() if callable(source) else source, total))

    ended = lab.run(task, {"limits": {"steps": limit}})
    assert ended.code == 0, ended.said
    assert ended.ending.step == len(ended.ending.result)
    return list(ended.ending.result)


def endless() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


@pytest.mark.parametrize(
    ("source", "total", "limit", "expected"),
    [
        (3, None, None, [0, 1, 2]),
        (np.int64(2), None, None, [0, 1]),
        (0, None, None, []),
        (5, 2, None, [0, 1]),
        (2, 5, None, [0, 1]),
        (5, 0, None, []),
        (["a", "b", "c"], None, None, ["a", "b", "c"]),
        (["a", "b", "c"], np.int64(2), None, ["a", "b"]),
        ([], 4, None, []),
        (lambda: iter("abc"), None, None, ["a", "b", "c"]),
        (lambda: iter("abc"), 9, None, ["a", "b", "c"]),
        (endless, 4, None, [0, 1, 2, 3]),
        (endless, None, 2, [0, 1]),
        (endless, 3, 2, [0, 1]),
        (endless, 2, 3, [0, 1]),
        (5, None, 2, [0, 1]),
    ],
)
def test_sources_and_totals(
    lab: Lab, source: Any, total: Any, limit: int | None, expected: list[Any]
) -> None:
    assert turns(lab, source, total, limit) == expected


class Numbers:
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        return index


@pytest.mark.parametrize(
    ("options", "total", "turns_made"),
    [
        ({}, None, 3),  # one epoch of whole batches
        ({}, 7, 7),  # over epochs
        ({"epochs": 2}, None, 6),
        ({"epochs": 2}, 100, 6),
        ({"epochs": 2}, 5, 5),
        ({"train": False}, None, 4),  # the ragged last one too
        ({"train": False}, 100, 4),  # one pass, however many are asked for
    ],
)
def test_batches(lab: Lab, options: dict[str, Any], total: int | None, turns_made: int) -> None:
    def task(run: Run) -> int:
        batches = run.batches(Numbers(), batch_size=3, **options)
        assert isinstance(batches, Batches)
        return sum(1 for _ in run.steps(batches, total))

    ended = lab.run(task)
    assert ended.ending.result == turns_made, ended.said
    assert f"{turns_made}/{turns_made} steps" in ended.said


class Flow:
    def __iter__(self) -> Iterator[int]:
        return iter(range(10))


@pytest.mark.parametrize(
    ("options", "total", "limit", "turns_made"),
    [
        ({}, None, None, 3),  # one epoch of whole batches
        ({}, None, 2, 2),
        ({}, 7, None, 7),  # over epochs
        ({"epochs": 2}, None, None, 6),
        ({"epochs": 2}, 100, None, 6),
        ({"epochs": 2}, 5, None, 5),
        ({"train": False}, None, None, 4),  # the ragged last one too
        ({"train": False}, 100, None, 4),
    ],
)
@pytest.mark.parametrize("zipped", ["", "first", "second"])
def test_streams_and_what_is_zipped(
    lab: Lab,
    options: dict[str, Any],
    total: int | None,
    limit: int | None,
    turns_made: int,
    zipped: str,
) -> None:
    def task(run: Run) -> int:
        source: Any = Stream(Flow(), batch_size=3, seed=0, **options)
        own = {key: value for key, value in options.items() if key == "train"}
        if zipped == "first":
            source = source.zip(Batches(Numbers(), batch_size=3, seed=0, **own))
        elif zipped:
            flow = Stream(Flow(), batch_size=3, seed=0, **own)
            source = Batches(Numbers(), batch_size=3, seed=0, **options).zip(flow)
        return sum(1 for _ in run.steps(source, total))

    ended = lab.run(task, {"limits": {"steps": limit}})
    assert ended.ending.result == turns_made, ended.said


def test_one_epoch_after_another_of_a_stream(lab: Lab) -> None:
    def task(run: Run) -> list[int]:
        stream = Stream(Flow(), batch_size=5, seed=0)
        first = [int(batch[0]) for batch in run.steps(stream)]
        first += [int(batch[0]) for batch in run.steps(stream, 1, name="b")]
        return first + [int(batch[0]) for batch in run.steps(stream, name="c")]

    assert lab.run(task).ending.result == [0, 5, 0, 5]


@pytest.mark.parametrize(
    ("source", "total", "words"),
    [
        (-1, None, "run.steps(-1): expected a whole number of turns"),
        (True, None, "run.steps(True)"),
        (1e4, None, "run.steps(10000.0)"),
        (5, -2, "run.steps(total=-2)"),
        (5, 2.0, "run.steps(total=2.0)"),
        (5, "7", "run.steps(total='7')"),
        (None, None, "a NoneType cannot be iterated; expected a count, batches or an iterable"),
    ],
)
def test_what_is_no_loop(lab: Lab, source: Any, total: Any, words: str) -> None:
    def task(run: Run) -> None:
        for _ in run.steps(source, total):
            pass

    ended = lab.run(task)
    assert (ended.code, ended.state) == (1, "failed")
    assert words in ended.ending.error
    assert "Traceback" not in ended.said


def test_steps_are_counted_over_all_loops(lab: Lab) -> None:
    def task(run: Run) -> list[int]:
        seen = [run.step]
        run.log(at=0)
        for _ in run.steps(2):
            seen.append(run.step)
            run.log(at=1)
        seen.append(run.step)
        run.log(at=2)
        for _ in run.steps(3, name="finetune"):
            seen.append(run.step)
            run.log(at=3)
        return seen

    ended = lab.run(task)
    assert ended.ending.result == [0, 1, 2, 2, 3, 4, 5]
    assert [step for step, _ in ended.points] == [0, 1, 2, 2, 3, 4, 5]
    assert ended.ending.step == 5
    assert "finetune 3/3 steps" in ended.said


def test_a_second_loop_needs_a_name(lab: Lab) -> None:
    def task(run: Run) -> None:
        for _ in run.steps(1):
            pass
        for _ in run.steps(1):
            pass

    ended = lab.run(task)
    assert ended.code == 1
    assert "a loop named 'main' ran already" in ended.said


def test_no_loop_within_a_turn(lab: Lab) -> None:
    def task(run: Run) -> None:
        for epoch in run.steps(2):
            for _ in run.steps(3, name=f"epoch{epoch}"):
                pass

    ended = lab.run(task)
    assert ended.code == 1
    assert "within a turn of another" in ended.said


def test_a_turn_that_was_left_is_not_done_and_keeps_its_number(lab: Lab) -> None:
    def task(run: Run) -> int:
        for turn in run.steps(10):
            run.log(turn=turn)
            if turn == 3:
                break
        return run.step

    ended = lab.run(task)
    assert (ended.code, ended.ending.step, ended.ending.result) == (0, 3, 4)


def test_a_turn_that_raised_is_not_done(lab: Lab) -> None:
    def task(run: Run) -> None:
        for turn in run.steps(10):
            assert turn < 4

    ended = lab.run(task)
    assert (ended.code, ended.ending.step) == (1, 4)
    (end,) = ended.facts.ends
    assert end.step == 4


def test_an_error_of_the_source_is_the_task_s(lab: Lab) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise LookupError("the shard is gone")

    def task(run: Run) -> None:
        for _ in run.steps(source()):
            pass

    ended = lab.run(task)
    assert (ended.code, ended.ending.error) == (1, "LookupError: the shard is gone")


def test_no_loop_at_all(lab: Lab) -> None:
    ended = lab.run(lambda run: {"answer": 42})
    assert (ended.code, ended.ending.result, ended.ending.step) == (0, {"answer": 42}, 0)
    assert ended.facts.result is not None
    assert ended.facts.result.result == {"answer": 42}


def test_every_by_steps_at_the_top_of_turns(lab: Lab) -> None:
    def task(run: Run) -> list[int]:
        found = [turn for turn in run.steps(10) if run.every("3 steps") and run.every("3 steps")]
        found += [turn for turn in run.steps(4, name="b") if run.every("2 steps")]
        return [*found, run.every("1 step")]

    assert lab.run(task).ending.result == [3, 6, 9, 2, True]


def test_every_by_time_holds_all_through_a_turn(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def task(run: Run) -> list[list[bool]]:
        nonlocal now
        monkeypatch.setattr("crown_exp.runner.intervals.time.monotonic", lambda: now)
        answers = []
        for turn in run.steps(5):
            now = turn * 20.0
            answers.append([run.every("30 s"), run.every("30 s"), run.every("1 minute")])
        monkeypatch.undo()
        return answers

    yes, no = True, False
    assert lab.run(task).ending.result == [
        [no, no, no], [no, no, no], [yes, yes, no], [no, no, yes], [yes, yes, no],
    ]  # fmt: skip


@pytest.mark.parametrize("interval", ["nonsense", "0 steps", "-5 steps", "2.5 steps", "", "5"])
def test_every_with_nonsense(lab: Lab, interval: str) -> None:
    def task(run: Run) -> None:
        for _ in run.steps(1):
            run.every(interval)

    ended = lab.run(task)
    assert (ended.code, ended.state) == (1, "failed")
    assert "expected something like '500 steps'" in ended.ending.error
    assert "test_loop.py" in ended.said  # the place


def test_a_pass_over_other_batches_in_a_turn(lab: Lab) -> None:
    def task(run: Run) -> list[int]:
        train = run.batches(Numbers(), batch_size=5)
        test = run.batches(Numbers(), batch_size=4, train=False)
        sums = []
        for _ in run.steps(train, 3):
            if run.every("1 step"):
                sums.append(int(torch.cat(list(test)).sum()))
        return sums

    assert lab.run(task).ending.result == [45, 45]


def test_a_source_that_cannot_tell_its_length(lab: Lab) -> None:
    class Unsized:
        def __len__(self) -> int:
            raise TypeError("no length")

        def __iter__(self) -> Any:
            return iter("abcdef")

    def task(run: Run) -> dict[str, Any]:
        return {"seen": list(run.steps(Unsized(), 4))}

    assert lab.run(task).ending.result == {"seen": list("abcd")}
