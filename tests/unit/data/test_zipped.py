from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import pytest

from crown_exp.data import Batches, Stream
from crown_exp.errors import TaskError


class Endless:
    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))


def batches(n: int, name: str = "a", **options: Any) -> Batches:
    options = {"batch_size": 2, "order": "sequential", "collate": list, **options}
    return Batches(range(n), seed=0, name=name, **options)


def stream(n: int, name: str = "s", **options: Any) -> Stream:
    options = {"batch_size": 2, "collate": list, "tell": lambda line: None, **options}
    return Stream(Endless(n), seed=0, name=name, **options)


def take(source: Any, count: int) -> list[Any]:
    found = []
    for batch in source:
        found.append(batch)
        if len(found) == count:
            break
    return found


def test_training_turns_are_of_the_first_the_others_go_on_over_their_epochs() -> None:
    pair = batches(6, "a", epochs=2).zip(batches(4, "b"))
    assert (len(pair), pair.train, pair.epochs, pair.name) == (3, True, 2, "a+b")
    assert list(pair) == [
        ([0, 1], [0, 1]), ([2, 3], [2, 3]), ([4, 5], [0, 1]),
        ([0, 1], [2, 3]), ([2, 3], [0, 1]), ([4, 5], [2, 3]),
    ]  # fmt: skip


def test_streams_take_part() -> None:
    triple = batches(4, epochs=1).zip(stream(6), batches(2, "b"))
    assert list(triple) == [([0, 1], [0, 1], [0, 1]), ([2, 3], [2, 3], [0, 1])]
    pair = stream(4).zip(batches(6, "b"))
    with pytest.raises(TypeError):
        len(pair)
    assert list(pair.epoch()) == [([0, 1], [0, 1]), ([2, 3], [2, 3])]
    assert list(pair.epoch()) == [([0, 1], [4, 5]), ([2, 3], [0, 1])]


@pytest.mark.parametrize("other", [batches, stream])
def test_any_place_is_resumed(other: Any) -> None:
    straight = list(batches(10, "a", epochs=2).zip(other(6, "a")))
    for position in range(1, 10):
        live = batches(10, "a", epochs=2).zip(other(6, "a"))
        head = take(live, position)
        state = live.state_dict()
        assert set(state) == {"a", "a#2"}
        again = batches(10, "a", epochs=2).zip(other(6, "a"))
        again.load_state_dict(state)
        assert head + list(again) == straight
        assert head + list(live) == straight


def test_evaluation_is_one_pass_each_time() -> None:
    pair = batches(3, "a", train=False).zip(stream(4, train=False))
    assert len(pair) == 2
    assert list(pair) == list(pair) == [([0, 1], [0, 1]), ([2], [2, 3])]


def test_evaluation_of_unequal_lengths_names_both() -> None:
    with pytest.raises(TaskError, match="equally long: a makes 2 batches, b makes 3 batches"):
        batches(4, "a", train=False).zip(batches(6, "b", train=False))


@pytest.mark.parametrize(
    ("n", "said"),
    [(3, "s ended after 2 batches, before a"), (8, "a ended after 3 batches, before s")],
)
def test_evaluation_with_a_stream_of_another_length(n: int, said: str) -> None:
    found = []
    with pytest.raises(TaskError, match=said):
        for pair in batches(6, train=False).zip(stream(n, train=False)):
            found.append(pair)
    assert len(found) == min(3, -(-n // 2))


def test_workers_of_all_end_with_the_loop() -> None:
    pair = batches(6, workers=1).zip(batches(6, workers=2), stream(6, workers=1))
    for turn, _ in enumerate(pair):
        assert len(multiprocessing.active_children()) == 4
        if turn == 4:
            break
    assert multiprocessing.active_children() == []


def test_names_stay_apart() -> None:
    made = batches(2, "a#2").zip(batches(2, "a"), batches(2, "a"), batches(2, "a"))
    assert list(made.state_dict()) == ["a#2", "a", "a#3", "a#4"]


def test_a_state_of_others_is_refused() -> None:
    with pytest.raises(TaskError, match=r"a\+b: the state is of a, c, these are a, b"):
        batches(2, "a").zip(batches(2, "b")).load_state_dict(
            batches(2, "a").zip(batches(2, "c")).state_dict()
        )


def test_mistakes() -> None:
    one, flow = batches(4), stream(4)
    twin = Stream(flow.dataset, batch_size=1, seed=1)
    for others, said in [
        (
            (batches(4, "b", train=False),),
            "all must be for training, or none: a train=True, b train=False",
        ),
        ((one,), "a is in it twice"),
        ((flow, twin), "s is in it twice"),
        ((batches(4, "b", epochs=2),), "b has epochs=2; only the first can have epochs"),
        (([1, 2],), "expected what run.batches makes, got list"),
        ((one.zip(flow),), "got Zipped; name all in one call"),
    ]:
        with pytest.raises(TaskError, match=said):
            one.zip(*others)  # type: ignore[arg-type]


def test_one_dataset_with_an_index_may_be_read_by_two() -> None:
    data = list(range(4))
    pair = Batches(data, batch_size=2, seed=0, epochs=1).zip(Batches(data, batch_size=2, seed=1))
    assert len(list(pair)) == 2
