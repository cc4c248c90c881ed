"""What machines cost: paid time by month, sums, estimates beside what came of them, and what caps allow.

Money is in US dollars, rates are per hour, months are calendar months in UTC, written `2026-11`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from crown_exp.folder import RunRecord, SpendingRecord
from crown_exp.folder.records import Rate

By = Literal["run", "sweep", "experiment", "user", "month"]
"""What spending is summed by."""

CAPS = ("run_usd", "sweep_usd", "month_usd")
"""The caps of the section `budget`, the narrowest first."""

HOUR = 3600.0


def month_of(moment: datetime) -> str:
    """The month of an aware moment."""
    return moment.astimezone(UTC).strftime("%Y-%m")


def cost(seconds: float, usd_per_hour: float) -> float:
    """What so much time costs; time that runs backwards costs nothing."""
    return max(0.0, seconds) / HOUR * usd_per_hour


def by_month(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The parts of a span in each of its months, in order, without gaps; none if it has no length."""
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    while since < until:
        part = min(until, _next_month(since))
        yield since, part
        since = part


def _next_month(moment: datetime) -> datetime:
    years, month = divmod(moment.month, 12)
    return datetime(moment.year + years, month + 1, 1, tzinfo=UTC)


def paid_since(
    started: datetime, machine_since: datetime | None, kept: Iterable[SpendingRecord]
) -> datetime:
    """When an attempt begins to be paid: with its machine, or where the attempt before it on that one ended.

    started: the attempt. machine_since: its machine; None: it is not known, and the attempt's start holds.
    kept: spending of earlier attempts of the run on the machine that this name has. What began before the
    machine did was on another one, which was paid beside it.
    """
    begun = started if machine_since is None else min(machine_since, started)
    return max([begun, *(it.until for it in kept if machine_since is None or it.since >= begun)])


def spending(
    run: RunRecord, attempt: int, target: str, place: Rate, since: datetime, until: datetime
) -> list[SpendingRecord]:
    """The ledger's records of an attempt that was paid from `since` to `until`: one a month, in order."""
    return [
        SpendingRecord(
            run=run.id, attempt=attempt, user=run.user, experiment=run.experiment,
            sweep=run.sweep["id"] if run.sweep else None, target=target, place=place,
            since=start, until=end, usd=cost((end - start).total_seconds(), place["usd_per_hour"]),
        )
        for start, end in by_month(since, until)
    ]  # fmt: skip


def as_of(record: SpendingRecord, until: datetime) -> SpendingRecord:
    """The record of an attempt that was paid on until then, as far as that is in its month."""
    first = next(by_month(record.since, until), None)
    if until <= record.until or first is None:
        return record
    end = first[1]
    seconds = (end - record.since).total_seconds()
    usd = max(record.usd, cost(seconds, record.place["usd_per_hour"]))
    return replace(record, until=max(end, record.until), usd=usd)


def total(records: Iterable[SpendingRecord]) -> float:
    """What they cost together."""
    return math.fsum(it.usd for it in records)


def key_of(record: SpendingRecord, by: By) -> str:
    """Where a record belongs; "" if to no experiment, or to no sweep."""
    if by == "month":
        return month_of(record.since)
    return getattr(record, by) or ""


def sums(records: Iterable[SpendingRecord], by: By) -> dict[str, float]:
    """Dollars by run, sweep, experiment, user or month, in order of those."""
    groups: dict[str, list[SpendingRecord]] = {}
    for record in records:
        groups.setdefault(key_of(record, by), []).append(record)
    return {key: total(groups[key]) for key in sorted(groups)}


def in_dollars(usd: float) -> str:
    """Dollars and cents wherever they are shown, `$1,234.50`; what is less than a cent is not nothing."""
    return "<$0.01" if 0 < usd < 0.005 else f"${usd:,.2f}"


def in_cents(usd: float) -> str:
    """Dollars to be typed, no less than these: what is beyond a cent is rounded up."""
    return f"{math.ceil(round(100 * usd, 6)) / 100:.15g}"


def expected(hours: float | None, rate: Rate) -> float | None:
    """What so many hours will cost; None if it is not known how many."""
    return None if hours is None else cost(hours * HOUR, rate["usd_per_hour"])


@dataclass(frozen=True, slots=True)
class Watched:
    """A job over which a controller watched, and for how long."""

    run: RunRecord
    target: str
    controller: Rate
    since: datetime
    until: datetime


def controller_spending(jobs: Iterable[Watched]) -> list[SpendingRecord]:
    """What controllers cost, as records of attempt 0: one for each job and month, in no order.

    A moment of a controller is shared by the jobs that it watches over then; without any it costs nothing here,
    so that the minutes before it stops itself are left out. Jobs with equal rates have one controller.
    """
    jobs = [job for job in jobs if job.since < job.until]
    found: list[SpendingRecord] = []
    for rate in {tuple(sorted(job.controller.items())): job.controller for job in jobs}.values():
        own = [job for job in jobs if job.controller == rate]
        parts = [(job, start, end) for job in own for start, end in by_month(job.since, job.until)]
        shared = _shared(own, [edge for _, start, end in parts for edge in (start, end)])
        for job, start, end in parts:
            (record,) = spending(job.run, 0, job.target, rate, start, end)
            usd = cost(shared[end] - shared[start], rate["usd_per_hour"])
            found.append(replace(record, usd=usd))
    return found


def _shared(jobs: Iterable[Watched], moments: Iterable[datetime]) -> dict[datetime, float]:
    """By moment: seconds until then that a job which was there throughout has of the controller.

    A second counts for as little as there are jobs then, and not at all without any.
    """
    comes: Counter[datetime] = Counter()
    for job in jobs:
        comes[job.since] += 1
        comes[job.until] -= 1
    there, seconds, found = 0, 0.0, {}
    before: datetime | None = None
    for moment in sorted({*comes, *moments}):
        if before is not None and there:
            seconds += (moment - before).total_seconds() / there
        found[moment], before = seconds, moment
        there += comes[moment]
    return found


@dataclass(frozen=True, slots=True)
class Compared:
    """Dollars that were spent, and those that were expected.

    estimate: None if nothing was. estimated: what was spent of `usd` by runs that had an estimate.
    """

    usd: float
    estimate: float | None = None
    estimated: float = 0.0

    @property
    def error(self) -> float | None:
        """How far the estimate was off: 0.1 if a tenth more was spent; None without one."""
        return self.estimated / self.estimate - 1 if self.estimate else None


def compared(
    records: Iterable[SpendingRecord],
    estimates: Mapping[str, float],
    by: By,
    controllers: Iterable[SpendingRecord] = (),
) -> dict[str, Compared]:
    """`sums`, with estimates beside them. estimates: dollars by run, of those that have one.

    controllers: what was spent on those, of which estimates know nothing.

    A run whose spending lies in several groups (months) shares its estimate among them as it spent.
    """
    records = list(records)
    runs = sums(records, "run")
    result: dict[str, Compared] = {}
    for record in sorted(records, key=lambda it: key_of(it, by)):
        key = key_of(record, by)
        was, share = result.get(key, Compared(0.0)), None
        if record.run in estimates and runs[record.run] > 0:
            share = estimates[record.run] * record.usd / runs[record.run]
        result[key] = Compared(
            was.usd + record.usd,
            was.estimate if share is None else (was.estimate or 0.0) + share,
            was.estimated + (0.0 if share is None else record.usd),
        )
    for record in controllers:
        key = key_of(record, by)
        was = result.get(key, Compared(0.0))
        result[key] = replace(was, usd=was.usd + record.usd)
    return dict(sorted(result.items()))


@dataclass(frozen=True, slots=True)
class Allowed:
    """How long caps still allow. cap: which is first, as `run_usd`; "" and infinite hours if none is set."""

    hours: float
    cap: str = ""


def allowed(
    caps: Mapping[str, float | None], spent: Mapping[str, float], usd_per_hour: float
) -> Allowed:
    """Hours until the first cap. caps, spent: dollars by the names in CAPS; what is absent is no cap, and 0.

    A cap that is reached allows 0 hours, even if nothing more is paid. Of equal ones the narrowest is told.
    """
    first = Allowed(math.inf)
    for name in CAPS:
        cap = caps.get(name)
        if cap is None:
            continue
        left = cap - spent.get(name, 0.0)
        hours = left / usd_per_hour if left > 0 and usd_per_hour > 0 else math.inf
        found = Allowed(hours if left > 0 else 0.0, name)
        if not first.cap or found.hours < first.hours:
            first = found
    return first
