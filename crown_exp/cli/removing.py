"""Runs deleted after all was said that this frees: shown, asked, done one by one, told also when cut short."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import click

from crown_exp.cli.ages import plural, short_age, size
from crown_exp.cli.screen import complain, screen, write_json, write_lines
from crown_exp.cli.table import STATES, Cell, Column, table
from crown_exp.errors import ConfigError

if TYPE_CHECKING:
    from datetime import datetime

    from crown_exp.launch.index import Index
    from crown_exp.registry.base import RunInfo

MOST_ROWS = 20
HEADERS: tuple[Column | str, ...] = (
    Column("id", whole=True), "name", "state", Column("age", right=True),
    Column("files", right=True), Column("size", right=True), "tags",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Doomed:
    """A run that is to be deleted; info: None for what is left of one that was half deleted."""

    id: str
    files: int
    bytes: int
    info: RunInfo | None

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        told = {"id": self.id, "files": self.files, "bytes": self.bytes}
        if self.info is None:
            return told | {"name": None, "status": None, "created": None}
        return told | {
            "name": self.info.name,
            "status": self.info.state,
            "created": self.info.created,
        }


@dataclass(frozen=True, slots=True)
class Wish:
    """How runs are to be deleted. command: what to type to do so without being asked."""

    command: str
    yes: bool
    dry_run: bool
    as_json: bool

    @property
    def asks(self) -> bool:
        """Whether somebody is to be asked."""
        return not (self.yes or self.dry_run)


def sized(index: Index, run_id: str, info: RunInfo | None) -> Doomed:
    """What deleting a run frees."""
    from crown_exp.registry import size_up

    found = index.call(size_up, index.blobs, run_id)
    return Doomed(run_id, found.files, found.bytes, info)


def remove(index: Index, doomed: Sequence[Doomed], wish: Wish) -> int:
    """Say what would be freed, ask, delete; returns the exit code. ConfigError: nobody can be asked."""
    if not wish.as_json:
        write_lines(shown(doomed, index.clock.now()))
    if wish.asks and (wish.as_json or not sys.stdin.isatty()):
        what = "asks before it deletes, and nobody is there to answer; nothing was deleted"
        raise ConfigError.of(wish.command.split()[1], f"{what}. Type: {wish.command} --yes")
    if wish.dry_run:
        tell(doomed, wish, deleted=False)
        return 0
    if not wish.yes and not click.confirm(f"delete {plural(len(doomed), 'run')}?", err=True):
        click.echo("nothing was deleted")
        return 1
    done = Removal(index, doomed, wish.command)
    done.carry_out()
    tell(done.deleted, wish, deleted=True)
    return 1 if len(done.deleted) < len(doomed) else 0


def tell(doomed: Sequence[Doomed], wish: Wish, *, deleted: bool) -> None:
    """What was deleted, or would be, and what to type next."""
    if wish.as_json:
        files, freed = sum(it.files for it in doomed), sum(it.bytes for it in doomed)
        runs = [it.to_json() for it in doomed]
        write_json({"runs": runs, "files": files, "bytes": freed, "deleted": deleted})
    elif deleted:
        click.echo(f"deleted {totals(doomed)}")
        click.echo("next: crown-exp runs")
    else:
        click.echo("nothing was deleted, as --dry-run asks")
        click.echo(f"next: {wish.command}")


@dataclass
class Removal:
    """Runs being deleted, one after the other; each is gone as a whole before Ctrl-C is heeded."""

    index: Index
    doomed: Sequence[Doomed]
    command: str
    deleted: list[Doomed] = field(default_factory=list)
    current: str = ""

    def carry_out(self) -> None:
        """Delete all. One that lives again is told and stays; if the store fails, what was done is said."""
        from crown_exp.errors import StoreError
        from crown_exp.launch.signals import held_back, told

        with told(self.so_far):
            for number, run in enumerate(self.doomed, 1):
                self.show(number)
                try:
                    with held_back():
                        self.delete(run)
                except ConfigError as error:
                    complain(str(error))
                except StoreError as error:
                    self.show(0)
                    raise StoreError(f"{error}; {self.so_far().rstrip()}") from error
        self.show(0)

    def delete(self, run: Doomed) -> None:
        """One run, and note that it is gone."""
        from crown_exp.registry import delete_run

        self.current = run.id
        self.index.call(delete_run, self.index.registry, self.index.blobs, run.id)
        for place in ("mirror", "spool/runs"):  # what this machine keeps of it
            rmtree(self.index.settings.home / place / run.id, ignore_errors=True)
        self.deleted.append(run)
        self.current = ""

    def so_far(self) -> str:
        """A line on what was done and what was not."""
        half = f"; {self.current} may be half deleted" if self.current else ""
        done = f"deleted {totals(self.deleted)}" if self.deleted else "no run was deleted"
        left = len(self.doomed) - len(self.deleted)
        return f"{done}{half}; {plural(left, 'run')} left to delete; again: {self.command}\n"

    def show(self, number: int) -> None:
        """How far it is, on a terminal; 0 takes the line away."""
        if sys.stderr.isatty() and len(self.doomed) > 1:
            text = f"deleting {number:,} of {len(self.doomed):,}" if number else ""
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()


def totals(doomed: Sequence[Doomed]) -> str:
    """`3 runs, 120 files, 1.2 MB`."""
    files, freed = sum(it.files for it in doomed), sum(it.bytes for it in doomed)
    return f"{plural(len(doomed), 'run')}, {plural(files, 'file')}, {size(freed)}"


def shown(doomed: Sequence[Doomed], now: datetime) -> list[str]:
    """The runs as a table, and the sum."""
    page = screen()
    rows = [row(it, now) for it in doomed[:MOST_ROWS]]
    if more := doomed[MOST_ROWS:]:
        rest = f"{sum(it.files for it in more):,}", size(sum(it.bytes for it in more))
        rows.append(["", f"... and {plural(len(more), 'run')} more", "", "", *rest, ""])
    lines = table(HEADERS, rows, width=page.width, colour=page.colour)
    return [*lines, f"would free: {totals(doomed)}"]


def row(it: Doomed, now: datetime) -> list[Cell | str]:
    """A run as a line of the table."""
    files, freed = f"{it.files:,}", size(it.bytes)
    if it.info is None:
        return [it.id, "what is left of a run", "", "", files, freed, ""]
    state = Cell(it.info.state, STATES.get(it.info.state, ""))
    age = short_age(it.info.created, now)
    return [it.id, it.info.name, state, age, files, freed, " ".join(it.info.tags)]
