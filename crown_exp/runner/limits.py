"""How long an attempt, and a run over all its attempts, may last: `limits.attempt`, `limits.run`; and money."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

from crown_exp.clock import Clock
from crown_exp.config.units import parse_duration
from crown_exp.folder import AttemptRecord, Facts, RunPaths
from crown_exp.outcome import ExitCode
from crown_exp.storage import BlobStore
from crown_exp.storage.base import NotFound
from crown_exp.storage.runs import last_beat

if TYPE_CHECKING:
    from crown_exp.runner.spending import Spending

ATTEMPT = "limits.attempt={} reached; resume goes on from here"
RUN = "limits.run={} reached (all attempts together); raise it and resume"


class Limits:
    """Tells when time, or money, is up. An attempt's time begins when this is made.

    attempt, run: durations such as `4 hours`, or None. spent: seconds of earlier attempts.
    money: tells when a cap of `budget` is reached; None: nothing is paid.
    Raises ConfigError for what is no duration.
    """

    def __init__(
        self,
        attempt: str | None,
        run: str | None,
        spent: float,
        clock: Clock,
        money: Spending | None = None,
    ) -> None:
        now = clock.monotonic()
        ends = [
            # First what the next attempt could not change.
            (_after(run, now - spent, "limits.run"), ExitCode.CAPPED, RUN.format(run)),
            (_after(attempt, now, "limits.attempt"), ExitCode.PREEMPTED, ATTEMPT.format(attempt)),
        ]
        self._monotonic, self._ends = clock.monotonic, ends
        self._money = money
        self._deadline = min(deadline for deadline, _, _ in ends)

    def due(self) -> tuple[ExitCode, str] | None:
        """How and why the attempt should end now; None while there is time. Cheap: ask after every turn."""
        if self._money is not None and (due := self._money.due()) is not None:
            return due
        if self._monotonic() < self._deadline:
            return None
        now = self._monotonic()
        return next((code, why) for deadline, code, why in self._ends if deadline <= now)


def _after(limit: str | None, start: float, where: str) -> float:
    return math.inf if limit is None else start + parse_duration(limit, where)


async def spent_before(blobs: BlobStore, facts: Facts) -> float:
    """Seconds that the attempts in `facts` lasted, all together.

    One that was killed lasted from its record to its last sign of life, both by the store's clock; one that
    wrote no more than its record counts for nothing, as does one whose clock went back.
    """
    ended = {end.attempt: end.ended for end in facts.ends}
    return sum([await _lasted(blobs, each, ended.get(each.attempt)) for each in facts.attempts])


async def _lasted(blobs: BlobStore, attempt: AttemptRecord, ended: datetime | None) -> float:
    started = attempt.started
    if ended is None:
        try:
            record = await blobs.stat(RunPaths(attempt.run).attempt(attempt.attempt))
        except NotFound:
            return 0.0
        started = record.modified
        ended = await last_beat(blobs, attempt.run, attempt.attempt) or started
    return max(0.0, (ended - started).total_seconds())
