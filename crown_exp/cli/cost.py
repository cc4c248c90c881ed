"""`crown-exp cost [RUN|SWEEP]`: what paid machines cost, beside what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from crown_exp.cli.screen import complain, screen, write_json, write_lines
from crown_exp.errors import ConfigError

if TYPE_CHECKING:
    from datetime import datetime

    from crown_exp.cli.refreshed import RefreshedIndex
    from crown_exp.compute.money import By, Compared, Watched
    from crown_exp.folder import AttemptRecord, Facts, JobRecord, SpendingRecord
    from crown_exp.storage import BlobStore

AT_ONCE = 32
"""How many runs are read together."""


@click.command(name="cost")
@click.argument("wanted", required=False, metavar="[RUN|SWEEP]")
@click.option(
    "--by", type=click.Choice(["experiment", "month", "user", "run"]), default="run",
    show_default=True, help="what is summed",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(wanted: str | None, by: By, as_json: bool) -> None:
    """Show what paid machines cost, over all attempts, beside what was expected.

    A run's share of the machine with which SkyPilot watches over jobs is in it, without the minutes before that
    stops itself; what was expected knows nothing of it.

    RUN is an id or its beginning, whole or after the dash; SWEEP a sweep's whole
    id. Without either: everything in the store's ledger. A run that is at work
    is counted up to its last beat, every 15 seconds. The error is how much more
    (or less) was spent than expected, by the runs of which something was.
    """
    from crown_exp.cli.letters import plain
    from crown_exp.cli.refreshed import refreshed_index
    from crown_exp.compute.money import compared, total
    from crown_exp.storage.spending import read_ledger

    with refreshed_index() as index:
        ledger = index.call(read_ledger, index.blobs)
        for line in ledger.damaged:
            complain(plain(f"{line}; it is left out"))
        records = chosen(index, ledger.records, wanted)
        facts = index.call(facts_of, index.blobs, {it.run for it in records})
        watched = controllers(index, facts, ledger.records)
        rows = compared(records, estimates(facts), by, watched)
    if as_json:
        write_json(
            [
                {"key": key, "usd": it.usd, "estimate": it.estimate, "error": it.error}
                for key, it in rows.items()
            ]
        )
    else:
        write_lines(lines(rows, by, total(watched)))


def chosen(
    index: RefreshedIndex, records: list[SpendingRecord], wanted: str | None
) -> list[SpendingRecord]:
    """Those of the sweep or run that was typed. Raises ConfigError if there is neither."""
    if wanted is None:
        return records
    if of_sweep := [it for it in records if it.sweep == wanted]:
        return of_sweep
    run = index.find(wanted)
    return [it for it in records if it.run == run]


def controllers(
    index: RefreshedIndex, facts: Sequence[Facts], ledger: Iterable[SpendingRecord]
) -> list[SpendingRecord]:
    """What these runs have cost of the machines that watched over their jobs, which they share with others."""
    from crown_exp.compute.money import controller_spending

    if not any(job.controller for each in facts for job in each.jobs):
        return []
    runs = {each.run.id for each in facts}
    others = index.call(facts_of, index.blobs, {it.run for it in ledger} - runs)
    jobs = watched_jobs([*facts, *others], index.clock.now())
    return [it for it in controller_spending(jobs) if it.run in runs]


async def facts_of(blobs: BlobStore, runs: Iterable[str]) -> list[Facts]:
    """What is known of these runs, without those that are gone: what they cost is not."""
    from crown_exp.storage.parallel import each
    from crown_exp.storage.runs import read_facts

    found: dict[str, Facts] = {}

    async def read(run: str) -> None:
        with suppress(ConfigError):  # deleted
            found[run] = await read_facts(blobs, run)

    await each(read, sorted(runs), at_once=AT_ONCE)
    return [found[run] for run in sorted(found)]


def estimates(facts: Iterable[Facts]) -> dict[str, float]:
    """Dollars by run that its jobs were expected to cost together; without runs that have none."""
    found = {each.run.id: estimate(each) for each in facts}
    return {run: usd for run, usd in found.items() if usd is not None}


def estimate(facts: Facts) -> float | None:
    """Dollars that a run was expected to cost, whole; None if no job of it has an estimate.

    A job was expected to see the run to its end. Where another took over, it counts for the part that it did. A
    job that was cancelled and not followed by another, or that began nothing, was not to cost anything.
    """
    begun = {it.job for it in facts.attempts}
    told = [
        it for it in facts.jobs if it.usd is not None and not (it.cancelled and it.job not in begun)
    ]
    told.sort(key=lambda it: it.number)
    while told and told[-1].cancelled:
        told.pop()
    if not told:
        return None
    *earlier, last = told
    parts = (
        (job.usd or 0.0) * part_done(facts, job, after)
        for job, after in zip(earlier, told[1:], strict=True)
    )
    return sum(parts) + (last.usd or 0.0)


def part_done(facts: Facts, job: JobRecord, after: JobRecord) -> float:
    """The part of what a job was expected to do that it did before the next took over, 0 to 1.

    What both expected of the same machines tells; else the time for which the job's attempts lived.
    """
    if not job.hours:
        return 0.0
    if after.hours is not None and job.rates == after.rates:
        done = 1 - after.hours / job.hours
    else:
        own = [it for it in facts.attempts if it.job == job.job]
        seconds = sum(
            (until - it.started).total_seconds() for it in own if (until := over(facts, it))
        )
        done = seconds / 3600 / job.hours
    return min(1.0, max(0.0, done))


def over(facts: Facts, attempt: AttemptRecord) -> datetime | None:
    """When an attempt ended, or was last heard of; None if nobody knows."""
    end = next((it.ended for it in facts.ends if it.attempt == attempt.attempt), None)
    return end or (facts.last_beat if attempt == facts.newest_attempt else None)


def watched_jobs(facts: Iterable[Facts], now: datetime) -> Iterator[Watched]:
    """The jobs that a controller which is paid watched over, each until its last attempt was last heard of."""
    from crown_exp.compute.money import Watched

    for each in facts:
        for job in each.jobs:
            if job.controller is not None and job.controller["usd_per_hour"] > 0:
                until = last_of(each, job, now)
                yield Watched(each.run, job.target, job.controller, job.created, until)


def last_of(facts: Facts, job: JobRecord, now: datetime) -> datetime:
    """When a job was last heard of: `now` for one that has not begun, its creation if it never will."""
    own = [it for it in facts.attempts if it.job == job.job]
    if not own:
        return job.created if job.cancelled else now
    newest = max(own, key=lambda it: it.attempt)
    return over(facts, newest) or newest.started


def lines(rows: dict[str, Compared], by: str, shared: float) -> Iterator[str]:
    """The table, the sum where there is more than one line, and what of it controllers cost."""
    from crown_exp.cli.table import Column, table
    from crown_exp.compute.money import Compared, in_dollars

    if not rows:
        yield "nothing was paid"
        return
    shown = dict(rows)
    if len(rows) > 1:
        guessed = [it.estimate for it in rows.values() if it.estimate is not None]
        shown["total"] = Compared(
            sum(it.usd for it in rows.values()),
            sum(guessed) if guessed else None,
            sum(it.estimated for it in rows.values()),
        )
    heads = [Column(by, whole=by == "run"), *(Column(it, right=True) for it in COLUMNS)]
    cells = [[key or "-", *cells_of(it)] for key, it in shown.items()]
    on = screen()
    yield from table(heads, cells, width=on.width, colour=on.colour)
    if shared:
        yield f"of it the machine that watches over jobs: {in_dollars(shared)}"


COLUMNS = ("cost", "expected", "error")


def cells_of(row: Compared) -> list[str]:
    """A row's dollars, and by how much the estimate was off."""
    from crown_exp.compute.money import in_dollars

    estimate = "-" if row.estimate is None else in_dollars(row.estimate)
    return [in_dollars(row.usd), estimate, "-" if row.error is None else f"{row.error:+.0%}"]
