"""Batches of a map-style dataset: the same bits on any number of workers, resumed in O(1)."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate

from crown_exp.data.order import OrderKind, check_kind, mix, order
from crown_exp.data.seeding import seeded
from crown_exp.errors import TaskError

LINGER_SECONDS = 60


def _same(value: Any) -> Any:
    return value


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
    pin: workers' batches come in page-locked memory, from which copies to CUDA need no wait.
    move: applied to each batch here, last: puts it on the device.
    rank, world: batch i of rank r is batch i * world + r of the global order. Outside training the
        last batches are dealt out as they are, so ranks may differ by one batch.
    Raises TaskError for a dataset that cannot be indexed or is too small, and for wrong numbers.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        batch_size: int,
        seed: int,
        train: bool = True,
        order: OrderKind | None = None,
        epochs: int | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        workers: int = 0,
        pin: bool = False,
        move: Callable[[Any], Any] = _same,
        rank: int = 0,
        world: int = 1,
        name: str = "data",
    ) -> None:
        self.name, self.train = name, train
        self.samples = _length(dataset, name)
        self.batch_size = _at_least(1, "batch_size", batch_size, name)
        self.workers = _at_least(0, "workers", workers, name)
        if epochs is not None and not train:
            raise TaskError(f"{name}: epochs={epochs} goes with train=True only; leave it out")
        self.epochs = epochs if epochs is None else _at_least(1, "epochs", epochs, name)
        self.seed, self.rank, self.world, self.pin = seed, rank, world, pin
        self.order = check_kind(order or ("shuffled" if train else "sequential"), name)
        self.position = 0
        self._go_on = train
        self._move = move
        self._builder = _Builder(dataset, collate or default_collate, seed, name)
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

    def state_dict(self) -> dict[str, int]:
        """`position`, and what it means something for."""
        return {"position": self.position} | self._shape()

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Lets the next loop start at the saved position. No sample is read.

        Raises TaskError if the number of samples, the batch size or the number of ranks changed.
        """
        changed = [
            f"{key} was {state[key]} and is now {value}"
            for key, value in self._shape().items()
            if state[key] != value
        ]
        if changed:
            raise TaskError(
                f"{self.name}: cannot go on at batch {state['position']}: {', '.join(changed)}; "
                "resume with the same, or start from the weights alone (checkpoint.init_from)"
            )
        self.position = state["position"]
        self._go_on = True

    def _shape(self) -> dict[str, int]:
        return {"samples": self.samples, "batch_size": self.batch_size, "world": self.world}

    def _run(self, start: int) -> Iterator[Any]:
        for position, built in enumerate(self._built(start), start):
            if self.train and self.position != position:
                raise TaskError(
                    f"{self.name}: at batch {position} of this loop the position became "
                    f"{self.position}; use one loop at a time, and load states before it begins"
                )
            batch = self._move(built)
            self.position = position + 1
            yield batch

    def _built(self, start: int) -> Iterator[Any]:
        if self.workers == 0:
            return map(self._builder.__getitem__, self._draws(start))
        return self._from_workers(start)

    def _from_workers(self, start: int) -> Iterator[Any]:
        # One loader over all epochs: workers live on, and build ahead across the end of an epoch.
        # Its own generator, or it would draw from the caller's. batch_size=None: an index is a
        # whole draw.
        loader: DataLoader[Any] = DataLoader(
            self._builder,  # type: ignore[arg-type]  # indexed by draws
            sampler=self._draws(start),
            batch_size=None,
            collate_fn=_same,
            num_workers=self.workers,
            pin_memory=self.pin,
            worker_init_fn=_outlive_stop_signals,
            generator=torch.Generator(),
        )
        batches: Any = iter(loader)
        try:
            yield from batches
        finally:
            # Here and now: the garbage collector, which would come after an error, takes the queues
            # first, so that the workers would never be told to end, and be waited for.
            batches._shutdown_workers()

    def _draws(self, start: int) -> Iterator[_Draw]:
        first, skip = divmod(start, max(1, len(self)))
        last = self.epochs if self.train else 1
        for epoch in count(first) if last is None else range(first, last):
            with seeded(mix(self.seed, epoch)):  # for an order function that draws globally
                samples = order(self.seed, epoch, self.samples, self.order)
            for turn in range(skip, len(self)):
                number = turn * self.world + self.rank
                at = number * self.batch_size
                yield _Draw(epoch, number, samples[at : at + self.batch_size])
            skip = 0


class _Draw(NamedTuple):
    """What to build: batch `number` of an epoch's global order."""

    epoch: int
    number: int
    samples: list[int]

    def __str__(self) -> str:
        more = f" and {len(self.samples) - 8} more" if len(self.samples) > 8 else ""
        return f"batch {self.number} of epoch {self.epoch}: samples {self.samples[:8]}{more}"


@dataclass(frozen=True)
class _Builder:
    """Draw → batch, with random numbers that belong to the draw. Travels to workers."""

    dataset: Any
    collate: Callable[[list[Any]], Any]
    seed: int
    name: str

    def __getitem__(self, draw: _Draw) -> Any:
        with seeded(mix(self.seed, draw.epoch, draw.number)):
            try:
                return self.collate(self._read(draw.samples))
            except Exception as error:
                error.add_note(f"{self.name}: while building {draw}")
                if isinstance(error, StopIteration):  # would end the loop without a word
                    raise RuntimeError(f"{self.name}: the dataset raised StopIteration") from error
                raise

    def _read(self, samples: list[int]) -> list[Any]:
        if hasattr(self.dataset, "__getitems__"):
            found: list[Any] = self.dataset.__getitems__(samples)
            return found
        found = []
        for sample in samples:
            try:
                found.append(self.dataset[sample])
            except Exception as error:
                error.add_note(f"{self.name}: while reading sample {sample}")
                raise
        return found


def _outlive_stop_signals(worker: int) -> None:
    """Terminals, Slurm and others signal every process of a job; the run still ends its turn.

    Ctrl-C is the run's alone. The first SIGTERM leaves the run a minute, a second one ends the worker
    at once; a worker whose parent is gone ends by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_soon)


def _end_soon(*_: Any) -> None:
    # multiprocessing, too, ends what is left at exit by one SIGTERM, and waits for as long as it takes
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LINGER_SECONDS)


def _length(dataset: Any, name: str) -> int:
    kind = type(dataset).__name__
    indexed = hasattr(dataset, "__getitem__") or hasattr(dataset, "__getitems__")
    if not (indexed and hasattr(dataset, "__len__")) or isinstance(dataset, IterableDataset):
        hint = "; pass it to run.steps directly" if hasattr(dataset, "__iter__") else ""
        raise TaskError(f"{name}: {kind} has no __len__ and __getitem__ to make batches from{hint}")
    if len(dataset) == 0:
        raise TaskError(f"{name}: {kind} holds no samples; check its path and its split")
    return len(dataset)


def _at_least(least: int, what: str, value: int, name: str) -> int:
    if value < least:
        raise TaskError(f"{name}: {what}={value} must be at least {least}")
    return value


def _too_small(name: str, samples: int, batch_size: int, world: int) -> str:
    ranks = f" on {world} ranks" if world > 1 else ""
    most = samples // world
    advice = f"use batch_size={most} or less" if most else f"use at most {samples} ranks"
    return (
        f"{name}: batch_size={batch_size}{ranks} needs {batch_size * world} samples a turn, "
        f"the dataset has {samples}; {advice}"
    )
