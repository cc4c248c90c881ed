"""A training run on a spot machine that comes and goes, by a clock that is set forward.

When to save, and when to stop after a notice, is decided by the run's own `Keeping`, `Cadence`, `Pace` and
`StopRequest`; only what takes time is reckoned: turns, saves, starts. Turns in which nothing can happen are
skipped at once, so days take milliseconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from benchmarks.spot_traces import Trace
from crown_exp.checkpoints.base import Saved
from crown_exp.checkpoints.cadence import MTBF
from crown_exp.config.schema import Checkpoint
from crown_exp.runner.cloud_notices import Notice as CloudNotice
from crown_exp.runner.keeping import Keeping
from crown_exp.runner.notices import POLL_SECONDS
from crown_exp.runner.stopping import StopRequest
from crown_exp.tracking.run_log import BEAT_SECONDS

if TYPE_CHECKING:
    from crown_exp.checkpoints.checkpoints import Checkpoints
    from crown_exp.tracking.run_log import RunLog


@dataclass(frozen=True)
class Costs:
    """What a run costs beside its turns, in seconds.

    turn: of training. stall: that a save holds the loop up. durable: until it is durable, the stall included;
    meanwhile a turn takes `slower` times as long. start: from exec to the first turn; restore: what a
    checkpoint adds to that. provision: from a machine that can be had to exec.
    """

    turn: float
    stall: float
    durable: float
    slower: float
    start: float
    restore: float
    provision: float


@dataclass(frozen=True)
class Notice:
    """The cloud's word, so many seconds before it takes the machine.

    dated: it says when that will be; else who hears it, at worst a second late, takes it for just given.
    """

    seconds: float
    dated: bool = True

    def heard(self, end: float) -> float:
        """When a run hears it whose machine is taken at `end`."""
        return end - self.seconds + POLL_SECONDS

    @property
    def told(self) -> CloudNotice:
        """As a run has it."""
        left = self.seconds - POLL_SECONDS if self.dated else self.seconds
        return CloudNotice("a cloud", "terminate", max(left, 0.0))


@dataclass(frozen=True)
class Goodput:
    """What came of a trace, in seconds. useful: of turns that were not lost.

    present: the machine was there. usable: of that, it was provisioned. attempts: those whose machine was taken
    after exec; lost: turns they had done and the next had to do again.
    """

    useful: float
    present: float
    usable: float
    attempts: int
    lost: int

    @property
    def of_usable(self) -> float:
        """Of the ideal in which provisioning counts as absence."""
        return self.useful / self.usable

    @property
    def of_present(self) -> float:
        """Of the ideal in which provisioning counts as loss."""
        return self.useful / self.present

    @property
    def lost_seconds(self) -> float:
        """Lost for each machine that was taken, provisioning apart: turns, stalls, starts, time left unused."""
        return (self.usable - self.useful) / max(1, self.attempts)

    @property
    def lost_turns(self) -> float:
        """Turns that had to be done again for each machine that was taken."""
        return self.lost / max(1, self.attempts)


class Clock:
    """Seconds since the trace began."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Now."""
        return self.now


class Saves:
    """Stands where `Checkpoints` does for `Keeping`: saves take the time they are said to take."""

    def __init__(self, costs: Costs, clock: Clock, saved: int | None) -> None:
        self.costs, self.clock, self.saved, self.trouble = costs, clock, saved, ""
        self.held = 0
        self.flying: int | None = None  # the step that is being saved
        self.lands = clock.now
        self.begun = [(clock.now, saved)]  # when each save is durable, and its step

    @property
    def busy(self) -> bool:
        """Whether a save is in flight."""
        return self.flying is not None and self.clock.now < self.lands

    @property
    def has_ended(self) -> bool:
        """Whether one has ended that was not told of."""
        return self.flying is not None and not self.busy

    def outcomes(self) -> list[Saved]:
        """What has ended."""
        if not self.has_ended:
            return []
        assert self.flying is not None
        self.saved, self.flying = self.flying, None
        return [Saved(self.saved, 0, 0, self.costs.durable, self.costs.stall)]

    def wait(self) -> None:
        """Until nothing is in flight."""
        if self.busy:
            self.clock.now = self.lands

    def hold(self, step: int, state: Any, *, frozen: Any = ()) -> float:
        """The copy, which the loop waits for."""
        self.wait()
        self.held = step
        self.clock.now += self.costs.stall
        return self.costs.stall

    def commit(self, metrics: Any = None) -> None:
        """What comes behind the loop."""
        self.flying = self.held
        self.lands = self.clock.now + self.costs.durable - self.costs.stall
        self.begun.append((self.lands, self.held))

    def durable(self, end: float) -> int | None:
        """The step of the newest checkpoint if the machine is gone at `end`."""
        in_time = (step for lands, step in reversed(self.begun) if lands <= end)
        return next(in_time, self.begun[0][1])


class Silent:
    """Stands where the run's log does."""

    def event(self, name: str, **values: Any) -> None:
        """Nobody reads it."""


def silent(line: str) -> None:
    """Nobody reads what a run prints."""


@dataclass(frozen=True)
class Past:
    """What an attempt knows of those before it, as the run's records tell it.

    saved: the step of the newest checkpoint. lived: for how long they were at work, in seconds. deaths: how
    many had their machine taken before they could save.
    """

    saved: int | None = None
    lived: float = 0.0
    deaths: int = 0


class Attempt:
    """A run from its first turn on one machine on. wish: the config's `checkpoint`."""

    def __init__(
        self, costs: Costs, wish: Mapping[str, Any], past: Past = Past(), now: float = 0.0
    ) -> None:
        self.costs, self.clock, self.step = costs, Clock(now), past.saved or 0
        self.began = self.boundary = now  # boundary: the last that it was at
        self.left = False  # by itself, after a notice
        self.saves = Saves(costs, self.clock, past.saved)
        self.stop = StopRequest(clock=self.clock)
        self.stop.in_loop = True
        self.keeping = Keeping(
            cast("Checkpoints", self.saves), wish, cast("RunLog", Silent()), self.stop, "",
            lived=past.lived, deaths=past.deaths, say=silent, clock=self.clock,
        )  # fmt: skip

    def train(self, until: float) -> None:
        """All turns that end by then, and the saves that are due between them."""
        while turns := self.uneventful(until):
            self.advance(turns)
            if self.keeping.is_due(self.step):
                self.save()

    def warned(self, notice: Notice, end: float) -> None:
        """From the turn in which a notice is heard to the run's end, or to that of the machine at `end`."""
        heard, now = notice.heard(end), self.clock.now
        if heard <= self.began:
            return  # before its first turn: nothing to save
        self.clock.now = heard
        self.stop.warn(notice.told)
        self.clock.now = now
        while not self.left and self.after(1) <= end:
            self.turn()

    def turn(self) -> None:
        """One turn, and what a run does at the boundary after it that has a notice."""
        self.advance(1)
        if self.stop.pending:
            self.keeping.heed_notice(self.step)
        due = self.keeping.is_due(self.step)
        self.left = self.stop.code is not None
        if due or (self.left and self.step > self.keeping.step):
            self.save()

    def save(self) -> None:
        """Begin to save, once the save before is durable."""
        self.keeping.save(self.step, {}, frozenset())

    def advance(self, turns: int) -> None:
        """So many turns, of which the run learns how long they take; the first with what was done before it."""
        if not turns:
            return
        usual = self.costs.turn * (self.costs.slower if turns > 1 < self.in_flight else 1.0)
        longest = max(self.after(1) - self.boundary, usual if turns > 1 else 0.0)
        self.boundary = self.clock.now = self.after(turns)
        self.step += turns
        self.keeping.pace.took(longest, self.clock.now)

    def uneventful(self, until: float) -> int:
        """How many turns lead to the next boundary at which something may happen; 0 if none ends by `until`."""
        turns = self.ending_by(until)
        if self.saves.busy:
            return min(turns, self.in_flight)
        keeping = self.keeping

        def due(turns: int) -> bool:
            seconds = self.after(turns) - keeping.begun_at
            return keeping.cadence.due(self.step + turns - keeping.step, seconds)

        first = bisect_left(range(1, turns + 1), True, key=due)
        return min(turns, first + 1)

    @property
    def in_flight(self) -> int:
        """How many of the coming turns begin while a save is in flight."""
        if not self.saves.busy:
            return 0
        return math.ceil(
            (self.saves.lands - self.clock.now) / (self.costs.turn * self.costs.slower)
        )

    def after(self, turns: int) -> float:
        """When so many more turns are done."""
        slow = min(turns, self.in_flight)
        return self.clock.now + self.costs.turn * (slow * self.costs.slower + turns - slow)

    def ending_by(self, until: float) -> int:
        """How many of the coming turns end by then."""
        turn, slow, left = self.costs.turn, self.in_flight, until - self.clock.now
        turns = math.floor(left / turn - slow * (self.costs.slower - 1))
        if turns < slow:
            turns = math.floor(left / (turn * self.costs.slower))
        turns = max(0, turns)
        while turns and self.after(turns) > until:  # as floats are
            turns -= 1
        return turns


def wished(every: str, mtbf: str = MTBF) -> dict[str, Any]:
    """The config's `checkpoint`; all else is as a run has it that says nothing."""
    return asdict(Checkpoint(every=every, mtbf=mtbf))


def simulate(
    trace: Trace, costs: Costs, wish: Mapping[str, Any], notice: Notice | None = None
) -> Goodput:
    """One run that uses the machine whenever it is there, as long as the trace goes."""
    past = Past()
    attempts = lost = 0
    usable = 0.0
    for begin, end in trace.lives:
        usable += max(0.0, end - begin - costs.provision)
        first = begin + costs.provision + costs.start + (costs.restore if past.saved else 0.0)
        if end >= trace.seconds:  # nobody took it
            past = replace(past, saved=whole(costs, wish, past, first, end))
        elif begin + costs.provision < end:
            attempt = taken(costs, wish, past, first, end, notice)
            saved = attempt.saves.durable(end)
            done_again = attempt.step - (saved or 0)
            attempts, lost = attempts + 1, lost + done_again
            lived = past.lived + max(0.0, last_heard_of(attempt, end) - begin - costs.provision)
            died = done_again > 0 or not attempt.left  # of one that was killed no record says more
            past = Past(saved, lived, past.deaths + died)
    return Goodput((past.saved or 0) * costs.turn, trace.present, usable, attempts, lost)


def whole(costs: Costs, wish: Mapping[str, Any], past: Past, first: float, end: float) -> int:
    """The last turn of an attempt that was still going on at the end."""
    attempt = Attempt(costs, wish, past, first)
    attempt.train(end)
    return attempt.step


def taken(
    costs: Costs,
    wish: Mapping[str, Any],
    past: Past,
    first: float,
    end: float,
    notice: Notice | None,
) -> Attempt:
    """An attempt whose machine is taken at `end`, as it was then."""
    attempt = Attempt(costs, wish, past, first)
    attempt.train(end if notice is None else min(end, notice.heard(end)))
    if notice is not None:
        attempt.warned(notice, end)
    return attempt


def last_heard_of(attempt: Attempt, end: float) -> float:
    """Until when an attempt is known to have lived: it wrote its end, or its last beat."""
    if attempt.left:
        return min(end, attempt.saves.lands)
    return end - BEAT_SECONDS / 2


# --- what could be ------------------------------------------------------------------------------------


def bound(trace: Trace, costs: Costs) -> Goodput:
    """The most that anyone could do who knew beforehand when each machine is taken.

    Each life loses its start, the restore and one save, which is durable as the machine goes, and no turn that
    would have ended before that save began. Until the first save there is nothing to restore.
    """
    usable, deaths, lives = 0.0, 0, []
    for begin, end in trace.lives:
        usable += max(0.0, end - begin - costs.provision)
        is_taken = end < trace.seconds
        deaths += is_taken and begin + costs.provision < end
        time = end - begin - costs.provision - costs.start - costs.durable * is_taken
        lives.append(time)
    fresh = [turns_in(time, costs) for time in lives]
    resumed = [turns_in(time - costs.restore, costs) for time in lives]
    most = max(
        (turns + sum(resumed[number + 1 :]) for number, turns in enumerate(fresh)), default=0
    )
    return Goodput(most * costs.turn, trace.present, usable, deaths, 0)


def turns_in(seconds: float, costs: Costs) -> int:
    """How many turns fit."""
    return max(0, math.floor(seconds / costs.turn + 1e-9))
