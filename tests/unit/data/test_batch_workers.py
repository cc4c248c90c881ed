"""Worker processes: few tests, as each starts some."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal

import numpy as np
import pytest
import torch

from crown_exp.data import Batches


class Augmented:
    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> tuple[torch.Tensor, float, float, int]:
        noise = torch.randn(3) + i
        return noise, np.random.standard_normal(), random.gauss(0, 1), np.random.randint(100)


def bits(batch: list[torch.Tensor]) -> list[bytes]:
    return [part.clone().numpy().tobytes() for part in batch]


def test_the_same_bits_on_two_workers_and_none_from_any_position() -> None:
    here = Batches(Augmented(), batch_size=4, seed=9, epochs=3)
    straight = [bits(batch) for batch in here]
    there = Batches(Augmented(), batch_size=4, seed=9, epochs=3, workers=2)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    found, pids = [], set()
    for batch in there:
        found.append(bits(batch))
        pids |= {child.pid for child in multiprocessing.active_children()}
        assert there.position == len(found)  # delivered, not built ahead
        if len(found) == 7:
            break
    assert len(pids) == 2  # they lived on across the end of the epoch
    drawn = [random.random(), np.random.rand(), torch.rand(1).item()]
    found += [bits(batch) for batch in there]
    assert found == straight
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert drawn == [random.random(), np.random.rand(), torch.rand(1).item()]


class Broken(Augmented):
    def __getitem__(self, i: int) -> int:
        if i == 5:
            raise LookupError("no such file")
        return i


def test_a_worker_s_error_comes_with_its_traceback_and_its_samples() -> None:
    data = Batches(Broken(), batch_size=4, seed=0, train=False, workers=1, name="mine")
    with pytest.raises(LookupError) as caught:
        list(data)
    said = str(caught.value)
    assert "in __getitem__" in said
    assert "no such file" in said
    assert "mine: while building batch 1 of epoch 0: samples [4, 5, 6, 7]" in said


def test_a_stop_signal_to_the_whole_job_does_not_cost_the_turn() -> None:
    others = set(multiprocessing.active_children())
    data = iter(Batches(Augmented(), batch_size=2, seed=0, epochs=2, workers=1))
    next(data)
    (worker,) = set(multiprocessing.active_children()) - others
    os.kill(worker.pid, signal.SIGINT)
    os.kill(worker.pid, signal.SIGTERM)
    assert len(list(data)) == 19


def test_an_error_ends_the_workers_though_it_is_still_looked_at() -> None:
    """Else they would be waited for at the end of the process, and never told to end."""
    others = set(multiprocessing.active_children())
    data = Batches(Broken(), batch_size=4, seed=0, train=False, workers=2)
    with pytest.raises(LookupError) as caught:
        list(data)
    assert caught.value.__traceback__ is not None
    assert set(multiprocessing.active_children()) == others


def test_a_worker_that_is_asked_to_end_does_so_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """As multiprocessing asks at exit, once, and waits."""
    monkeypatch.setattr("crown_exp.data.batches.LINGER_SECONDS", 1)
    others = set(multiprocessing.active_children())
    data = iter(Batches(Augmented(), batch_size=2, seed=0, workers=1))
    next(data)
    (worker,) = set(multiprocessing.active_children()) - others
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        worker.terminate()
        worker.join(30)
        list(data)
    assert worker.exitcode == -signal.SIGALRM
