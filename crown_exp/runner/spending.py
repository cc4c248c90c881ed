"""What an attempt costs while it lives: written to the ledger, and held against the caps `budget.*_usd`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from crown_exp.clock import Clock
from crown_exp.compute.money import (
    HOUR,
    allowed,
    as_of,
    cost,
    in_cents,
    in_dollars,
    month_of,
    paid_since,
    spending,
    total,
)
from crown_exp.config.settings import machine
from crown_exp.errors import StoreError
from crown_exp.folder import AttemptRecord, JobRecord, RunRecord, SpendingRecord
from crown_exp.outcome import ExitCode
from crown_exp.storage import BlobStore, Portal
from crown_exp.storage.spending import FollowedLedger, read_run_spending, write_spending
from crown_exp.tracking.run_log import to_stderr

if TYPE_CHECKING:
    from crown_exp.runner.attempt import Attempt

POLL_SECONDS = 30.0
"""How often the ledger is read for what other runs have cost; never more often than the heart beats."""


class Spending:
    """An attempt on a machine that is paid for; `beat` from the heart's thread, `due` from the task's.

    attempt: its record, with its place. target: the compute target's name. budget: the caps in dollars.
    earlier: what is in the ledger of the run. since: when the attempt began to be paid. sweep_since: the month
    in which its sweep did, as in JobRecord; "": not known. Caps are kept as long as the attempt lives, whoever
    submitted it. Its own cost is known at any moment; that of others as of the last poll, so that a sweep's or
    month's cap is passed by no more than what they cost in one poll. Those that live are not read again, only
    listed: they cost on at their rate until they were written last.
    """

    def __init__(
        self,
        portal: Portal,
        blobs: BlobStore,
        run: RunRecord,
        attempt: AttemptRecord,
        *,
        target: str,
        budget: Mapping[str, Any],
        earlier: Sequence[SpendingRecord],
        since: datetime,
        clock: Clock,
        sweep_since: str = "",
        warn: Callable[[str], None] = to_stderr,
    ) -> None:
        assert attempt.place is not None
        self.portal, self.blobs, self.clock, self.warn = portal, blobs, clock, warn
        self.run, self.attempt, self.target, self.since = run, attempt, target, since
        self.place = attempt.place
        self.caps: dict[str, float | None] = {
            "run_usd": budget.get("run_usd"),
            "sweep_usd": budget.get("sweep_usd"),
            "month_usd": budget.get("month_usd"),
        }
        self.before = total(it for it in earlier if it.attempt != attempt.attempt)
        self.ledger = FollowedLedger(since=sweep_since)
        self.told: set[str] = set()
        self.polled: float | None = None
        self.first = (math.inf, "")

    def beat(self) -> None:
        """Write what this attempt has cost; see what others have, if it is time. Raises StoreError."""
        self.look()  # what is known without the store holds also when that is away
        self.portal.call(write_spending, self.blobs, self.records())
        if self.needs_ledger and self.is_time():
            self.poll()
            self.look()

    def due(self) -> tuple[ExitCode, str] | None:
        """How and why the attempt should end now; None while money is left. Cheap: ask after every turn."""
        deadline, cap = self.first
        return None if self.clock.monotonic() < deadline else (ExitCode.CAPPED, self.why(cap))

    def close(self) -> tuple[str, ...]:
        """The last record of this attempt; what the store did not take of it."""
        try:
            self.portal.call(write_spending, self.blobs, self.records())
        except StoreError as error:
            return (f"what it cost: {error}",)
        return ()

    @property
    def needs_ledger(self) -> bool:
        """Whether what other runs cost matters."""
        return self.needs_sweep or self.caps["month_usd"] is not None

    @property
    def needs_sweep(self) -> bool:
        """Whether what the others of its sweep cost does."""
        return self.run.sweep is not None and self.caps["sweep_usd"] is not None

    def is_time(self) -> bool:
        """Whether the last poll is long enough ago."""
        return self.polled is None or self.clock.monotonic() - self.polled >= POLL_SECONDS

    def poll(self) -> None:
        """Look at the ledger: this month's, at first also those before, in which the sweep may have begun."""
        now, earlier = self.clock.now(), self.needs_sweep
        self.tell(self.portal.call(self.ledger.look, self.blobs, now, earlier=earlier))
        self.polled = self.clock.monotonic()

    def tell(self, damaged: Iterable[str]) -> None:
        """Say once which records are left out of the sums."""
        for line in damaged:
            if line not in self.told:
                self.told.add(line)
                self.warn(f"{line}; it is left out of what was spent")

    def records(self) -> list[SpendingRecord]:
        """This attempt's, until now."""
        return spending(
            self.run, self.attempt.attempt, self.target, self.place, self.since, self.clock.now()
        )

    def look(self) -> None:
        """Find out when which cap is reached if nobody else spends anything."""
        rate = self.place["usd_per_hour"]
        left = allowed(self.caps, self.spent(), rate)
        self.first = self.clock.monotonic() + left.hours * HOUR, left.cap

    def spent(self) -> dict[str, float]:
        """Dollars by cap, as far as is known: this attempt's until now, others' as of the last poll."""
        now, me = self.clock.now(), (self.run.id, self.attempt.attempt)
        month, sweep = month_of(now), self.run.sweep and self.run.sweep["id"]
        own = cost((now - self.since).total_seconds(), self.place["usd_per_hour"])
        others = [
            as_of(it.record, it.until)
            for it in self.ledger.known.values()
            if it.record is not None and (it.record.run, it.record.attempt) != me
        ]
        here = [it for it in self.records() if month_of(it.since) == month]
        return {
            "run_usd": self.before + own,
            "sweep_usd": own
            + (total(it for it in others if it.sweep == sweep) if sweep else self.before),
            "month_usd": total([*(it for it in others if month_of(it.since) == month), *here]),
        }

    def why(self, cap: str) -> str:
        """What was reached, what was spent and what to type."""
        limit, spent = self.caps[cap] or 0.0, self.spent()[cap]
        whose = {
            "run_usd": "this run has cost",
            "sweep_usd": f"its sweep {self.run.sweep['id']} has cost"
            if self.run.sweep
            else "this run has cost",
            "month_usd": f"all runs of {month_of(self.clock.now())} have cost",
        }[cap]
        more = f"crown-exp resume {self.run.id} budget.{cap}={in_cents(2 * max(limit, spent))}"
        return f"budget.{cap}={limit:g} reached: {whose} {in_dollars(spent)}; to go on: {more}"


def job_of(jobs: Collection[JobRecord], job: str | None) -> JobRecord | None:
    """The record of the job that an attempt belongs to; None if there is none."""
    return next((it for it in jobs if job is not None and it.job == job), None)


def spending_of(of: Attempt, attempt: AttemptRecord) -> Spending | None:
    """What keeps an attempt's money, once it has looked; None if nothing is paid. Raises StoreError."""
    if attempt.place is None:
        return None
    ledger = of.portal.call(read_run_spending, of.blobs, attempt.run)
    same = {it.attempt for it in of.facts.attempts if it.host == attempt.host}
    kept = [it for it in ledger.records if it.attempt in same and it.place == attempt.place]
    job = job_of(of.facts.jobs, attempt.job)
    made = Spending(
        of.portal, of.blobs, of.record, attempt,
        target=(job and job.target) or of.record.compute, budget=of.config.get("budget", {}),
        earlier=ledger.records, since=paid_since(attempt.started, machine().since, kept),
        clock=of.clock, sweep_since=(job and job.sweep_since) or "",
    )  # fmt: skip
    made.tell(ledger.damaged)
    made.beat()
    return made
