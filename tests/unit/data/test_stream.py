from __future__ import annotations

import copy
import inspect
import multiprocessing
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset

from crown_exp.data import Batches, Stream, is_stream
from crown_exp.errors import TaskError


class Lines:
    """Without a state: samples with random numbers of every source."""

    def __init__(self, n: int = 10, noise: bool = True) -> None:
        self.n, self.noise, self.read = n, noise, 0

    def sample(self, i: int) -> Any:
        self.read += 1
        if not self.noise:
            return i
        return i, torch.randn(1).item(), np.random.standard_normal(), random.gauss(0, 1)

    def __iter__(self) -> Iterator[Any]:
        for i in range(self.n):
            yield self.sample(i)


class Kept(Lines):
    """With the protocol of Hugging Face's streaming datasets: another order in each epoch."""

    def __init__(self, n: int = 10, noise: bool = True) -> None:
        super().__init__(n, noise)
        self.epoch, self.at = 0, {"epoch": 0, "next": 0}
        self.start: dict[str, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        start = self.start["next"] if self.start and self.start["epoch"] == self.epoch else 0
        self.at = {"epoch": self.epoch, "next": start}
        order = random.Random(self.epoch).sample(range(self.n), self.n)
        for place in range(start, self.n):
            self.at["next"] = place + 1
            yield self.sample(order[place])

    def state_dict(self) -> dict[str, int]:
        return self.at

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state


def stream(dataset: Any, batch_size: int | None = 3, **options: Any) -> Stream:
    told: list[str] = []
    made = Stream(
        dataset,
        batch_size=batch_size,
        **{"seed": 1, "collate": list, "tell": told.append, **options},
    )
    made.told = told  # type: ignore[attr-defined]
    return made


def take(source: Any, count: int) -> list[Any]:
    """As many batches, not one more, as a loop that is left."""
    return list(islice(source, count))


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 3])
def test_training_goes_over_epochs_and_leaves_out_the_ragged_batch(workers: int) -> None:
    data = stream(Lines(10, noise=False), epochs=2, workers=workers)
    assert list(data) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]] * 2
    assert list(data) == []
    assert len(take(stream(Lines(4), 2, workers=workers), 50)) == 50


@pytest.mark.parametrize("workers", [0, 1])
def test_evaluation_is_one_whole_pass_each_time(workers: int) -> None:
    data = stream(Kept(4), train=False, workers=workers)
    first = list(data)
    assert [len(batch) for batch in first] == [3, 1]
    for _ in data:
        break
    assert list(data) == first


@pytest.mark.parametrize("kind", [Lines, Kept])
def test_the_same_bits_with_and_without_a_worker_from_any_position(kind: type[Lines]) -> None:
    straight = list(stream(kind(), epochs=2))
    assert list(stream(kind(), epochs=2, workers=2)) == straight
    for position in range(1, 7):
        live = stream(kind(), epochs=2, workers=position % 2)
        head = take(live, position)
        resumed = stream(kind(), epochs=2, workers=1 - position % 2)
        resumed.load_state_dict(live.state_dict())
        assert head + list(resumed) == straight
        assert head + list(live) == straight


sizes = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@settings(deadline=None, max_examples=60)
@given(sizes, st.integers(1, 3), st.sampled_from([Lines, Kept]), st.data())
def test_every_place_resumes_the_straight_run(
    size: tuple[int, int], epochs: int, kind: type[Lines], data: st.DataObject
) -> None:
    straight = list(stream(kind(size[0]), size[1], epochs=epochs))
    assert len(straight) == epochs * (size[0] // size[1])
    position = data.draw(st.integers(0, len(straight)))
    live = stream(kind(size[0]), size[1], epochs=epochs)
    loop = iter(live)
    head = [next(loop) for _ in range(position)]
    resumed = stream(kind(size[0]), size[1], epochs=epochs)
    resumed.load_state_dict(live.state_dict())
    assert head + list(resumed) == straight


def test_a_state_is_that_of_the_last_batch_handed_over() -> None:
    for workers in (0, 1):
        data = stream(Kept(), workers=workers)
        for turn, _ in enumerate(data):
            expected = {"epoch": 0, "batch": turn + 1, "batch_size": 3, "world": 1}
            expected["dataset"] = {"epoch": 0, "next": 3 * (turn + 1)}
            assert data.state_dict() == expected
            if turn == 1:
                break


def test_a_dataset_with_a_state_is_not_read_again() -> None:
    before = stream(Kept(), workers=1)
    take(before, 2)
    data = stream(Kept())
    data.load_state_dict(before.state_dict())
    next(iter(data))
    assert data.dataset.read == 3
    assert data.told == []  # type: ignore[attr-defined]


def test_one_without_is_read_again_and_that_is_told() -> None:
    data = stream(Lines(), name="mine")
    data.load_state_dict({"epoch": 1, "batch": 2, "dataset": None, "batch_size": 3, "world": 1})
    loop = iter(data)
    assert [sample[0] for sample in next(loop)] == [6, 7, 8]
    assert data.dataset.read == 9
    next(loop)
    assert data.told == [  # type: ignore[attr-defined]
        "mine: reading 6 samples again to go on at batch 2 of epoch 1; the dataset cannot start "
        "there by itself"
    ]


def test_it_is_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    data = Stream(Lines(), batch_size=2, seed=0)
    take(data, 1)
    next(iter(data))
    assert capsys.readouterr().err.startswith("data: reading 2 samples again")


class BufferShuffledExamplesIterable:
    pass


class MappedExamplesIterable:
    def __init__(self) -> None:
        self.ex_iterable = [BufferShuffledExamplesIterable()]


class Shuffled(Kept):
    """As Hugging Face's: the buffer is not in its state."""

    def __init__(self) -> None:
        super().__init__()
        self._ex_iterable = MappedExamplesIterable()


def test_a_state_that_forgets_is_not_used() -> None:
    straight = list(stream(Shuffled(), epochs=1))
    before = stream(Shuffled(), epochs=1)
    head = [next(iter(before))]
    assert before.state_dict()["dataset"] is None
    assert head + list(before) == straight
    assert len(before.told) == 1  # type: ignore[attr-defined]


def test_evaluation_that_is_resumed_goes_on_once() -> None:
    for kind in (Lines, Kept):
        before = stream(kind(), train=False)
        first = next(iter(before))
        data = stream(kind(), train=False)
        data.load_state_dict(before.state_dict())
        rest = list(data)
        assert [first, *rest] == list(data) == list(before)


def test_one_epoch_at_a_time() -> None:
    data = stream(Lines(10, noise=False))
    assert list(data.epoch()) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    take(data, 1)
    assert data.state_dict()["epoch"] == 1
    assert list(data.epoch()) == [[3, 4, 5], [6, 7, 8]]  # what is left
    take(data, 3)
    assert (data.state_dict()["epoch"], data.state_dict()["batch"]) == (2, 3)
    assert len(list(data.epoch())) == 3  # nothing was left


def test_the_caller_s_random_streams_are_untouched() -> None:
    def draws(data: Iterator[Any] | None) -> list[float]:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        found = []
        for _ in range(4):
            if data:
                next(data)
            found += [random.gauss(0, 1), np.random.rand(), torch.rand(1).item()]
        return found

    assert draws(iter(stream(Lines()))) == draws(None)


def test_random_numbers_differ_between_batches_epochs_and_ranks() -> None:
    runs = [list(stream(Lines(8), 2, epochs=2, rank=rank, world=2)) for rank in (0, 1)]
    noise = [sample[1:] for run in runs for batch in run for sample in batch]
    assert len(noise) == len(set(noise)) == 16


def test_ranks_share_out_the_stream() -> None:
    def ranks(n: int, train: bool) -> list[Any]:
        options = {"train": train, "world": 2, "epochs": 1 if train else None}
        return [list(stream(Lines(n, noise=False), 2, rank=rank, **options)) for rank in (0, 1)]

    assert ranks(10, train=True) == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    assert ranks(7, train=True) == [[[0, 1]], [[2, 3]]]
    assert ranks(7, train=False) == [[[0, 1], [4, 5]], [[2, 3], [6]]]
    assert ranks(2, train=False) == [[[0, 1]], []]


def test_a_dataset_of_batches() -> None:
    data = Stream([np.ones(2), np.zeros(2)], batch_size=None, seed=0, train=False)
    found = list(data)
    assert [batch.tolist() for batch in found] == [[1, 1], [0, 0]]
    assert isinstance(found[0], torch.Tensor)
    ranks = [
        stream(Lines(5, noise=False), None, collate=str, world=2, rank=r, epochs=1) for r in (0, 1)
    ]
    assert [list(rank) for rank in ranks] == [["0", "2"], ["1", "3"]]


def test_move_is_applied_to_what_is_delivered() -> None:
    assert list(stream(Lines(4, noise=False), 2, train=False, move=sum)) == [1, 5]


def test_an_error_names_the_sample_and_the_batch() -> None:
    class Broken(Lines):
        def sample(self, i: int) -> int:
            if i == 7:
                raise KeyError("no such shard")
            return i

    for workers in (0, 1):
        with pytest.raises(KeyError, match="no such shard") as caught:
            list(stream(Broken(), workers=workers, name="mine"))
        assert caught.value.__notes__ == ["mine: while reading sample 7 of epoch 0"]


def test_samples_that_differ_are_named() -> None:
    images = [torch.zeros(2), torch.zeros(3)]
    with pytest.raises(RuntimeError) as caught:
        list(Stream([torch.zeros(2)] * 2 + images, batch_size=2, seed=0))
    assert caught.value.__notes__ == [
        "data: sample 2 is float32 [2], sample 3 is float32 [3]; make them alike in the dataset, or "
        "pass collate=",
        "data: while building batch 1 of epoch 0: samples 2 to 3",
    ]


class OnlyOnce(Lines):
    def __iter__(self) -> Iterator[Any]:
        while self.n:
            self.n -= 1
            yield self.n


class Shrinking(Lines):
    def __iter__(self) -> Iterator[Any]:
        self.n -= 2
        return iter(range(self.n))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("dataset", "options", "said"),
    [
        (Lines(0), {}, "Lines yields nothing in epoch 0; check its path and split"),
        (Lines(0), {"train": False}, "Lines yields nothing in epoch 0"),
        (OnlyOnce(4), {}, "OnlyOnce yields nothing in epoch 1; its __iter__ must start anew"),
        (Lines(2), {}, "epoch 0 of Lines has 2 samples, a turn takes 3; use a smaller batch_size"),
        (Shrinking(6), {}, "epoch 1 of Shrinking has 2 samples"),
        (Lines(1), {"batch_size": None, "world": 2}, "has 1 batches, a turn takes 2"),
    ],
)
def test_an_epoch_without_a_batch_is_an_error(
    workers: int, dataset: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(TaskError, match=f"^data: .*{said}"):
        list(stream(copy.copy(dataset), workers=workers, **options))


def test_a_stream_that_became_shorter_than_where_it_was() -> None:
    data = stream(Lines(5))
    data.load_state_dict({"epoch": 0, "batch": 2, "dataset": None, "batch_size": 3, "world": 1})
    with pytest.raises(
        TaskError, match="cannot go on at batch 2 of epoch 0: the stream ends after 1"
    ):
        next(iter(data))


def test_signs_of_life_while_reading_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that reading for longer than the timeout is not taken for a hang."""
    monkeypatch.setattr("crown_exp.data.reading.SIGN_OF_LIFE_SECONDS", -1)
    data = stream(Lines(noise=False), workers=1)
    data.load_state_dict({"epoch": 0, "batch": 2, "dataset": None, "batch_size": 3, "world": 1})
    assert take(data, 2) == [[6, 7, 8], [0, 1, 2]]


def test_an_iterator_gives_one_pass() -> None:
    assert list(stream(iter(range(7)), epochs=1)) == [[0, 1, 2], [3, 4, 5]]
    for workers in (0, 1):
        data = stream((i for i in range(4)), train=False, workers=workers)
        assert list(data) == [[0, 1, 2], [3]]
        with pytest.raises(TaskError, match="generator was read already and cannot start anew"):
            list(data)
    data = stream(iter(range(7)), epochs=1)
    data.load_state_dict({"epoch": 0, "batch": 1, "dataset": None, "batch_size": 3, "world": 1})
    with pytest.raises(TaskError, match="cannot start anew"):
        list(data)


def test_two_loops_at_once_over_training_are_an_error() -> None:
    data = stream(Lines())
    with pytest.raises(TaskError, match="one loop at a time"):
        list(zip(data, data, strict=False))


@pytest.mark.parametrize(
    ("dataset", "options", "said"),
    [
        ({"batch_size": 2}, {}, "batch_size was 3 and is now 2"),
        ({"world": 2}, {}, "world was 1 and is now 2"),
        ({}, {"dataset": {"next": 1}}, "Lines kept its place and now cannot"),
    ],
)
def test_a_state_of_another_stream_is_refused(
    dataset: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    data = stream(Lines(), **{"batch_size": 3, **dataset})
    state = {"epoch": 2, "batch": 1, "dataset": None, "batch_size": 3, "world": 1, **options}
    with pytest.raises(TaskError, match=f"cannot go on at batch 1 of epoch 2: {said}"):
        data.load_state_dict(state)


@pytest.mark.parametrize(
    ("dataset", "options", "said"),
    [
        (7, {}, "int has no __iter__ to make batches from"),
        (DataLoader([1]), {}, "a DataLoader makes batches itself; give its dataset, or pass it"),
        (Lines(), {"order": "shuffled"}, "order= is for datasets with an index"),
        (Lines(), {"batch_size": 0}, "batch_size=0 must be at least 1"),
        (Lines(), {"epochs": 1, "train": False}, "epochs=1 goes with train=True only"),
        (iter([1]), {}, "a list_iterator can be read once; say epochs=1, or give"),
        (iter([1]), {"epochs": 2}, "a list_iterator can be read once"),
    ],
)
def test_a_mistake_is_one_line(dataset: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(TaskError, match=f"^mine: {said}") as caught:
        stream(dataset, name="mine", **options)
    assert "\n" not in str(caught.value)


class Sized(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[int]:
        return iter([1])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("dataset", "streams"),
    [
        (Lines(), True), (Kept(), True), (iter([1]), True), (Sized(), True), ({1, 2}, True),
        ([1], False), ({"a": 1}, False), (torch.ones(3), False), (7, False),
    ],
)  # fmt: skip
def test_which_datasets_are_streams(dataset: Any, streams: bool) -> None:
    assert is_stream(dataset) == streams


def test_the_arguments_are_those_of_batches() -> None:
    of_batches = inspect.signature(Batches).parameters
    of_streams = inspect.signature(Stream).parameters
    assert list(of_streams) == [*of_batches, "tell"]
