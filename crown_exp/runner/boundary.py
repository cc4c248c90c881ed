"""The seam between two turns of a run's loops: where its state is whole, is saved, and a stop is obeyed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crown_exp.checkpoints.tree import flatten
from crown_exp.outcome import ExitCode
from crown_exp.runner.divergence import FiniteWatch
from crown_exp.runner.keeping import Keeping
from crown_exp.runner.run_state import RunState
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
    resuming: what is still to be put back. visit: looks at what the loops go over. place: where the loop's
    source stood before an item was fetched.
    held: a copy of the state before this turn is at hand, which begins with an evaluation; owed: to be saved,
    once the evaluation has been logged. whole: the turn has computed nothing yet that would be lost.
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
    held: bool = False
    owed: bool = False
    whole: bool = False
    place: Any = None

    def __post_init__(self) -> None:
        self.stop.now = lambda: self.whole
        self.stop.reserve_after = self.reserve_after

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
            for name, tree in self.state.known():
                flatten(tree, name)
        self.look_at_limits()
        self.stop.raise_if_asked()
        self.keeping.pace.loop_begins()

    def fetching(self, place: Any) -> None:
        """An item is about to be fetched."""
        self.place = place

    def boundary(self) -> None:
        """Stop if that was asked for; save if it is due. Raises Stopped, or TaskError."""
        state = self.state
        self.whole = False
        if self.owed:
            self.save_held()
        self.held = self.owed = False
        if self.rehearsal is not None and state.loop and state.source:
            self.rehearsal.boundary(state.loop, state.source.given)
        self.look_at_limits()
        self.keeping.turn_ended(state.step)
        due = self.keeping.is_due(state.step)
        if due:
            self.watch.read()
        if self.stop.code is not None:
            self.end_here()
        if self.evaluates():
            self.before_evaluation(due)
        elif due:
            self.save()

    def before_evaluation(self, due: bool) -> None:
        """Have a copy of the state, or save it: a stop in the evaluation then need not wait for its end.

        If the best is kept, the evaluation is waited for, so that what it says is told of this very state.
        With a cloud's notice the save in flight is: the evaluation may have to be cut short.
        """
        keeping, step = self.keeping, self.state.step
        if due and keeping.best is None:
            self.save()
        elif step > keeping.step and (self.stop.pending or not keeping.checkpoints.busy):
            keeping.hold(step, self.state.take(), self.state.frozen())
            self.held, self.owed = True, due
        self.whole = self.held or keeping.step == step

    def look_at_limits(self) -> None:
        """Ask for a stop if time is up."""
        if (due := self.limits.due()) is not None:
            self.stop.ask(*due)

    def interrupted(self) -> None:
        """A stop came while an item was fetched: nothing but the source has moved."""
        self.save_for_good(self.place)

    def ended(self) -> None:
        """Save the state in which a loop ends. Raises Diverged if it is not finite.

        With a notice that is waited for: what comes now may complete the run in time, and cannot be saved.
        """
        self.watch.settle(self.state.step)
        if self.state.step > self.keeping.step:
            self.save()
        self.held = self.owed = False
        if self.stop.pending:
            self.keeping.finish()
        if self.stop.code is not None:
            self.end_here()

    def reserve_after(self) -> float:
        """The seconds that a stop takes once a loop was left."""
        return self.keeping.pace.reserve_after(self.keeping.checkpoints.busy + self.held)

    def end_here(self) -> None:
        """Save, then raise Stopped."""
        self.save_for_good()
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

    def save_held(self) -> None:
        """Begin to save the copy of the state before this turn, if there is one."""
        if not self.held or self.stop.code is ExitCode.SUPERSEDED:
            return
        whole, self.whole = self.whole, False  # no signal tears this
        self.keeping.commit()
        self.held = self.owed = False
        self.whole = whole
        if whole:
            self.stop.raise_if_asked()
