"""Which checkpoints go."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.checkpoints import Best, Keep
from crown_exp.checkpoints.retention import Known, superfluous
from crown_exp.storage import Portal
from tests.checkpoint_states import attempt, listed, memory_store, saved


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


def known(*numbers: tuple[int, int], damaged: tuple[int, ...] = ()) -> list[Known]:
    return [Known(number, damaged=number[1] in damaged) for number in numbers]


def gone(items: list[Known], keep: Keep, verified: tuple[int, int]) -> list[tuple[int, int]]:
    return [item.number for item in superfluous(items, keep, verified)]


def test_the_newest_stay() -> None:
    items = known((1, 10), (1, 20), (1, 30), (1, 40))
    assert gone(items, Keep(), (1, 40)) == [(1, 10), (1, 20)]
    assert gone(items, Keep(last=1), (1, 40)) == [(1, 10), (1, 20), (1, 30)]
    assert gone(items, Keep(last=9), (1, 40)) == []


def test_a_later_attempt_is_newer_whatever_its_step() -> None:
    items = known((0, 90), (1, 100), (2, 10), (2, 20))
    assert gone(items, Keep(), (2, 20)) == [(0, 90), (1, 100)]


def test_those_at_multiples_stay_once() -> None:
    items = known((1, 5), (1, 10), (1, 15), (1, 20), (2, 20), (2, 25), (2, 30), (2, 35))
    assert gone(items, Keep(last=1, every=10), (2, 35)) == [(1, 5), (1, 15), (1, 20), (2, 25)]


def test_the_best_stays() -> None:
    values = {1: 0.5, 2: math.nan, 3: 0.9, 4: 0.9, 5: 0.1, 6: None, 7: 0.3}
    items = [
        Known((1, step), metrics={} if value is None else {"acc": value})
        for step, value in values.items()
    ]
    left = [(1, step) for step in (1, 2, 4, 5, 6)]
    assert gone(items, Keep(last=1, best=Best("acc", greatest=True)), (1, 7)) == left
    left = [(1, step) for step in (1, 2, 3, 4, 6)]
    assert gone(items, Keep(last=1, best=Best("acc", greatest=False)), (1, 7)) == left
    assert len(gone(items, Keep(last=1, best=Best("never logged", greatest=True)), (1, 7))) == 6


def test_damaged_ones_count_for_nothing() -> None:
    items = known((1, 10), (1, 20), (1, 30), (1, 40), damaged=(30, 40))
    assert gone(items, Keep(last=2), (1, 20)) == []
    items = known((1, 10), (1, 20), (1, 30), (2, 40), (2, 50), damaged=(10, 30))
    assert gone(items, Keep(last=2), (2, 50)) == [(1, 10), (1, 20), (1, 30)]
    assert gone(items, Keep(last=3), (2, 50)) == [(1, 10)]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), min_size=1, unique=True),
    st.data(),
)
def test_what_always_holds(numbers: list[tuple[int, int]], data: st.DataObject) -> None:
    verified = data.draw(st.sampled_from(numbers))
    items = [
        Known(number, damaged=number != verified and data.draw(st.booleans()), metrics={"m": 1.0})
        for number in numbers
    ]
    best = data.draw(st.none() | st.just(Best("m", greatest=True)))
    keep = Keep(data.draw(st.integers(1, 4)), data.draw(st.none() | st.integers(1, 30)), best)
    left = superfluous(items, keep, verified)
    stays = [item for item in items if item not in left]
    assert verified in [item.number for item in stays]
    whole = sorted((item.number for item in items if not item.damaged), reverse=True)
    assert {item.number for item in stays} >= set(whole[: keep.last])
    assert left == sorted(left, key=lambda item: item.number)
    assert superfluous(stays, keep, verified) == []


def test_manifests_go_before_packs(portal: Portal) -> None:
    """And a pack that another manifest names stays."""
    order = []

    class Told(type(memory_store())):  # type: ignore[misc]
        async def delete(self, path: str) -> None:
            order.append(path)
            await super().delete(path)

    blobs = Told("told")
    checkpoints = attempt(portal, blobs, keep=Keep(last=1))
    frozen = torch.arange(100)
    for step in (1, 2, 3):
        saved(checkpoints, step, [frozen, torch.full((9,), step)], frozen={id(frozen)})
    kinds = [path.split("/")[2] for path in order if not path.endswith(".damaged")]
    assert kinds == ["checkpoints", "packs", "checkpoints", "packs"]
    assert len([name for name in listed(portal, blobs) if name.startswith("packs/")]) == 2


def test_kept_for_good_through_a_run(portal: Portal) -> None:
    blobs = memory_store()
    best = Best("accuracy", greatest=True)
    checkpoints = attempt(portal, blobs, keep=Keep(last=2, every=4, best=best))
    for step, accuracy in enumerate([0.1, 0.2, 0.8, 0.3, 0.4, 0.5, 0.6, 0.1, 0.2, 0.3], 1):
        saved(checkpoints, step, torch.tensor(step), metrics={"accuracy": accuracy})
    left = [name for name in listed(portal, blobs) if name.endswith(".json")]
    assert [int(name[-17:-5]) for name in left] == [3, 4, 8, 9, 10]
