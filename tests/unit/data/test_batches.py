from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset, TensorDataset

from crown_exp.data import Batches
from crown_exp.errors import TaskError


class Numbers:
    """Sample i is i, with a random number from every source if asked."""

    def __init__(self, n: int, noise: bool = False) -> None:
        self.n, self.noise, self.read = n, noise, []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Any:
        self.read.append(i)
        if not self.noise:
            return i
        return i, torch.randn(1).item(), np.random.standard_normal(), random.gauss(0, 1)


def batches(n: int = 10, batch_size: int = 3, noise: bool = False, **options: Any) -> Batches:
    options = {"seed": 1, "collate": list, **options}
    return Batches(Numbers(n, noise), batch_size=batch_size, **options)


def take(source: Batches, count: int) -> list[Any]:
    return [batch for batch, _ in zip(source, range(count), strict=False)]


def test_training_runs_over_epochs_and_leaves_out_the_ragged_batch() -> None:
    data = batches(10, 3, epochs=3)
    found = list(data)
    assert len(data) == 3
    assert data.samples == 10
    assert [len(batch) for batch in found] == [3] * 9
    epochs = [[i for batch in found[e : e + 3] for i in batch] for e in (0, 3, 6)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert list(data) == []


def test_without_epochs_it_does_not_end() -> None:
    assert len([batch for batch, _ in zip(batches(4, 2), range(50), strict=False)]) == 50


def test_a_loop_goes_on_where_the_last_was_left() -> None:
    straight = list(batches(noise=True, epochs=2))
    data, parts = batches(noise=True, epochs=2), []
    for batch in data:
        parts.append(batch)
        if len(parts) == 2:
            break
    assert data.position == 2
    assert parts + list(data) == straight


def test_evaluation_is_one_whole_pass_each_time() -> None:
    data = batches(10, 4, train=False)
    assert len(data) == 3
    assert list(data) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for _ in data:
        break
    assert list(data) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_evaluation_with_randomness_repeats_itself() -> None:
    data = batches(10, 4, noise=True, train=False)
    assert list(data) == list(data)


def test_two_passes_of_evaluation_may_be_nested() -> None:
    data = batches(4, 2, train=False)
    assert [(a, b) for a in data for b in data] == [
        (a, b) for a in ([0, 1], [2, 3]) for b in ([0, 1], [2, 3])
    ]


def test_evaluation_that_is_resumed_goes_on_once() -> None:
    data = batches(10, 4, train=False)
    first = next(iter(data))
    state = data.state_dict()
    again = batches(10, 4, train=False)
    again.load_state_dict(state)
    assert [first, *again] == list(again)
    assert len(list(again)) == 3


def test_evaluation_may_be_smaller_than_a_batch() -> None:
    assert list(batches(2, 5, train=False)) == [[0, 1]]


@pytest.mark.parametrize("train", [True, False])
def test_the_caller_s_random_streams_are_untouched(train: bool) -> None:
    def draw() -> list[float]:
        normals = [np.random.standard_normal(), random.gauss(0, 1), torch.randn(1).item()]
        return [*normals, np.random.rand(), random.random(), torch.rand(1).item()]

    def seed() -> None:
        np.random.seed(5)
        random.seed(5)
        torch.manual_seed(5)

    seed()
    straight = [draw() for _ in range(4)]
    seed()
    data = iter(batches(20, 2, noise=True, train=train))
    interleaved = []
    for _ in range(4):
        interleaved.append(draw())
        next(data)
    assert interleaved == straight


def test_random_numbers_differ_between_batches_epochs_and_ranks() -> None:
    runs = [list(batches(8, 2, True, epochs=2, rank=rank, world=2)) for rank in (0, 1)]
    noise = [sample[1:] for run in runs for batch in run for sample in batch]
    assert len(noise) == len(set(noise)) == 16


def test_the_random_numbers_of_a_batch_do_not_depend_on_where_a_run_began() -> None:
    straight = list(batches(noise=True, epochs=3))
    torch.rand(3)
    data = batches(noise=True, epochs=3)
    data.load_state_dict({"position": 5, "samples": 10, "batch_size": 3, "world": 1})
    assert list(data) == straight[5:]


def test_resume_reads_no_sample_that_it_does_not_deliver() -> None:
    data = batches(1000, 10)
    data.load_state_dict({"position": 170, "samples": 1000, "batch_size": 10, "world": 1})
    (batch,) = take(data, 1)
    assert data.dataset.read[:10] == batch
    assert len(data.dataset.read) <= 20


def test_ranks_that_evaluate_see_every_sample_once() -> None:
    ranks = [batches(10, 3, train=False, rank=rank, world=3) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [2, 1, 1]
    assert [list(rank) for rank in ranks] == [[[0, 1, 2], [9]], [[3, 4, 5]], [[6, 7, 8]]]


def test_golden_stream() -> None:
    """Order and random numbers under one seed; a change would break every resumed run."""
    first, second = take(batches(100, 2, noise=True, seed=3), 2)
    assert [sample[0] for sample in first + second] == [63, 39, 67, 15]
    assert second[0][1:] == pytest.approx((-0.69932878, 0.28036364, 1.00754954), rel=1e-6)


def test_torch_datasets_and_default_collate() -> None:
    data = TensorDataset(torch.arange(6.0), torch.arange(6))
    (batch, *_) = Batches(data, batch_size=4, seed=0, train=False)
    assert [part.tolist() for part in batch] == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_a_dataset_may_read_many_samples_at_once() -> None:
    class Table:
        def __len__(self) -> int:
            return 6

        def __getitems__(self, ids: list[int]) -> list[int]:
            return [10 * i for i in ids]

    found = list(Batches(Table(), batch_size=4, seed=0, train=False, collate=tuple))
    assert found == [(0, 10, 20, 30), (40, 50)]


def test_collate_draws_from_the_batch_s_numbers() -> None:
    def mixup(samples: list[int]) -> float:
        return float(np.random.beta(1, 1))

    data = batches(6, 2, collate=mixup, train=False)
    assert list(data) == list(data)


def test_move_is_applied_to_what_is_delivered() -> None:
    assert list(batches(4, 2, train=False, move=sum)) == [1, 5]


def test_an_order_of_the_user_s_own() -> None:
    data = batches(4, 2, order=lambda epoch, n, seed: [epoch, 3, 2, 1], epochs=2)
    assert list(data) == [[0, 3], [2, 1], [1, 3], [2, 1]]
    assert list(batches(4, 2, order="sequential", epochs=1)) == [[0, 1], [2, 3]]
    shuffled = batches(5, 2, order="shuffled", train=False)
    assert sorted(i for batch in shuffled for i in batch) == list(range(5))


def test_an_order_that_draws_globally_is_still_pure_and_harmless() -> None:
    def careless(epoch: int, n: int, seed: int) -> list[int]:
        return np.random.permutation(n).tolist()

    np.random.seed(1)
    first = list(batches(6, 2, order=careless, epochs=3))
    after = np.random.rand()
    np.random.seed(1)
    assert np.random.rand() == after
    assert list(batches(6, 2, order=careless, epochs=3)) == first
    assert first[:3] != first[3:6]


def test_an_error_names_the_sample_and_the_batch() -> None:
    class Broken(Numbers):
        def __getitem__(self, i: int) -> int:
            if i == 5:
                raise KeyError("no such file")
            return i

    data = Batches(Broken(20), batch_size=3, seed=0, train=False, name="train_set")
    with pytest.raises(KeyError, match="no such file") as caught:
        list(data)
    assert caught.value.__notes__ == [
        "train_set: while reading sample 5",
        "train_set: while building batch 1 of epoch 0: samples [3, 4, 5]",
    ]


def test_a_dataset_cannot_end_the_loop_by_stop_iteration() -> None:
    class Exhausted(Numbers):
        def __getitem__(self, i: int) -> int:
            return next(iter([]))

    with pytest.raises(RuntimeError, match="data: the dataset raised StopIteration"):
        list(Batches(Exhausted(4), batch_size=2, seed=0, train=False))


def test_a_position_moved_under_a_loop_is_an_error() -> None:
    data = batches()
    loop = iter(data)
    next(loop)
    data.load_state_dict(batches().state_dict())
    with pytest.raises(TaskError, match="at batch 1 of this loop the position became 0"):
        next(loop)


def test_two_loops_at_once_over_training_batches_are_an_error() -> None:
    data = batches()
    with pytest.raises(TaskError, match="one loop at a time"):
        list(zip(data, data, strict=False))


def test_state_is_small_and_survives_json() -> None:
    data = batches()
    take(data, 2)
    assert data.state_dict() == {"position": 3, "samples": 10, "batch_size": 3, "world": 1}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 11}, "samples was 10 and is now 11"),
        ({"batch_size": 2}, "batch_size was 3 and is now 2"),
        ({"world": 2}, "world was 1 and is now 2"),
        ({"n": 12, "batch_size": 2}, "now 12, batch_size was 3"),
    ],
)
def test_a_state_of_other_data_is_refused(options: dict[str, int], said: str) -> None:
    data = batches(**options)
    with pytest.raises(TaskError, match=said):
        data.load_state_dict(batches().state_dict())
    assert data.position == 0


@pytest.mark.parametrize(("now", "train"), [(8, True), (12, True), (8, False)])
def test_a_dataset_that_changes_its_length_is_noticed_at_the_next_epoch(
    now: int, train: bool
) -> None:
    data = batches(10, 3, train=train)
    take(data, 2)
    data.dataset.n = now
    said = f"data: the dataset had 10 samples when its batches were made and has {now} now"
    with pytest.raises(TaskError, match=said):
        take(data, 4)
    with pytest.raises(TaskError, match=said):
        data.load_state_dict({"position": 1, "samples": 10, "batch_size": 3, "world": 1})


class Shrunken(Numbers):
    def __getitem__(self, i: int) -> int:
        return list(range(self.n))[i]


def test_an_index_that_is_gone_tells_that_the_dataset_shrank() -> None:
    data = Batches(Shrunken(9), batch_size=3, seed=0, train=False, collate=list)
    found = iter(data)
    next(found)
    data.dataset.n = 4
    with pytest.raises(TaskError, match="had 9 samples when its batches were made and has 4 now"):
        next(found)


def test_an_index_error_of_the_dataset_s_own_stays_that() -> None:
    class Off(Numbers):
        def __getitem__(self, i: int) -> int:
            return [0][i]

    with pytest.raises(IndexError) as caught:
        list(Batches(Off(3), batch_size=3, seed=0, train=False))
    assert "data: while reading sample 1" in caught.value.__notes__


def test_samples_that_differ_in_shape_are_named() -> None:
    images = [(torch.zeros(3, 8, 8), 1), (torch.zeros(3, 8, 8), 2), (torch.zeros(1, 8, 8), 3)]
    with pytest.raises(RuntimeError) as caught:
        list(Batches(images, batch_size=3, seed=0, train=False, name="mine"))
    assert caught.value.__notes__ == [
        "mine: sample 0 is (float32 [3, 8, 8], int), sample 2 is (float32 [1, 8, 8], int); make them "
        "alike in the dataset, or pass collate=",
        "mine: while building batch 0 of epoch 0: samples [0, 1, 2]",
    ]


def test_a_collate_that_fails_over_equal_samples_is_noted_by_its_batch_alone() -> None:
    with pytest.raises(TypeError) as caught:
        list(Batches([{"x": object}] * 2, batch_size=2, seed=0, train=False))
    assert caught.value.__notes__ == ["data: while building batch 0 of epoch 0: samples [0, 1]"]


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        return iter(range(3))

    def __len__(self) -> int:
        return 3


@pytest.mark.parametrize(
    ("dataset", "options", "said"),
    [
        (iter([1, 2]), {}, "list_iterator has no __len__ and __getitem__.*makes a Stream"),
        (Stream(), {}, "Stream has no .*makes a Stream"),
        (7, {}, "int has no __len__ and __getitem__ to make batches from$"),
        ([], {}, "list holds no samples"),
        ([1, 2], {"batch_size": 0}, "batch_size=0 must be at least 1"),
        ([1, 2], {"workers": -1}, "workers=-1 must be at least 0"),
        ([1, 2], {"batch_size": 2.0}, "batch_size=2.0 must be a whole number"),
        ([1, 2], {"batch_size": None}, "batch_size=None is for streams of batches"),
        ([1, 2], {"epochs": 0}, "epochs=0 must be at least 1"),
        ([1, 2], {"epochs": 2, "train": False}, "epochs=2 goes with train=True only"),
        ([1, 2], {"batch_size": 3}, "needs 3 samples a turn, the dataset has 2; use batch_size=2"),
        (
            [1] * 5,
            {"batch_size": 3, "world": 2},
            "3 on 2 ranks needs 6 .* use batch_size=2",
        ),
        ([1] * 5, {"batch_size": 1, "world": 8}, "use at most 5 ranks"),
        ([1, 2], {"order": "random"}, "order='random'; expected"),
    ],
)
def test_a_mistake_is_one_line(dataset: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(TaskError, match=said) as caught:
        Batches(dataset, seed=0, name="mine", **{"batch_size": 1, **options})
    assert str(caught.value).startswith("mine: ")
    assert "\n" not in str(caught.value)
