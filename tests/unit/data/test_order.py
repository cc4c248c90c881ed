from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from crown_exp.data.order import TABLE_BELOW, feistel, mix, order
from crown_exp.errors import TaskError


def test_golden_values() -> None:
    """A run resumed under a later version must meet the same samples: these never change."""
    assert order(0, 0, 10)[:] == [1, 5, 0, 4, 9, 7, 8, 3, 6, 2]
    assert order(0, 1, 10)[:] == [7, 9, 8, 0, 3, 6, 1, 5, 2, 4]
    assert order(7, 3, 1000)[500:508] == [722, 701, 472, 528, 514, 867, 864, 876]
    assert order(0, 0, 10**7)[:4] == [7785531, 2043286, 7228878, 8135291]
    assert order(7, 3, 10**9)[123456789:123456792] == [841870173, 375919333, 830330664]
    assert mix(0) == 16294208416658607535  # SplitMix64's first number from seed 0
    assert mix(1, 2, 3) == 7702586659592502839


def test_seed_and_epoch_each_change_the_order() -> None:
    orders = [order(seed, epoch, 50)[:] for seed in range(4) for epoch in range(4)]
    assert len({tuple(found) for found in orders}) == 16


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 + 5])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert sorted(order(seed, 0, 20)[:]) == list(range(20))


def test_a_big_order_is_computed_where_it_is_read() -> None:
    n = 10**15  # a table of these would need 8 petabytes
    big = order(5, 1, n)
    assert len(big) == n
    for lo in (0, 123_456, n // 2, n - 10):
        at = np.arange(lo, min(lo + 10, n))
        assert big[lo : lo + 10] == feistel(at, n, mix(5, 1)).tolist()
    assert big[n - 3 : n + 5] == big[n - 3 : n]
    assert big[10:10] == []


def test_the_big_order_begins_at_the_threshold() -> None:
    at = np.arange(100)
    assert order(1, 2, TABLE_BELOW)[:100] == feistel(at, TABLE_BELOW, mix(1, 2)).tolist()


def test_a_big_order_reads_the_same_in_any_pieces() -> None:
    n = TABLE_BELOW + 3
    whole = order(3, 0, n)[1000:16_000]
    pieces = order(3, 0, n)
    assert [i for lo in range(1000, 16_000, 7) for i in pieces[lo : min(lo + 7, 16_000)]] == whole
    assert pieces[1000:1003] == whole[:3]


def test_feistel_spreads() -> None:
    found = feistel(np.arange(20_000), 10**9, mix(4)) / 10**9
    assert abs(found.mean() - 0.5) < 0.01
    assert abs(found.std() - 12**-0.5) < 0.01
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.03


def test_sequential() -> None:
    assert order(9, 9, 6, "sequential")[2:] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    "make", [list, tuple, np.array, torch.tensor, lambda ids: np.array(ids, np.uint8)]
)
def test_a_function_may_return_any_integers(make) -> None:
    assert order(0, 0, 4, lambda epoch, n, seed: make([2, 0, 0, 3]))[:] == [2, 0, 0, 3]


def test_a_function_gets_epoch_samples_and_seed() -> None:
    asked = []

    def mine(epoch, n, seed):
        asked.append((epoch, n, seed))
        return range(n)

    assert order(7, 3, 5, mine)[1:3] == [1, 2]
    assert asked == [(3, 5, 7)]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([0, 1], "2 values"),
        ([0, 1, 2, 3, 4], "5 values"),
        ([0, 1, 2, 4], "it returned 4"),
        ([0, -1, 2, 3], "it returned -1"),
        ([0.0, 1.0, 2.0, 3.0], "float64"),
        ([True, False, True, False], "bool"),
        ([[0, 1], [2, 3]], "not list"),
        ([[0], [1, 2], 3, 4], "not list"),
        (None, "NoneType"),
        (iter([0, 1, 2, 3]), "not list_iterator"),
    ],
)
def test_a_wrong_answer_names_the_function(answer, said) -> None:
    def by_length(epoch, n, seed):
        return answer

    with pytest.raises(TaskError, match=r"by_length must return 4 integers from 0 to 3") as caught:
        order(0, 0, 4, by_length)
    assert said in str(caught.value)


def test_an_unknown_kind_names_the_choices() -> None:
    with pytest.raises(TaskError, match=r'"shuffled", "sequential" or a function'):
        order(0, 0, 4, "random")  # type: ignore[arg-type]


def test_an_order_is_read_forwards() -> None:
    with pytest.raises(ValueError, match="forwards"):
        order(0, 0, 4)[::-1]


def test_the_room_opens_without_torch() -> None:
    code = "import sys, crown_exp.data; assert 'torch' not in sys.modules; crown_exp.data.Batches"
    subprocess.run([sys.executable, "-c", code], check=True)
