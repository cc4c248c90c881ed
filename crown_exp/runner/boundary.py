"""The seam between two turns of a run's loops: where its state is whole, is saved, and a stop is obeyed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crown_exp.checkpoints.tree import flatten
from crown_exp.outcome import ExitCode
from crown_exp.runner.divergence import FiniteWatch
from crown_exp.runner.keeping import Keeping
from crown_exp.runner.run_state import Mark, RunState
from crown_exp.runner.stopping import StopRequest
from crown_exp.tracking import Loop

Visit = Callable[["Boundary", Loop, Iterator[Any]], Iterator[Any]]
"""Comes between a loop and what it goes over: to look at an item, to stop at one."""

if TYPE_CHECKING:
    from crown_exp.runner.limits import Limits
    from crown_exp.runner.rehearsal import Rehearsal
    from crown_exp.runner.resuming import Resuming


@dataclass
class Boundary:
    """What `loop.turns` calls, for all loops of a run.

    left: called when a loop is left. evaluates: whether the turn that comes begins with an evaluation.
    resuming: what is still to be put back. visit: looks at what the loops go over. marked: the state before a
    turn that begins with an evaluation. place: where the loop's source stood before an item was fetched.
    """

    state: RunState
    keeping: Keeping
    stop: StopRequest
    limits: Limits
    watch: FiniteWatch
    left: Callable[[], None]
    evaluates: Callable[[], bool]
    resuming: Resuming | None = None
    visit: Visit | None = None
    rehearsal: Rehearsal | None = None
    marked: Mark | None = None
    place: Any = None

    def __post_init__(self) -> None:
        self.stop.now = self.is_whole

    def items(self, items: Iterator[Any]) -> Iterator[Any]:
        """What the loop goes over, or what a visitor makes of it."""
        loop = self.state.loop
        return (
            self.visit(self, loop, items) if self.visit is not None and loop is not None else items
        )

    def first(self) -> None:
        """Put back what was restored; of a new run, see that all can be stored before work is done for it."""
        resuming, self.resuming = self.resuming, None
        if resuming is not None:
            resuming.all(self.state)
        elif self.state.step == self.keeping.step:
            for name, tree in self.state.take()["tracked"].items():
                flatten(tree, name)
        self.look_at_limits()
        self.stop.raise_if_asked()

    def fetching(self, place: Any) -> None:
        """An item is about to be fetched."""
        self.place = place

    def boundary(self) -> None:
        """Stop if that was asked for; save if it is due. Raises Stopped, or TaskError."""
        state = self.state
        self.marked = None
        if self.rehearsal is not None and state.loop and state.source:
            self.rehearsal.boundary(state.loop, state.source.given)
        self.look_at_limits()
        if self.keeping.is_due(state.step):
            self.watch.read()
            self.save()
        if self.stop.code is not None:
            self.end_here(None)
        if self.evaluates():
            self.marked = state.mark()

    def look_at_limits(self) -> None:
        """Ask for a stop if time is up."""
        if (due := self.limits.due()) is not None:
            self.stop.ask(*due)

    def interrupted(self) -> None:
        """A stop came while an item was fetched: nothing but the source has moved."""
        self.save_for_good(self.place)

    def ended(self) -> None:
        """Save the state in which a loop ends. Raises Diverged if it is not finite."""
        self.watch.settle(self.state.step)
        if self.state.step > self.keeping.step:
            self.save()
        if self.stop.code is not None:
            self.end_here(None)

    def end_here(self, place: Any) -> None:
        """Save, then raise Stopped."""
        self.save_for_good(place)
        self.stop.raise_if_asked()

    # --- saving ---------------------------------------------------------------------------------------

    def save(self, place: Any = None) -> None:
        """Begin to save the state as it is now."""
        self.keeping.save(self.state.step, self.state.take(place), self.state.frozen())

    def save_for_good(self, place: Any = None) -> None:
        """Save, and wait until it is durable; a superseded attempt writes nothing more."""
        if self.stop.code is ExitCode.SUPERSEDED:
            return
        if self.state.step > self.keeping.step:
            self.save(place)
        self.keeping.finish()

    def is_whole(self) -> bool:
        """Whether the state in the middle of a turn is still that of the boundary before it."""
        return self.marked is not None and self.marked.holds

    def save_marked(self) -> bool:
        """Begin to save the state of the boundary before, if it is still whole; whether it is being saved."""
        mark = self.marked
        if mark is None or not mark.holds or self.stop.code is ExitCode.SUPERSEDED:
            return False
        if mark.step > self.keeping.step:
            self.keeping.save(mark.step, mark.state, self.state.frozen())
        return True
