from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crown_exp.data.batches import Batches
from crown_exp.data.order import feistel, mix, order

seeds = st.integers(-(2**70), 2**70)
epochs = st.integers(0, 10**6)


@given(seeds, epochs, st.integers(0, 3000))
def test_shuffled_is_a_permutation(seed: int, epoch: int, n: int) -> None:
    assert sorted(order(seed, epoch, n)[:]) == list(range(n))


@given(st.integers(0, 2**64 - 1), st.integers(1, 5000))
def test_feistel_is_a_permutation(key: int, n: int) -> None:
    assert sorted(feistel(np.arange(n), n, key).tolist()) == list(range(n))


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**62), st.data())
def test_feistel_stays_in_range_and_apart(key: int, n: int, data: st.DataObject) -> None:
    at = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20, unique=True))
    found = feistel(np.array(at), n, key).tolist()
    assert len(set(found)) == len(at)
    assert all(0 <= value < n for value in found)
    assert [feistel(np.array([one]), n, key).item() for one in at] == found


@given(seeds, epochs, st.integers(10**7, 10**12), st.data())
def test_a_slice_of_a_big_order_depends_on_where_it_lies_alone(
    seed: int, epoch: int, n: int, data: st.DataObject
) -> None:
    whole = order(seed, epoch, n)
    for _ in range(4):
        lo = data.draw(st.integers(0, n))
        size = data.draw(st.integers(0, 100))
        expected = feistel(np.arange(lo, min(lo + size, n)), n, mix(seed, epoch))
        assert whole[lo : lo + size] == expected.tolist()


def stream(n: int, batch: int, **options: object) -> Batches:
    return Batches(range(n), batch_size=batch, collate=list, **options)  # type: ignore[arg-type]


sizes = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@settings(deadline=None)
@given(sizes, st.integers(1, 3), seeds)
def test_every_position_resumes_the_straight_run(
    size: tuple[int, int], epochs: int, seed: int
) -> None:
    straight = list(stream(*size, seed=seed, epochs=epochs))
    live = stream(*size, seed=seed, epochs=epochs)
    running = iter(live)
    for position in range(len(straight) + 1):
        again = stream(*size, seed=seed, epochs=epochs)
        again.load_state_dict(live.state_dict())
        assert again.position == position
        assert list(again) == straight[position:]
        next(running, None)


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 60), st.integers(1, 3), seeds)
def test_ranks_share_out_the_global_order(
    world: int, batch: int, extra: int, epochs: int, seed: int
) -> None:
    n = world * batch + extra
    ranks = [stream(n, batch, seed=seed, epochs=epochs, rank=r, world=world) for r in range(world)]
    turns = list(zip(*ranks, strict=True))
    together = [[sample for part in turn for sample in part] for turn in turns]
    assert together == list(stream(n, batch * world, seed=seed, epochs=epochs))


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 60))
def test_ranks_that_evaluate_see_every_sample_once(world: int, batch: int, n: int) -> None:
    ranks = [stream(n, batch, seed=0, train=False, rank=r, world=world) for r in range(world)]
    found = [list(rank) for rank in ranks]
    assert [len(rank) for rank in ranks] == [len(parts) for parts in found]
    assert sorted(s for parts in found for part in parts for s in part) == list(range(n))
