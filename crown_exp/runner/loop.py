"""The turns of `run.steps`: where they come from, how many, and what happens between two of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeGuard

from crown_exp.errors import TaskError
from crown_exp.runner.stopping import StopRequest
from crown_exp.tracking import Loop
from crown_exp.tracking.console import Console

if TYPE_CHECKING:
    from crown_exp.data import Batches, Stream, Zipped


def turns_of(source: Any, total: Any, limit: int | None) -> tuple[Iterable[Any], int | None]:
    """The items of a loop and how many turns it makes at most, if known; `limit` is `limits.steps`.

    source: a count, batches, or any iterable. Raises TaskError for anything else and for a negative count.
    """
    items = range(count(source, "")) if isinstance(source, Integral | float) else source
    if not isinstance(items, Iterable):
        kind = type(source).__name__
        raise TaskError(
            f"run.steps: a {kind} cannot be iterated; expected a count, batches or an iterable"
        )
    asked = None if total is None else count(total, "total=")
    own = own_length(items, asked)
    if own is None and asked is None and is_batches(items) and items.train and not items.epochs:
        items = items.epoch()  # type: ignore[union-attr]  # of a stream: Batches know their length
    known = [turns for turns in (asked, limit, own) if turns is not None]
    return items, min(known, default=None)


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


def is_batches(source: Iterable[Any]) -> TypeGuard[Batches | Stream | Zipped]:
    """Whether these are `run.batches(…)`; asked without importing torch, which other sources need not."""
    homes = {"batches": "Batches", "stream": "Stream", "zipped": "Zipped"}
    modules = ((sys.modules.get(f"crown_exp.data.{home}"), name) for home, name in homes.items())
    return any(module and isinstance(source, getattr(module, name)) for module, name in modules)


def turns(
    loop: Loop,
    items: Iterable[Any],
    console: Console,
    stop: StopRequest,
    left: Callable[[], None],
    settle: Callable[[], None],
    between: Callable[[], None] | None = None,
) -> Iterator[Any]:
    """Yield the items of a loop. Between two turns: count, draw, and stop if that was asked for.

    left: called when the loop is left, in whatever way. settle: called when it came to its end. between:
    called after every turn.
    """
    console.begin(loop)
    loop.in_turn = stop.in_turn = True
    try:
        for item in islice(items, loop.total):
            yield item
            loop.done += 1
            if between is not None:
                between()
            if console.due:
                console.draw()
            if stop.code is not None:
                stop.raise_if_asked()
    except GeneratorExit:
        loop.broken = True
        raise
    finally:
        loop.in_turn = stop.in_turn = False
        left()
    settle()
    stop.raise_if_asked()
