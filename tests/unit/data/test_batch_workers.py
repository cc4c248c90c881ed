"""Worker processes: few tests, as each starts some."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal

import numpy as np
import pytest
import torch

from crown_exp.data import Batches, Stream
from crown_exp.data.pinning import pinned
from crown_exp.errors import TaskError


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
    assert str(caught.value) == "no such file"
    assert caught.value.__notes__ == [
        "mine: while reading sample 5",
        "mine: while building batch 1 of epoch 0: samples [4, 5, 6, 7]",
    ]
    told = str(caught.value.__cause__)
    assert told.startswith("in worker 0 (pid ")
    assert "in __getitem__" in told
    assert 'raise LookupError("no such file")' in told


class Peculiar(Exception):
    """Cannot be made from its words."""

    def __init__(self, path: str, line: int) -> None:
        super().__init__(f"{path}:{line}")


class Rotten(Augmented):
    def __getitem__(self, i: int) -> int:
        raise Peculiar("part.tar", i)


def test_an_error_that_cannot_be_pickled_comes_by_its_words() -> None:
    data = Batches(Rotten(), batch_size=2, seed=0, train=False, workers=1, name="mine")
    with pytest.raises(RuntimeError) as caught:
        list(data)
    assert str(caught.value) == "Peculiar: part.tar:0"
    assert caught.value.__notes__[0] == "mine: while reading sample 0"
    assert 'raise Peculiar("part.tar", i)' in str(caught.value.__cause__)


class Lazy(Augmented):
    def __getitem__(self, i: int) -> object:
        return (number for number in range(i))


def test_a_batch_that_cannot_be_sent_is_an_error_not_a_hang() -> None:
    data = Batches(Lazy(), batch_size=2, seed=0, train=False, workers=1, collate=list)
    with pytest.raises(
        TaskError, match=r"data: batch 0 .* cannot be sent from a worker: .*generator"
    ):
        list(data)


def test_what_cannot_be_sent_to_workers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, where workers start anew."""
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr(torch.multiprocessing, "get_context", lambda: spawn)
    data = Batches(Augmented(), batch_size=2, seed=0, workers=1, collate=lambda found: found)
    with pytest.raises(
        TaskError, match=r"cannot be sent to workers .* top of a module, or use workers=0"
    ):
        list(data)


def test_workers_that_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr(torch.multiprocessing, "get_context", lambda: spawn)
    data = Batches(torch.arange(4), batch_size=2, seed=0, train=False, workers=1)
    stream = Stream(range(4), batch_size=2, seed=0, train=False, workers=1)
    for batches in zip(data, stream, strict=True):
        assert batches[0].tolist() == batches[1].tolist()


class Large(Augmented):
    def __getitem__(self, i: int) -> bytes:
        return bytes([i]) * 1_000_000


def test_batches_larger_than_a_pipe_holds() -> None:
    data = Batches(Large(), batch_size=1, seed=0, train=False, workers=2, collate=list)
    assert list(data) == [[bytes([i]) * 1_000_000] for i in range(20)]


def test_more_samples_in_a_batch_than_a_pipe_holds() -> None:
    data = Batches(range(400_000), batch_size=100_000, seed=0, train=False, workers=1, collate=sum)
    assert sum(data) == sum(range(400_000))


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
    monkeypatch.setattr("crown_exp.data.worker_process.LINGER_SECONDS", 1)
    others = set(multiprocessing.active_children())
    data = iter(Batches(Augmented(), batch_size=2, seed=0, workers=1))
    next(data)
    (worker,) = set(multiprocessing.active_children()) - others
    worker.terminate()
    worker.join(120)
    assert worker.exitcode == -signal.SIGALRM
    with pytest.raises(TaskError, match=r"worker 0 \(pid \d+\) died \(killed by signal 14\) while"):
        list(data)


@pytest.mark.parametrize("left", ["break", "error of the user's", "error of the move"])
def test_workers_end_with_the_loop(left: str) -> None:
    others = set(multiprocessing.active_children())

    def move(batch: object) -> object:
        return 1 / 0 if left == "error of the move" else batch

    data = Batches(Augmented(), batch_size=2, seed=0, workers=2, move=move)
    try:
        for _ in data:
            if left == "break":
                break
            1 / 0  # noqa: B018
    except ZeroDivisionError as error:
        assert set(multiprocessing.active_children()) == others, error
    assert set(multiprocessing.active_children()) == others


def test_pinned_batches_come_in_order_and_errors_after_them() -> None:
    def source():  # type: ignore[no-untyped-def]
        yield from range(3)
        raise LookupError

    found = []
    with pytest.raises(LookupError):
        for item in pinned(source(), lambda item: item * 10):
            found.append(item)
    assert found == [0, 10, 20]
    assert list(pinned((item for item in "ab"), str.upper)) == ["A", "B"]
