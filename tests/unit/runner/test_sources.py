"""What `run.steps` goes over when a run goes on: what knows its place, and what is fetched again."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from crown_exp.outcome import ExitCode
from crown_exp.runner import Run
from tests.running import Lab
from tests.unit.runner.test_resume import Noisy

CONFIG = {"checkpoint": {"every": "2 steps"}}


def shuffled(run: Run) -> Any:
    return DataLoader(Noisy(), batch_size=2, shuffle=True)


def in_workers(run: Run) -> Any:
    return DataLoader(Noisy(), batch_size=2, shuffle=True, num_workers=2)


def drawn(run: Run) -> Iterator[tuple[Tensor, int]]:
    for number in range(10):
        yield torch.rand(2) + random.random(), number


@pytest.mark.parametrize("source", [shuffled, in_workers, drawn])
def test_what_keeps_no_place_is_fetched_again_and_told(
    lab: Lab, source: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stops = {4}

    def task(run: Run) -> list[float]:
        seen = run.state(sums=[])
        for items, labels in run.steps(source(run)):
            if run.step in stops and stops:
                stops.discard(run.step)
                os.kill(os.getpid(), signal.SIGTERM)
            drew = float(items.sum()) + float(torch.as_tensor(labels).sum()) + float(torch.rand(()))
            seen.sums = [*seen.sums, drew + random.random()]
        return list(seen.sums)

    stopped = lab.make(task, CONFIG)
    assert lab.attempt(stopped).code == ExitCode.PREEMPTED
    capsys.readouterr()
    again = lab.attempt(stopped)
    assert again.code == 0, again.said
    told = capsys.readouterr().err
    assert "keeps no place: its first 4 items are fetched again" in told
    assert "run.batches(dataset, …) goes on exactly" in told
    straight = lab.run(task, CONFIG)
    assert again.ending.result == straight.ending.result


@pytest.mark.parametrize("source", [10, ["a", "b", "c", "d", "e", "f"], (1, 2, 3, 4, 5)])
def test_a_count_and_a_sequence_need_no_word(
    lab: Lab, source: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stops = {3}

    def task(run: Run) -> list[Any]:
        seen = run.state(items=[])
        for item in run.steps(source):
            if run.step in stops:
                stops.clear()
                os.kill(os.getpid(), signal.SIGTERM)
            seen.items = [*seen.items, item]
        return list(seen.items)

    stopped = lab.make(task, CONFIG)
    assert lab.attempt(stopped).code == ExitCode.PREEMPTED
    again = lab.attempt(stopped)
    assert again.ending.result == list(range(10) if source == 10 else source)
    assert "keeps no place" not in capsys.readouterr().err


def test_a_second_pass_that_is_shuffled_anew_is_another_order_and_told(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    stops = {8}

    def task(run: Run) -> list[list[int]]:
        loader = DataLoader(list(range(12)), batch_size=2, shuffle=True)
        seen = run.state(first=[], second=[])
        for name in ("first", "second"):
            for batch in run.steps(loader, name=name):
                torch.rand(run.step)  # as training would
                if run.step in stops:
                    stops.clear()
                    os.kill(os.getpid(), signal.SIGTERM)
                setattr(seen, name, [*getattr(seen, name), *batch.tolist()])
        return [seen.first, seen.second]

    stopped = lab.make(task, CONFIG)
    assert lab.attempt(stopped).code == ExitCode.PREEMPTED
    capsys.readouterr()
    again = lab.attempt(stopped)
    assert "a DataLoader that shuffles may not" in capsys.readouterr().err
    straight = lab.run(task, CONFIG)
    assert again.ending.result[0] == straight.ending.result[0]
    assert sorted(again.ending.result[1]) != list(range(12))  # what the line warns of


def test_a_set_is_refused(lab: Lab) -> None:
    ended = lab.run(lambda run: list(run.steps({"a", "b"})))
    assert ended.code == 1
    assert (
        "run.steps: a set has no order that another process finds again; expected sorted(…)"
        in ended.said
    )
