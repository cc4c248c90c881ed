"""Batches of a dataset that can only be iterated: the same bits with and without a worker, resumed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from itertools import repeat, takewhile
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, IterableDataset, default_collate, default_convert

from crown_exp.data.building import Collate, at_least, epochs_of, same
from crown_exp.data.order import OrderKind
from crown_exp.data.pinning import pinned
from crown_exp.data.reading import Kind, Next, Place, Reader
from crown_exp.data.workers import from_workers
from crown_exp.errors import TaskError

if TYPE_CHECKING:
    from crown_exp.data.batches import Batches
    from crown_exp.data.zipped import Zipped


def is_stream(dataset: Any) -> bool:
    """Whether batches of a dataset are a `Stream`: it can be iterated, and not indexed."""
    indexed = hasattr(dataset, "__getitem__") or hasattr(dataset, "__getitems__")
    sized = hasattr(dataset, "__len__") and not isinstance(dataset, IterableDataset)
    return hasattr(dataset, "__iter__") and not (indexed and sized)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class Stream:
    """An iterable over batches of an iterable dataset, in the one order that it has.

    Training batches (`train=True`) leave out the ragged last one of an epoch and go on over epochs, for
    ever or until `epochs` are done; a loop over them goes on where the last one was left. Other batches
    keep the ragged one; each loop over them is one pass (the first after `load_state_dict` the rest of
    one). How many there are in an epoch is not known before it ends.

    The random numbers of batch k, its reading included, depend on (seed, epoch, k) alone, as those of
    `Batches`. A stream has one order, so one process reads it: this one, or with workers >= 1 exactly
    one worker, which reads ahead. More would not be faster without changing the order.

    State: epoch, batches read of it, and the dataset's own `state_dict()` as of the last batch handed
    over. A dataset without `state_dict` and `load_state_dict`, or whose state forgets (Hugging Face's
    shuffle buffer), is read again from the epoch's start up to there, which `tell` is told once.

    dataset: `__iter__` starts anew (or from a state loaded just before); before each epoch
        `set_epoch(epoch)` is called if there is one. An iterator gives a single pass: `epochs=1`.
    batch_size: samples in each batch of each rank; None: the dataset yields whole batches.
    collate: list of samples → batch; torch's `default_collate` unless given. Without a batch_size:
        item → batch, torch's `default_convert` unless given.
    rank, world: each rank reads all of the stream, `world` batches a turn, and keeps batch i * world +
        rank of turn i. In training all ranks make equally many turns.
    order: None; there for the call to be that of `Batches`. The others are as for `Batches`.
    Raises TaskError for an epoch without a batch, wrong arguments, and a worker that died or hangs.
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
        tell: Callable[[str], None] = _say,
    ) -> None:
        self.name, self.train, self.dataset = name, train, dataset
        self.batch_size = (
            None if batch_size is None else at_least(1, "batch_size", batch_size, name)
        )
        self.workers = min(1, at_least(0, "workers", workers, name))
        self.epochs, self.pin, self.timeout = epochs_of(epochs, train, name), pin, timeout
        self._once = _refuse_misfits(dataset, train, epochs, order, name)
        self._world, self._move, self._tell = world, move, tell
        self._place = Place(0, 0, None)
        self._go_on = train
        self._loaded = False  # the loop that comes is the rest of one
        self._reader = Reader(
            dataset, self.batch_size, collate or (default_convert if batch_size is None else default_collate),
            seed=seed, train=train, epochs=self.epochs, rank=rank, world=world, name=name,
        )  # fmt: skip

    def __iter__(self) -> Iterator[Any]:
        """Training: goes on where the last loop was left. Otherwise: a pass from the start."""
        if not self._go_on:
            self._place = Place(0, 0, None)
        self._go_on = self.train
        return self._run(once=False)

    def epoch(self) -> Iterator[Any]:
        """What is left of the present epoch; of the next one, if nothing is.

        Right after `load_state_dict` what is left may be nothing: the loop that goes on ends there, too.
        """
        self._go_on = self.train
        return self._run(once=True)

    def zip(self, *others: Batches | Stream) -> Zipped:
        """In lock step with others: each turn is a tuple of one batch of each, see `Zipped`."""
        from crown_exp.data.zipped import Zipped

        return Zipped(self, *others)

    def state_dict(self) -> dict[str, Any]:
        """Where the last batch handed over was, and what it means something for."""
        epoch, batch, dataset = self._place
        return {"epoch": epoch, "batch": batch, "dataset": dataset} | self._shape()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Lets the next loop go on there. Nothing is read yet.

        Raises TaskError if the batch size or the number of ranks changed, or if the state holds one of a
        dataset and this dataset takes none.
        """
        changed = [
            f"{key} was {state[key]} and is now {value}"
            for key, value in self._shape().items()
            if state[key] != value
        ]
        if state["dataset"] is not None and not self._reader.keeps_place:
            changed.append(f"{type(self.dataset).__name__} kept its place and now cannot")
        if changed:
            raise TaskError(
                f"{self.name}: cannot go on at batch {state['batch']} of epoch {state['epoch']}: "
                f"{', '.join(changed)}"
            )
        self._place = Place(state["epoch"], state["batch"], state["dataset"])
        self._go_on = self._loaded = True

    def _shape(self) -> dict[str, int | None]:
        return {"batch_size": self.batch_size, "world": self._world}

    def _run(self, once: bool) -> Generator[Any]:
        place, handed, self._loaded = self._place, self._loaded and self._place.batch > 0, False
        self._refuse_second_pass(place)
        with closing(self._reads(place)) as reads:  # a worker ends here, whatever ends the loop
            for kind, now, built in takewhile(bool, reads):
                if self.train and self._place is not place:
                    raise TaskError(
                        f"{self.name}: the stream was moved within a loop over it; use one loop at a "
                        "time, and load states before it begins"
                    )
                if kind is Kind.BATCH:
                    batch, handed = self._move(built), True
                    self._place = place = now
                    yield batch
                elif kind is Kind.END:
                    self._place = place = now
                    if once and handed:
                        return

    def _reads(self, start: Place) -> Generator[Any]:
        if start.batch and start.dataset is None:
            count = start.batch * self._world * (self.batch_size or 1)
            self._tell(
                f"{self.name}: reading {count} {'samples' if self.batch_size else 'batches'} again to go on "
                f"at batch {start.batch} of epoch {start.epoch}; the dataset cannot start there by itself"
            )
        if self.workers == 0:
            return self._reader.reads(start)
        built = from_workers(
            Next(self._reader, start), repeat(0), workers=1, name=self.name, timeout=self.timeout
        )
        return pinned(built) if self.pin else built

    def _refuse_second_pass(self, start: Place) -> None:
        if self._once == "read" or (self._once and (start.epoch or start.batch)):
            raise TaskError(
                f"{self.name}: {type(self.dataset).__name__} was read already and cannot start anew; "
                "give an object whose __iter__ does"
            )
        self._once = self._once and "read"


def _refuse_misfits(dataset: Any, train: bool, epochs: int | None, order: Any, name: str) -> str:
    """Raises TaskError for what gives no stream. Returns "once" for what can be read once, else ""."""
    kind = type(dataset).__name__
    if not hasattr(dataset, "__iter__"):
        raise TaskError(f"{name}: {kind} has no __iter__ to make batches from")
    if isinstance(dataset, DataLoader):
        raise TaskError(
            f"{name}: a DataLoader makes batches itself; give its dataset, or pass it to run.steps"
        )
    if order is not None:
        raise TaskError(f"{name}: order= is for datasets with an index; a stream has its own order")
    if not hasattr(dataset, "__next__"):
        return ""
    if train and epochs != 1:
        raise TaskError(
            f"{name}: a {kind} can be read once; say epochs=1, or give an object whose __iter__ "
            "starts anew"
        )
    return "once"
