"""`crown-exp prune [TERMS…]`: free space by deleting the runs that fit, the oldest first."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from crown_exp.errors import ConfigError
from crown_exp.outcome import State

if TYPE_CHECKING:
    from datetime import datetime

    from crown_exp.launch.index import Index
    from crown_exp.registry import Filter
    from crown_exp.registry.base import RunInfo

SHOWN = 10
YOUNG = timedelta(minutes=1)
"""A run that is planned for no longer than this is perhaps about to begin."""

UNFINISHED = (State.FAILED, State.STOPPED, State.LOST)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for. keep: of the runs that fit, this many of the newest stay."""

    terms: tuple[str, ...]
    older: str | None
    keep: int

    def __bool__(self) -> bool:
        return bool(self.terms or self.older or self.keep)

    @property
    def command(self) -> str:
        """As one would type it."""
        words = [*self.terms]
        words += ["--older", self.older] if self.older else []
        words += ["--keep", str(self.keep)] if self.keep else []
        return f"crown-exp prune {shlex.join(words)}"

    def filter(self) -> Filter:
        """Which runs fit. Raises ConfigError for what is no term."""
        from crown_exp.cli.runs import asked

        found = asked(self.terms)
        return found if self.older is None else replace(found, older=age_of(self.older))


def age_of(text: str) -> timedelta:
    """`30d` as an age. Raises ConfigError for what is none."""
    from crown_exp.config.units import parse_interval

    try:
        return timedelta(seconds=parse_interval(text, "--older").seconds or math.nan)
    except (ConfigError, ValueError, OverflowError):
        raise ConfigError.of(f"--older {text}", "expected something like 30d or 12h") from None


@click.command(name="prune")
@click.argument("terms", nargs=-1, metavar="[TERM]...")
@click.option("--older", metavar="AGE", help="only runs made longer ago than this: 30d, 12h")
@click.option("--keep", type=click.IntRange(min=0), default=0, metavar="N",
              help="keep the N newest of the runs that fit")  # fmt: skip
@click.option("--yes", is_flag=True, help="do not ask")
@click.option("--dry-run", is_flag=True, help="only say what it would free")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(
    terms: tuple[str, ...],
    older: str | None,
    keep: int,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Free space: delete the runs that fit all TERMs, the oldest first; says what that frees, and asks.

    \b
    crown-exp prune                            what takes most; deletes nothing
    crown-exp prune state:failed --older 30d   what failed a month ago
    crown-exp prune experiment:cnn --keep 10   all of it but the ten newest

    TERMs are those of `crown-exp runs`. What is running or queued stays.
    """
    from crown_exp.cli.refreshed import refreshed_index
    from crown_exp.cli.removing import Wish, remove, sized

    choice = Choice(terms, older, keep)
    wanted = choice.filter()
    with refreshed_index() as index:
        if not choice:
            overview(index, as_json)
            return 0
        fitting = index.page(wanted, limit=None).runs[keep:]
        dead = [run for run in reversed(fitting) if not alive(run, index.clock.now())]
        say_kept(len(fitting) - len(dead))
        if not dead and not as_json:
            click.echo("no run fits; nothing to delete")
            click.echo("next: crown-exp prune")
            return 0
        doomed = [sized(index, run.id, run) for run in dead]
        return remove(index, doomed, Wish(choice.command, yes, dry_run, as_json))


def alive(run: RunInfo, now: datetime) -> bool:
    """Whether a run goes on, or may be about to begin."""
    young = run.state is State.PLANNED and now - run.created < YOUNG
    return young or run.state in (State.RUNNING, State.QUEUED)


def say_kept(count: int) -> None:
    """What fits and stays as it is not over."""
    from crown_exp.cli.ages import plural
    from crown_exp.cli.screen import complain

    if count:
        complain(f"{plural(count, 'run')} that fit are not over and stay")


# --- without terms ------------------------------------------------------------------------------------


def overview(index: Index, as_json: bool) -> None:
    """What takes most space, and what to type to free some."""
    from crown_exp.cli.ages import plural, size
    from crown_exp.cli.removing import HEADERS, row, sized
    from crown_exp.cli.screen import screen, write_json, write_lines
    from crown_exp.cli.table import table

    runs = index.page(sort="-bytes", limit=None).runs
    largest = [sized(index, run.id, run) for run in runs[:SHOWN]]
    total = sum(run.bytes for run in runs)
    if as_json:
        write_json(
            {"runs": [run.to_json() for run in largest], "of": len(runs), "bytes": total}
        )  # fmt: skip
        return
    page = screen()
    rows = [row(run, index.clock.now()) for run in largest]
    write_lines(table(HEADERS, rows, width=page.width, colour=page.colour) if rows else ())
    click.echo(f"{plural(len(runs), 'run')}, {size(total)}{by_kind(runs)}; nothing was deleted")
    click.echo("next: crown-exp prune state:failed,stopped,lost --older 30d")


def by_kind(runs: Sequence[RunInfo]) -> str:
    """How much of it did not finish."""
    from crown_exp.cli.ages import size

    left = [run.bytes for run in runs if run.state in UNFINISHED]
    return (
        f", {size(sum(left))} of it in {len(left):,} that failed, stopped or were lost"
        if left
        else ""
    )
