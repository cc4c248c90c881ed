"""The turns of `run.steps`, and what happens between two of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from crown_exp.errors import Stopped
from crown_exp.runner.source import Source
from crown_exp.runner.stopping import StopRequest
from crown_exp.tracking import Loop
from crown_exp.tracking.console import Console

END = object()


class Seam(Protocol):
    """What is done where the state of a run is whole."""

    def items(self, items: Iterator[Any]) -> Iterator[Any]:
        """What the loop goes over, or what a visitor makes of it."""

    def first(self) -> None:
        """Before the first turn: what was restored is put back."""

    def boundary(self) -> None:
        """After every turn: save, if that is due, and see whether the run should stop."""

    def fetching(self, place: Any) -> None:
        """An item is about to be fetched; the source stands at `place`. None: so do all from here on."""

    def interrupted(self) -> None:
        """A stop came while an item was fetched."""

    def ended(self) -> None:
        """The loop came to its end."""

    def left(self) -> None:
        """The loop is left, in whatever way."""


def turns(
    loop: Loop, source: Source, seam: Seam, console: Console, stop: StopRequest
) -> Iterator[Any]:
    """Yield what is left of a loop's items.

    A stop is raised at once while a batch of ours is fetched; in a turn it waits for the end of the turn.
    """
    console.begin(loop)
    loop.in_turn = True
    try:
        over = loop.done == loop.total
        items = seam.items(iter(()) if over else source.items(loop.done))
        seam.first()
        stop.in_loop = stop.looped = True
        ours = source.ours
        seam.fetching(None)
        while loop.total is None or loop.done < loop.total:
            if ours:
                seam.fetching(source.place())
            stop.in_turn = not ours
            try:
                item = next(items, END)
            except Stopped:
                seam.interrupted()
                raise
            if item is END:
                loop.exhausted = True
                break
            stop.in_turn = True
            if ours and stop.code is not None:  # it came where it could not be raised
                seam.interrupted()
                stop.raise_if_asked()
            yield item
            loop.done += 1
            seam.boundary()
            if console.due:
                console.draw()
        stop.in_turn = True  # until the state in which it ends is saved
        seam.ended()
    except GeneratorExit:
        loop.broken = True
        raise
    finally:
        stop.in_turn = True  # a signal must not tear the log
        seam.left()
        loop.in_turn = stop.in_turn = stop.in_loop = False
    stop.raise_if_asked()
