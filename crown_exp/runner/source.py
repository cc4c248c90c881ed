"""Where the turns of a loop come from: what is iterated, how many turns that makes, how to go on in it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeGuard

from crown_exp.errors import TaskError

if TYPE_CHECKING:
    from crown_exp.data import Batches, Stream, Zipped


class Source:
    """What `run.steps` was given.

    total: how many turns it makes at the most, None if that is not known. ours: it is what `run.batches`
    makes, which leaves the process's random numbers as they were. keeps: it knows its place by itself.
    Raises TaskError for what cannot be iterated, for a set, and for a negative count.
    """

    def __init__(self, given: Any, total: Any, limit: int | None) -> None:
        """limit: `limits.steps`."""
        self.given: Any = range(count(given, "")) if isinstance(given, Integral | float) else given
        if not isinstance(self.given, Iterable):
            kind = type(given).__name__
            raise TaskError(
                f"run.steps: a {kind} cannot be iterated; expected a count, batches or an iterable"
            )
        if isinstance(given, set | frozenset):
            raise TaskError(
                "run.steps: a set has no order that another process finds again; expected sorted(…)"
            )
        asked = None if total is None else count(total, "total=")
        own = own_length(self.given, asked)
        self.ours = is_batches(self.given)
        self.keeps = hasattr(given, "state_dict") and hasattr(given, "load_state_dict")
        self.by_epoch = own is None and asked is None and trains_on(self.given)
        known = [turns for turns in (asked, limit, own) if turns is not None]
        self.total = min(known, default=None)

    @property
    def quiet(self) -> bool:
        """Whether fetching an item changes nothing but its own place."""
        return self.ours or isinstance(self.given, range | list | tuple)

    @property
    def is_read_again(self) -> bool:
        """Whether the only way to go on in it is to fetch again what was fetched before."""
        return not self.keeps and not isinstance(self.given, Sequence)

    def place(self) -> Any:
        """Where it stands, for a source that knows; None for one that is found again by counting."""
        return self.given.state_dict() if self.keeps else None

    def go_to(self, place: Any) -> None:
        """Stand where `place` says. Nothing is read yet."""
        self.given.load_state_dict(place)

    def items(self, done: int) -> Iterator[Any]:
        """What is left after `done` turns; a source that keeps its place was told before.

        What is fetched again is fetched here, so before random numbers are put back: they may be drawn for it.
        """
        if self.by_epoch:
            return iter(self.given.epoch())
        if isinstance(self.given, Sequence) and not self.keeps:
            return (self.given[at] for at in range(done, len(self.given)))
        items: Iterator[Any] = iter(self.given)
        if self.is_read_again:
            deque(islice(items, done), maxlen=0)
        return items


def count(value: Any, where: str) -> int:
    """A number of turns. Raises TaskError for what is none."""
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0:
        return int(value)
    raise TaskError(f"run.steps({where}{value!r}): expected a whole number of turns, 0 or more")


def own_length(source: Iterable[Any], total: int | None) -> int | None:
    """How many turns a source makes by itself; None if it does not end or cannot say."""
    epochs: int | None = 1
    if is_batches(source) and source.train:
        epochs = source.epochs or (None if total is not None else 1)
    try:
        return epochs * len(source) if epochs and isinstance(source, Sized) else None
    except TypeError:  # a DataLoader of an IterableDataset has a length that it cannot tell
        return None


def trains_on(source: Iterable[Any]) -> bool:
    """Whether a source of ours goes on for ever."""
    return is_batches(source) and source.train and not source.epochs


def is_batches(source: Iterable[Any]) -> TypeGuard[Batches | Stream | Zipped]:
    """Whether these are `run.batches(…)`; asked without importing torch, which other sources need not."""
    homes = {"batches": "Batches", "stream": "Stream", "zipped": "Zipped"}
    modules = ((sys.modules.get(f"crown_exp.data.{home}"), name) for home, name in homes.items())
    return any(module and isinstance(source, getattr(module, name)) for module, name in modules)
