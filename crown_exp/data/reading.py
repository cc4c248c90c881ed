"""Reads an iterable dataset, turn by turn and epoch by epoch; travels to the worker that does so."""

from __future__ import annotations

import copy
import time
from collections.abc import Generator, Iterator
from enum import Enum
from itertools import chain, count, islice
from multiprocessing import RawArray
from typing import Any, NamedTuple

from crown_exp.data.building import Collate, collated
from crown_exp.data.order import mix
from crown_exp.data.seeding import seeded
from crown_exp.errors import TaskError

SIGN_OF_LIFE_SECONDS = 1.0


class Place(NamedTuple):
    """Between two turns: `batch` turns of `epoch` are done, and the dataset's own state is `dataset`."""

    epoch: int
    batch: int
    dataset: Any


class Kind(Enum):
    """What a `Read` brings."""

    BATCH = 1
    END = 2  # of an epoch: its place is the start of the next one
    LIFE = 3  # nothing yet, after some time of reading what was read before


class Read(NamedTuple):
    """One answer of a reader: where the stream is now, and the batch that led there."""

    kind: Kind
    place: Place
    batch: Any = None


class Reader:
    """The turns of a stream from any place on: `reads(place)`.

    A turn takes batch_size * world samples (world items, if the dataset yields batches) and builds the
    batch of its rank, all of it under random numbers of its own.

    keeps_place: whether it goes on by the dataset's own state; else by reading again. here: what is being
    built, also for who started the process that reads.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None,
        collate: Collate,
        *,
        seed: int,
        train: bool,
        epochs: int | None,
        rank: int,
        world: int,
        name: str,
    ) -> None:
        self._dataset, self._batch_size, self._collate = dataset, batch_size, collate
        self._seed, self._train, self._rank, self._world = seed, train, rank, world
        self._epochs, self._name = epochs if train else 1, name
        self._per_turn = (batch_size or 1) * world
        self.here = Here(batch_size, rank, world)
        self.keeps_place = keeps_place(dataset)
        self._fresh = self._own_state()
        self._loaded = False

    def reads(self, start: Place) -> Generator[Read]:
        """Every batch after `start`, a sign at the end of each epoch, and of life while none is ready."""
        for epoch in (
            count(start.epoch) if self._epochs is None else range(start.epoch, self._epochs)
        ):
            yield from self._epoch(start if epoch == start.epoch else Place(epoch, 0, None))
            yield Read(Kind.END, Place(epoch + 1, 0, None))

    def _epoch(self, start: Place) -> Iterator[Read]:
        epoch, done, _ = start
        samples = self._opened(start)
        if start.dataset is None:
            yield from self._dropped(samples, start)
        for turn in count(done):
            with seeded(self._key(epoch, turn)):
                self.here.set(epoch, turn)
                found = self._taken(samples, epoch, turn)
                part = self._own_part(found)
                if not part:
                    break
                batch = self._built(part, epoch, turn)
                place = Place(epoch, turn + 1, self._own_state())
            yield Read(Kind.BATCH, place, batch)
            batch = None  # or two would be held while the next one is read
        if turn == 0 and (self._train or not found):
            raise TaskError(self._too_few(epoch, len(found)))

    def _opened(self, start: Place) -> Iterator[Any]:
        if hasattr(self._dataset, "set_epoch"):
            self._dataset.set_epoch(start.epoch)
        if start.dataset is not None:
            self._dataset.load_state_dict(copy.deepcopy(start.dataset))
            self._loaded = True
        elif self._loaded:  # else it might begin again where it was told to begin before
            self._dataset.load_state_dict(copy.deepcopy(self._fresh))
        with seeded(mix(self._seed, start.epoch)):
            return iter(self._dataset)

    def _dropped(self, samples: Iterator[Any], start: Place) -> Iterator[Read]:
        """Reads what was read before, with the random numbers it was read with."""
        shown = time.monotonic()
        for turn in range(start.batch):
            self.here.set(start.epoch, turn)
            with seeded(self._key(start.epoch, turn)):
                found = self._taken(samples, start.epoch, turn)
            if not self._own_part(found):
                raise TaskError(
                    f"{self._name}: cannot go on at batch {start.batch} of epoch {start.epoch}: the "
                    f"stream ends after {turn} now; it must yield the same each time"
                )
            if time.monotonic() - shown > SIGN_OF_LIFE_SECONDS:
                shown = time.monotonic()
                yield Read(Kind.LIFE, start)

    def _key(self, epoch: int, turn: int) -> int:
        return mix(self._seed, epoch, turn * self._world + self._rank)

    def _taken(self, samples: Iterator[Any], epoch: int, turn: int) -> list[Any]:
        found: list[Any] = []
        try:
            found.extend(islice(samples, self._per_turn))
        except Exception as error:
            at = turn * self._per_turn + len(found)
            what = "sample" if self._batch_size else "item"
            error.add_note(f"{self._name}: while reading {what} {at} of epoch {epoch}")
            raise
        return found

    def _own_part(self, found: list[Any]) -> list[Any]:
        """This rank's samples of a turn; in training none of a turn that is not whole."""
        if self._train and len(found) < self._per_turn:
            return []
        size = self._batch_size or 1
        return found[self._rank * size : (self._rank + 1) * size]

    def _built(self, samples: list[Any], epoch: int, turn: int) -> Any:
        try:
            if self._batch_size is None:
                return self._collate(samples[0])
            first = (turn * self._world + self._rank) * self._batch_size
            return collated(self._collate, samples, range(first, first + len(samples)), self._name)
        except Exception as error:
            error.add_note(f"{self._name}: while building {self.here}")
            raise

    def _own_state(self) -> Any:
        return copy.deepcopy(self._dataset.state_dict()) if self.keeps_place else None

    def _too_few(self, epoch: int, found: int) -> str:
        kind = type(self._dataset).__name__
        if found == 0:
            again = (
                "; its __iter__ must start anew each time"
                if epoch
                else "; check its path and split"
            )
            return f"{self._name}: {kind} yields nothing in epoch {epoch}{again}"
        what = "samples" if self._batch_size else "batches"
        return (
            f"{self._name}: epoch {epoch} of {kind} has {found} {what}, a turn takes {self._per_turn}; "
            "use a smaller batch_size"
        )


class Here:
    """The batch that a reader is at, in words: `batch 7 of epoch 0: samples 56 to 63`.

    In shared memory, so that it is known of a reader in a worker that died.
    """

    def __init__(self, batch_size: int | None, rank: int, world: int) -> None:
        self._batch_size, self._rank, self._world = batch_size, rank, world
        self._place = RawArray("q", 2)

    def set(self, epoch: int, turn: int) -> None:
        """Where the reader is now."""
        self._place[:] = epoch, turn

    def __str__(self) -> str:
        epoch, turn = self._place
        number = turn * self._world + self._rank
        if self._batch_size is None:
            return f"batch {number} of epoch {epoch}"
        first = number * self._batch_size
        return f"batch {number} of epoch {epoch}: samples {first} to {first + self._batch_size - 1}"


class Next:
    """A reader as a worker calls it: each call is the next read, None after the last."""

    def __init__(self, reader: Reader, start: Place) -> None:
        self._reader, self._start = reader, start
        self._reads: Iterator[Read] | None = None

    def __call__(self, _: Any) -> Read | None:
        """What comes after the last read."""
        if self._reads is None:
            self._reads = self._reader.reads(self._start)
        return next(self._reads, None)

    def describe(self, _: Any) -> str:
        """What the reader is at, here or in the worker."""
        return str(self._reader.here)


def keeps_place(dataset: Any) -> bool:
    """Whether it can say exactly where it is, and be put there.

    Hugging Face's `shuffle(buffer_size=…)` cannot: "examples from shuffle buffers are lost when resuming"
    (the words of its `load_state_dict`), so a state of it would leave samples out.
    """
    has_state = hasattr(dataset, "state_dict") and hasattr(dataset, "load_state_dict")
    return has_state and not _shuffles_in_memory(getattr(dataset, "_ex_iterable", None))


def _shuffles_in_memory(source: Any) -> bool:
    kind = type(source).__name__
    if not kind.endswith("ExamplesIterable"):
        return False
    inside = [part if isinstance(part, list) else [part] for part in vars(source).values()]
    return kind.startswith("BufferShuffled") or any(map(_shuffles_in_memory, chain(*inside)))
