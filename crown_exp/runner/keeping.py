"""When the state of a run is saved: as often as was asked, at the end of a loop, when a stop was asked for.

And after a cloud's notice: soon, and once more before the machine is taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from crown_exp.checkpoints.base import Best, Keep, Saved, Superseded, Unsaved
from crown_exp.checkpoints.cadence import Cadence
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.config.units import parse_best, parse_interval
from crown_exp.outcome import ExitCode
from crown_exp.runner.last_turns import Pace
from crown_exp.runner.stopping import StopRequest
from crown_exp.tracking.run_log import RunLog, to_stderr

POLL_SECONDS = 0.002


def keep_of(wish: Mapping[str, Any]) -> Keep:
    """What the group `checkpoint` says of which ones stay. Raises ConfigError."""
    every, best = wish["keep_every"], wish["keep_best"]
    return Keep(
        last=wish["keep_last"],
        every=parse_interval(every, "checkpoint.keep_every").steps if every else None,
        best=Best(*parse_best(best, "checkpoint.keep_best")) if best else None,
    )


class Keeping:
    """Saves a run's state; whatever goes wrong with that costs a line, until `checkpoint.deadline`.

    wish: the config's `checkpoint`. superseded: why an attempt ends that another has taken over from. waits:
    entered while the run waits for a save. lived, deaths: of earlier attempts, as `Cadence` has them.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        wish: Mapping[str, Any],
        log: RunLog,
        stop: StopRequest,
        superseded: str,
        *,
        lived: float = 0.0,
        deaths: int = 0,
        waits: Callable[[], AbstractContextManager[None]] = nullcontext,
        say: Callable[[str], None] = to_stderr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.checkpoints, self.log, self.stop = checkpoints, log, stop
        self.superseded, self.waits, self.say, self.clock = superseded, waits, say, clock
        self.cadence = Cadence(wish["every"], mtbf=wish["mtbf"], lived=lived, deaths=deaths)
        deadline = parse_interval(wish["deadline"], "checkpoint.deadline").seconds
        self.deadline, self.deadline_words = deadline or math.inf, wish["deadline"]
        self.keep = keep_of(wish)
        self.best_value: float | None = None
        self.values: dict[str, float] = {}
        self.step = checkpoints.saved or 0  # of the newest save that was begun
        self.held = self.step
        self.begun_at = self.safe_at = clock()
        self.failing = ""  # why the last save failed
        self.pace, self.soon = Pace(), False  # soon: as soon as nothing is in flight
        stop.reserve = self.pace.reserve

    # --- between two turns ----------------------------------------------------------------------------

    def is_due(self, step: int) -> bool:
        """Whether the state after `step` is to be saved now.

        A save in flight is not waited for, unless it is a step that is to be kept for good.
        """
        if self.checkpoints.has_ended:
            self.settle()
        turns = step - self.step
        if turns > 0 and self.keep.every and step % self.keep.every == 0:
            return True
        if turns <= 0 or not (self.soon or self.cadence.due(turns, self.clock() - self.begun_at)):
            return False
        self.settle()
        return not self.checkpoints.busy

    def turn_ended(self, step: int) -> None:
        """Called at each boundary: learns how long turns take, and heeds a cloud's notice."""
        self.pace.turn_ended(self.clock())
        if self.stop.pending:
            self.heed_notice(step)

    def heed_notice(self, step: int) -> None:
        """Save what there is, and train on while there is time to save again; else ask for the stop."""
        stop = self.stop
        notice, spare = stop.notice, stop.spare
        assert notice is not None
        if spare <= 0:
            stop.obey_notice()
        elif stop.heeded_notice is not notice:
            stop.heeded_notice, self.soon = notice, step > self.step
            self.log.event("notice", **asdict(notice), trains_on=round(spare))
            left = stop.until - self.clock()
            self.say(
                f"{notice.cloud} takes this machine in {left:.0f} s ({notice.action}); "
                f"training on, saving again in about {spare:.0f} s"
            )

    def save(self, step: int, state: Mapping[str, Any], frozen: frozenset[int]) -> None:
        """Begin to save. Raises TaskError for what cannot be stored."""
        self.hold(step, state, frozen)
        self.commit()

    def hold(self, step: int, state: Mapping[str, Any], frozen: frozenset[int]) -> None:
        """Copy the state, to be saved by `commit` if need be. Raises TaskError for what cannot be stored."""
        self.checkpoints.wait()
        self.settle()
        self.checkpoints.hold(step, state, frozen=frozen)
        self.held = step

    def commit(self) -> None:
        """Begin to save what is held, with what was logged of it."""
        self.checkpoints.commit(self.values)
        self.step, self.begun_at, self.values = self.held, self.clock(), {}
        self.soon = False

    def finish(self, given_up: Callable[[], bool] = lambda: False) -> None:
        """Wait until what was begun is durable, or known not to be. given_up: asked meanwhile."""
        with self.waits():
            while self.checkpoints.busy and not given_up():
                time.sleep(POLL_SECONDS)
        self.settle()

    def settle(self) -> None:
        """Note what became of the saves that have ended."""
        if trouble := self.checkpoints.trouble:
            self.checkpoints.trouble = ""
            self.say(f"old checkpoints were not removed: {trouble}")
        for outcome in self.checkpoints.outcomes():
            if isinstance(outcome, Saved):
                self.succeeded(outcome)
            elif isinstance(outcome, Unsaved):
                self.failed(outcome)
            elif isinstance(outcome, Superseded):
                self.stop.ask(ExitCode.SUPERSEDED, self.superseded)

    def succeeded(self, saved: Saved) -> None:
        """A checkpoint is committed."""
        self.cadence.learn(saved.stall, saved.seconds)
        self.pace.saved(saved.seconds)
        self.log.event(
            "saved", step=saved.step, bytes=saved.bytes, seconds=saved.seconds, stall=saved.stall
        )
        if self.failing:
            self.say(f"saved again, after step {saved.step}")
        self.safe_at, self.failing = self.clock(), ""

    def failed(self, unsaved: Unsaved) -> None:
        """A save did not succeed: the run goes on, unless that has lasted too long, or the machine is taken."""
        self.log.event("unsaved", step=unsaved.step, why=unsaved.why)
        last = self.checkpoints.saved
        safe = "nothing is saved yet" if last is None else f"the checkpoint of step {last} is safe"
        then = "training goes on, and it is tried again" if self.stop.code is None else "it ends so"
        if self.stop.pending:
            self.stop.obey_notice()
            then = "it is tried once more, and ends"
        if not self.failing or self.stop.code is not None:
            self.say(f"not saved: {unsaved.why}; {safe}, {then}")
        self.failing = unsaved.why
        self.step = min(self.step, last or 0)
        if self.clock() - self.safe_at >= self.deadline:
            why = f"nothing could be saved for {self.deadline_words} (checkpoint.deadline): {unsaved.why}"
            self.stop.ask(ExitCode.INFRASTRUCTURE, why)

    # --- the best -------------------------------------------------------------------------------------

    @property
    def best(self) -> Best | None:
        """What tells the best, if it is to be kept."""
        return self.keep.best

    def note(self, values: Mapping[str, Any]) -> bool:
        """Keep what was logged of the metric that the best is told by; whether it is better than ever."""
        best = self.best
        if best is None or best.metric not in values:
            return False
        value = values[best.metric]
        if not isinstance(value, float) or math.isnan(value):
            return False
        self.values[best.metric] = value
        known = self.best_value
        if known is not None and (value <= known if best.greatest else value >= known):
            return False
        self.best_value = value
        return True
