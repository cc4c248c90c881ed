"""The turns of `run.steps`: where they come from, how many, and what happens between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any

from crown_exp.data.batches import Batches
from crown_exp.errors import TaskError
from crown_exp.runner.stopping import StopRequest
from crown_exp.tracking.console import Progress


@dataclass
class Loop:
    """One loop of a task. done: its turns that are complete; total: how many it will make, if known."""

    name: str
    done: int = 0
    total: int | None = None


def turns_of(source: Any, total: int | None, limit: int | None) -> tuple[Iterable[Any], int | None]:
    """The items of a loop and how many turns it makes; `limit` is `limits.steps`.

    source: a count, batches, or any iterable. Raises TaskError for anything else and for a negative count.
    """
    if isinstance(source, bool) or (isinstance(source, int) and source < 0):
        raise TaskError(f"run.steps({source!r}): expected a count of turns, batches or an iterable")
    if isinstance(source, int):
        source = range(source)
    if not isinstance(source, Iterable):
        kind = type(source).__name__
        raise TaskError(
            f"run.steps: a {kind} cannot be iterated; expected a count, batches or an iterable"
        )
    if total is not None and total < 0:
        raise TaskError(f"run.steps: total={total}; expected a count of turns")
    counts = [total, limit, natural_length(source, total)]
    known = [count for count in counts if count is not None]
    return source, min(known) if known else None


def natural_length(source: Iterable[Any], total: int | None) -> int | None:
    """How many turns a source makes by itself; None if it does not end or cannot say."""
    if isinstance(source, Batches):
        epochs = source.epochs or (None if total is not None else 1)
        return None if epochs is None else epochs * len(source)
    return len(source) if isinstance(source, Sized) else None


def turns(
    loop: Loop,
    items: Iterable[Any],
    progress: Progress,
    stop: StopRequest,
    between: Callable[[], None],
) -> Iterator[Any]:
    """Yield the items of a loop; between two turns, count, and stop if that was asked for."""
    progress.begin("" if loop.name == "main" else loop.name, loop.done, loop.total)
    stop.in_turn = True
    try:
        for item in islice(items, loop.total):
            yield item
            loop.done += 1
            progress.done = loop.done
            if stop.code is not None:
                between()
    finally:
        stop.in_turn = False
    between()
