"""The order of samples: a pure function of (seed, epoch, position), so that resume reads no sample.

Two ways to shuffle. Below ten million samples a table (`torch.randperm` with a generator of its
own: 8 bytes and about 30 ns a sample, once an epoch); from there on a permutation that is computed
where it is read, without a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crown_exp.errors import TaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

OrderFunction = Callable[[int, int, int], "Sequence[int] | Tensor"]
"""(epoch, n, seed) → n integers in range(n); some may repeat and some be left out."""

OrderKind = Literal["shuffled", "sequential"] | OrderFunction

TABLE_BELOW = 10_000_000
READ_AHEAD = 4096
ROUNDS = 6
MASK = 2**64 - 1


class EpochOrder:
    """The samples of one epoch in their order: `order[lo:hi]` is a list of integers in range(n).

    A slice costs time in its length alone (and at most READ_AHEAD), wherever it lies.
    """

    def __init__(self, n: int, read: Callable[[int, int], list[int]]) -> None:
        self._n = n
        self._read = read

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, part: slice) -> list[int]:
        start, stop, step = part.indices(self._n)
        if step != 1:
            raise ValueError("an order is read forwards, by slices without a step")
        return self._read(start, max(start, stop))


def order(seed: int, epoch: int, n: int, kind: OrderKind = "shuffled") -> EpochOrder:
    """The order of `n` samples in `epoch` (from 0).

    kind: "shuffled", "sequential", or a function (epoch, n, seed) that returns `n` integers in
    range(n). The function must give the same answer each time it is asked: every rank and every
    resumed attempt asks it. Raises TaskError for any other kind and any other answer.
    """
    check_kind(kind)
    if kind == "sequential":
        return EpochOrder(n, lambda start, stop: list(range(start, stop)))
    if kind == "shuffled":
        key = mix(seed, epoch)
        return _table(_shuffled(n, key)) if n < TABLE_BELOW else EpochOrder(n, _Feistel(n, key))
    return _table(_checked(kind(epoch, n, seed), n, kind))


def check_kind(kind: OrderKind, name: str = "data") -> OrderKind:
    """`kind` itself. Raises TaskError if it is none."""
    if kind in ("shuffled", "sequential") or callable(kind):
        return kind
    raise TaskError(
        f'{name}: order={kind!r}; expected "shuffled", "sequential" or a function (epoch, n, seed)'
    )


def mix(*parts: int) -> int:
    """64 bits in which every bit depends on every bit of every part (parts count modulo 2**64).

    A chain of SplitMix64 steps (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014).
    """
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state


def feistel(positions: NDArray[np.int64], n: int, key: int) -> NDArray[np.int64]:
    """What a keyed permutation of range(n) puts at each of `positions` (any shape (k,), n >= 1).

    A balanced Feistel network (Luby and Rackoff, 1988) permutes the smallest range 2**(2h) >= n;
    a value that falls outside range(n) goes through it again until it falls inside, which happens
    after less than four turns on average. This cycle walking makes the result a permutation of
    range(n) itself: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    keys = [np.uint64(mix(key, turn)) for turn in range(ROUNDS)]
    values = positions.astype(np.uint64)
    result = np.empty_like(values)
    todo = np.arange(len(values))
    while len(todo):
        values = _network(values, half, keys)
        inside = values < n
        result[todo[inside]] = values[inside]
        todo, values = todo[~inside], values[~inside]
    return result.astype(np.int64)


def _network(values: NDArray[np.uint64], half: int, keys: list[np.uint64]) -> NDArray[np.uint64]:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> bits, values & mask
    for key in keys:
        left, right = right, (left ^ _scramble(right + key)) & mask
    return (left << bits) | right


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class _Feistel:
    """Reads a Feistel order in blocks: for a batch of 32 the calls into numpy are all the cost."""

    def __init__(self, n: int, key: int) -> None:
        self._n, self._key = n, key
        self._start, self._block = 0, np.empty(0, np.int64)

    def __call__(self, start: int, stop: int) -> list[int]:
        if start < self._start or stop > self._start + len(self._block):
            ahead = min(self._n, max(stop, start + READ_AHEAD))
            self._start = start
            self._block = feistel(np.arange(start, ahead), self._n, self._key)
        found: list[int] = self._block[start - self._start : stop - self._start].tolist()
        return found


def _shuffled(n: int, key: int) -> NDArray[np.int64]:
    import torch

    generator = torch.Generator().manual_seed(key)
    table: NDArray[np.int64] = torch.randperm(n, generator=generator).numpy()
    return table


def _table(table: NDArray[np.int64]) -> EpochOrder:
    return EpochOrder(len(table), lambda start, stop: table[start:stop].tolist())


def _checked(answer: Any, n: int, function: OrderFunction) -> NDArray[np.int64]:
    """The user's order as a table."""
    name = getattr(function, "__qualname__", type(function).__name__)
    expected = f"the order function {name} must return {n} integers from 0 to {n - 1}"
    try:
        table = np.asarray(answer.cpu() if hasattr(answer, "cpu") else answer)
    except (TypeError, ValueError) as error:
        raise TaskError(f"{expected}, not {type(answer).__name__} ({error})") from error
    if table.shape != (n,):
        what = f"{len(table)} values" if table.ndim == 1 else type(answer).__name__
        raise TaskError(f"{expected}, not {what}; for a part of the data use torch's Subset")
    if table.dtype.kind not in "iu":
        raise TaskError(f"{expected}, not values of type {table.dtype}")
    if n and not 0 <= int(table.min()) <= int(table.max()) < n:
        wrong = next(int(value) for value in table if not 0 <= value < n)
        raise TaskError(f"{expected}; it returned {wrong}")
    return table.astype(np.int64)
