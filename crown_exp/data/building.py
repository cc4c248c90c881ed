"""From samples to a batch: read, collated, with random numbers that belong to the batch alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

from crown_exp.data.order import mix
from crown_exp.data.seeding import seeded
from crown_exp.errors import TaskError

Collate = Callable[[list[Any]], Any]
"""A list of samples → a batch."""

SHOWN = 8


class Draw(NamedTuple):
    """What to build: batch `number` of an epoch's global order."""

    epoch: int
    number: int
    samples: list[int]

    def __str__(self) -> str:
        left = len(self.samples) - SHOWN
        more = f" and {left} more" if left > 0 else ""
        return f"batch {self.number} of epoch {self.epoch}: samples {self.samples[:SHOWN]}{more}"


@dataclass(frozen=True)
class Builder:
    """Draw → batch, of a dataset that had `length` samples. Travels to workers."""

    dataset: Any
    collate: Collate
    seed: int
    name: str
    length: int

    def __call__(self, draw: Draw) -> Any:
        """The batch. Errors note the sample and the batch they were met at."""
        with seeded(mix(self.seed, draw.epoch, draw.number)):
            try:
                return collated(self.collate, self._read(draw.samples), draw.samples, self.name)
            except Exception as error:
                error.add_note(f"{self.name}: while building {draw}")
                if isinstance(error, StopIteration):  # would end the loop without a word
                    raise RuntimeError(f"{self.name}: the dataset raised StopIteration") from error
                raise

    def describe(self, draw: Draw) -> str:
        """The batch and its samples, in words."""
        return str(draw)

    def _read(self, samples: list[int]) -> list[Any]:
        if hasattr(self.dataset, "__getitems__"):
            try:
                return list(self.dataset.__getitems__(samples))
            except IndexError:
                refuse_changed(self.dataset, self.length, self.name)
                raise
        found = []
        for sample in samples:
            try:
                found.append(self.dataset[sample])
            except Exception as error:
                error.add_note(f"{self.name}: while reading sample {sample}")
                if isinstance(error, IndexError):
                    refuse_changed(self.dataset, self.length, self.name)
                raise
        return found


def refuse_changed(dataset: Any, length: int, name: str) -> None:
    """Raises TaskError if the dataset has another length than it had: no order holds for both."""
    if len(dataset) != length:
        raise TaskError(
            f"{name}: the dataset had {length} samples when its batches were made and has "
            f"{len(dataset)} now; keep it as it is, or make new batches of what it became"
        )


def collated(collate: Collate, samples: list[Any], names: Sequence[int], name: str) -> Any:
    """The batch. If it cannot be made since samples differ, the error notes which ones, and how."""
    try:
        return collate(samples)
    except Exception as error:
        forms = [form(sample) for sample in samples]
        for other, differs in zip(names, forms, strict=False):
            if differs != forms[0]:
                error.add_note(
                    f"{name}: sample {names[0]} is {forms[0]}, sample {other} is {differs}; "
                    "make them alike in the dataset, or pass collate="
                )
                break
        raise


def form(sample: Any) -> str:
    """What a sample looks like: `(float32 [3, 32, 32], int)`."""
    if hasattr(sample, "shape") and hasattr(sample, "dtype"):
        return f"{str(sample.dtype).removeprefix('torch.')} {list(sample.shape)}"
    if isinstance(sample, Mapping):
        return f"{{{', '.join(f'{key}: {form(value)}' for key, value in sample.items())}}}"
    if isinstance(sample, list | tuple):
        if len(sample) > SHOWN:
            return f"{type(sample).__name__} of {len(sample)}"
        return f"({', '.join(map(form, sample))})"
    return type(sample).__name__


def same(value: Any) -> Any:
    """The value itself."""
    return value


def at_least(least: int, what: str, value: int, name: str) -> int:
    """The value. Raises TaskError if it is less, or no whole number."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TaskError(f"{name}: {what}={value!r} must be a whole number")
    if value < least:
        raise TaskError(f"{name}: {what}={value} must be at least {least}")
    return int(value)


def epochs_of(epochs: int | None, train: bool, name: str) -> int | None:
    """The epochs of a training source, None for no end. Raises TaskError for other sources."""
    if epochs is not None and not train:
        raise TaskError(f"{name}: epochs={epochs} goes with train=True only; leave it out")
    return None if epochs is None else at_least(1, "epochs", epochs, name)
