"""`crown-exp cost [RUN|SWEEP]`: what paid machines cost, beside what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from crown_exp.cli.screen import complain, screen, write_json, write_lines

if TYPE_CHECKING:
    from crown_exp.cli.refreshed import RefreshedIndex
    from crown_exp.compute.money import By, Compared
    from crown_exp.folder import SpendingRecord


@click.command(name="cost")
@click.argument("wanted", required=False, metavar="[RUN|SWEEP]")
@click.option(
    "--by", type=click.Choice(["experiment", "month", "user", "run"]), default="run",
    show_default=True, help="what is summed",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(wanted: str | None, by: By, as_json: bool) -> None:
    """Show what paid machines cost, over all attempts, beside what was expected.

    RUN is an id or its beginning, whole or after the dash; SWEEP a sweep's whole
    id. Without either: everything in the store's ledger. A run that is at work
    is counted up to its last beat, every 15 seconds. The error is how much more
    (or less) was spent than expected, by the runs of which something was.
    """
    from crown_exp.cli.letters import plain
    from crown_exp.cli.refreshed import refreshed_index
    from crown_exp.compute.money import compared
    from crown_exp.storage.spending import read_ledger

    with refreshed_index() as index:
        ledger = index.call(read_ledger, index.blobs)
        for line in ledger.damaged:
            complain(plain(f"{line}; it is left out"))
        records = chosen(index, ledger.records, wanted)
        rows = compared(records, estimates(index, {it.run for it in records}), by)
    if as_json:
        write_json(
            [
                {"key": key, "usd": it.usd, "estimate": it.estimate, "error": it.error}
                for key, it in rows.items()
            ]
        )
    else:
        write_lines(lines(rows, by))


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


def estimates(index: RefreshedIndex, runs: Iterable[str]) -> dict[str, float]:
    """Dollars by run that its jobs were expected to cost together; without runs that have none, or are gone.

    A job that was cancelled was not to cost anything.
    """
    from crown_exp.errors import ConfigError
    from crown_exp.storage.runs import read_facts

    found: dict[str, float] = {}
    for run in sorted(runs):
        try:
            jobs = index.call(read_facts, index.blobs, run).jobs
        except ConfigError:  # deleted; what it cost is not
            continue
        told = [it.usd for it in jobs if it.usd is not None and not it.cancelled]
        if told:
            found[run] = sum(told)
    return found


def lines(rows: dict[str, Compared], by: str) -> Iterator[str]:
    """The table, and the sum where there is more than one line."""
    from crown_exp.cli.table import Column, table
    from crown_exp.compute.money import Compared

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


COLUMNS = ("cost", "expected", "error")


def cells_of(row: Compared) -> list[str]:
    """A row's dollars, and by how much the estimate was off."""
    estimate = "-" if row.estimate is None else f"${row.estimate:.2f}"
    return [f"${row.usd:.2f}", estimate, "-" if row.error is None else f"{row.error:+.0%}"]
