"""Batches of a map-style dataset: the same bits on any number of workers, resumed in O(1)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset, default_collate

from crown_exp.data.building import (
    Builder,
    Collate,
    Draw,
    at_least,
    epochs_of,
    refuse_changed,
    same,
)
from crown_exp.data.order import OrderKind, check_kind, mix, order
from crown_exp.data.pinning import pinned
from crown_exp.data.seeding import seeded
from crown_exp.data.workers import from_workers
from crown_exp.errors import TaskError

if TYPE_CHECKING:
    from crown_exp.data.stream import Stream
    from crown_exp.data.zipped import Zipped


class Batches:
    """An iterable over the batches of `dataset`; what `run.batches(...)` returns.

    Training batches (`train=True`) are shuffled, leave out the ragged last batch of an epoch, and
    go on over epochs: for ever, or until `epochs` are done. A loop over them goes on from
    `position`, the number of batches handed over since the start, which is all their state.
    Other batches are sequential and keep the ragged last batch; each loop over them is one pass
    from the start (from `position` once, after `load_state_dict`).

    The order depends on (seed, epoch) alone, and the random numbers of a batch on (seed, epoch,
    number of the batch in the global order): neither on workers, nor on where a run resumed. While
    a batch is built, in a worker or here, torch's CPU generator, `random` and `numpy.random` are
    seeded for it; the caller's streams are left as they were. A dataset that keeps a generator of
    its own gives that up; `np.random.default_rng(torch.initial_seed())` inside `__getitem__` keeps
    it. Workers compute on one thread, so sums over large tensors may round differently there.

    dataset: has `__len__` and `__getitem__`, or `__getitems__` (list of indices → list of samples).
    batch_size: samples in each batch of each rank. A global batch is batch_size * world samples.
    order: "shuffled", "sequential" or a function, see `crown_exp.data.order`.
    collate: list of samples → batch; torch's `default_collate` unless given.
    workers: processes that build batches ahead; 0 builds them here, when they are asked for.
    timeout: seconds that a batch from workers is waited for; None: for ever.
    pin: workers' batches come in page-locked memory, from which copies to CUDA need no wait.
    move: applied to each batch here, last: puts it on the device.
    rank, world: batch i of rank r is batch i * world + r of the global order. Outside training the
        last batches are dealt out as they are, so ranks may differ by one batch.
    Raises TaskError for a dataset that cannot be indexed, is too small or changes its length, for wrong
    numbers, and for a worker that died or hangs.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        batch_size: int | None,
        seed: int,
        train: bool = True,
        order: OrderKind | None = None,
        epochs: int | None = None,
        collate: Collate | None = None,
        workers: int = 0,
        pin: bool = False,
        move: Callable[[Any], Any] = same,
        rank: int = 0,
        world: int = 1,
        name: str = "data",
        timeout: float | None = 600.0,
    ) -> None:
        self.name, self.train = name, train
        self.samples = _length(dataset, name)
        if batch_size is None:
            raise TaskError(f"{name}: batch_size=None is for streams of batches; give a number")
        self.batch_size = at_least(1, "batch_size", batch_size, name)
        self.workers = at_least(0, "workers", workers, name)
        self.epochs, self.timeout = epochs_of(epochs, train, name), timeout
        self.seed, self.rank, self.world, self.pin = seed, rank, world, pin
        self.order = check_kind(order or ("shuffled" if train else "sequential"), name)
        self.position = 0
        self._go_on = train
        self._move = move
        self.dataset = dataset
        self._builder = Builder(dataset, collate or default_collate, seed, name, self.samples)
        if train and len(self) == 0:
            raise TaskError(_too_small(name, self.samples, batch_size, world))

    def __len__(self) -> int:
        """The batches of one epoch that this rank gets."""
        if self.train:
            return self.samples // (self.batch_size * self.world)
        whole = -(-self.samples // self.batch_size)
        return max(0, -(-(whole - self.rank) // self.world))

    def __iter__(self) -> Iterator[Any]:
        """Training: goes on from `position`. Otherwise: a pass from the start.

        What workers built ahead is dropped when a loop is left; the next loop builds it again.
        """
        if not self._go_on:
            self.position = 0
        self._go_on = self.train
        return self._run(self.position)

    def zip(self, *others: Batches | Stream) -> Zipped:
        """In lock step with others: each turn is a tuple of one batch of each, see `Zipped`."""
        from crown_exp.data.zipped import Zipped

        return Zipped(self, *others)

    def state_dict(self) -> dict[str, int]:
        """`position`, and what it means something for."""
        return {"position": self.position} | self._shape()

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Lets the next loop start at the saved position. No sample is read.

        Raises TaskError if the number of samples, the batch size or the number of ranks changed.
        """
        refuse_changed(self.dataset, self.samples, self.name)
        changed = [
            f"{key} was {state[key]} and is now {value}"
            for key, value in self._shape().items()
            if state[key] != value
        ]
        if changed:
            raise TaskError(
                f"{self.name}: cannot go on at batch {state['position']}: {', '.join(changed)}"
            )
        self.position = state["position"]
        self._go_on = True

    def _shape(self) -> dict[str, int]:
        return {"samples": self.samples, "batch_size": self.batch_size, "world": self.world}

    def _run(self, start: int) -> Iterator[Any]:
        with closing(self._built(start)) as batches:  # workers end here, whatever ends the loop
            for position, built in enumerate(batches, start):
                if self.train and self.position != position:
                    raise TaskError(
                        f"{self.name}: at batch {position} of this loop the position became "
                        f"{self.position}; use one loop at a time, and load states before it begins"
                    )
                batch = self._move(built)
                self.position = position + 1
                yield batch

    def _built(self, start: int) -> Generator[Any]:
        draws = self._draws(start)
        if self.workers == 0:
            yield from map(self._builder, draws)
            return
        # One team over all epochs: workers live on, and build ahead across the end of an epoch.
        built = from_workers(
            self._builder, draws, workers=self.workers, name=self.name, timeout=self.timeout
        )
        yield from pinned(built) if self.pin else built

    def _draws(self, start: int) -> Iterator[Draw]:
        first, skip = divmod(start, max(1, len(self)))
        last = self.epochs if self.train else 1
        for epoch in count(first) if last is None else range(first, last):
            refuse_changed(self.dataset, self.samples, self.name)
            with seeded(mix(self.seed, epoch)):  # for an order function that draws globally
                samples = order(self.seed, epoch, self.samples, self.order)
            for turn in range(skip, len(self)):
                number = turn * self.world + self.rank
                at = number * self.batch_size
                yield Draw(epoch, number, samples[at : at + self.batch_size])
            skip = 0


def _length(dataset: Any, name: str) -> int:
    kind = type(dataset).__name__
    indexed = hasattr(dataset, "__getitem__") or hasattr(dataset, "__getitems__")
    if not (indexed and hasattr(dataset, "__len__")) or isinstance(dataset, IterableDataset):
        hint = "; what can only be iterated makes a Stream" if hasattr(dataset, "__iter__") else ""
        raise TaskError(f"{name}: {kind} has no __len__ and __getitem__ to make batches from{hint}")
    if len(dataset) == 0:
        raise TaskError(f"{name}: {kind} holds no samples; check its path and its split")
    return len(dataset)


def _too_small(name: str, samples: int, batch_size: int, world: int) -> str:
    ranks = f" on {world} ranks" if world > 1 else ""
    most = samples // world
    advice = f"use batch_size={most} or less" if most else f"use at most {samples} ranks"
    return (
        f"{name}: batch_size={batch_size}{ranks} needs {batch_size * world} samples a turn, "
        f"the dataset has {samples}; {advice}"
    )
