"""`crown-exp checkpoints prune`: what need not be kept goes, after all was said that this frees."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from crown_exp.checkpoints.base import Best, Keep
from crown_exp.checkpoints.pruning import Plan, plan_prune
from crown_exp.checkpoints.pruning import prune as removed
from crown_exp.checkpoints.retention import Known, best_of, of_steps
from crown_exp.cli.ages import plural, short_age, size
from crown_exp.cli.checkpoint_run import on_its_way
from crown_exp.cli.letters import plain
from crown_exp.cli.screen import complain, screen, write_json, write_lines
from crown_exp.cli.table import Cell, Column, Head, Text, table
from crown_exp.clock import isoformat
from crown_exp.config.units import parse_best, parse_steps
from crown_exp.errors import ConfigError
from crown_exp.folder import AttemptRecord, state
from crown_exp.folder.fence import died_here
from crown_exp.outcome import State
from crown_exp.storage.machine import here
from crown_exp.storage.runs import read_facts

if TYPE_CHECKING:
    from datetime import datetime

    from crown_exp.cli.checkpoint_run import Asked

HEADERS: tuple[Head, ...] = (
    Column("step", right=True), Column("attempt", right=True), Column("saved", right=True),
    Column("size", right=True), "", "why",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wish:
    """What was typed. What is None is as the run's config has it; `none` takes it away."""

    last: int | None
    every: str | None
    best: str | None
    yes: bool
    dry_run: bool
    as_json: bool

    def keep(self, own: Keep) -> Keep:
        """Which checkpoints are to stay. own: those of the run's config. Raises ConfigError."""
        keep = own if self.last is None else replace(own, last=self.last)
        if self.every is not None:
            steps = None if self.every == "none" else parse_steps(self.every, "--keep-every")
            keep = replace(keep, every=steps)
        if self.best is not None:
            best = None if self.best == "none" else Best(*parse_best(self.best, "--keep-best"))
            keep = replace(keep, best=best)
        return keep

    def command(self, typed: str) -> str:
        """As one would type it."""
        words = ["crown-exp", "checkpoints", "prune", typed]
        words += ["--keep-last", str(self.last)] if self.last is not None else []
        words += ["--keep-every", self.every] if self.every is not None else []
        words += ["--keep-best", self.best] if self.best is not None else []
        return shlex.join(words)


def carry_out(asked: Asked, wish: Wish) -> int:
    """Plan, say, ask, remove; the exit code. Raises ConfigError, Damaged, Superseded, StoreError."""
    if asked.step is not None:
        what = "prune is told what stays, not what goes: --keep-last, --keep-every, --keep-best"
        raise ConfigError.of(f"{asked.typed}@{asked.step}", what)
    keep, holder = wish.keep(asked.keep), holder_of(asked)
    access = asked.session.settings.storage.access
    with on_its_way() as transfer:
        plan = asked.call(
            plan_prune, asked.blobs, asked.paths, keep,
            packs_only=holder is not None, access=access, progress=transfer.moved,
        )  # fmt: skip
    if holder is not None:
        tell_of(holder, plan)
    if not wish.as_json:
        write_lines(lines_of(plan, keep, asked.session.clock.now()))
    if plan.note:
        complain(plain(plan.note))
    if plan.empty or wish.dry_run:
        tell(asked, wish, plan, None)
        return 0
    if not agreed(asked, wish, plan):
        click.echo("nothing was removed")
        return 1
    with on_its_way() as transfer:
        freed = asked.call(removed, asked.blobs, asked.paths, plan, transfer.moved, access=access)
    tell(asked, wish, plan, freed)
    return 0


def holder_of(asked: Asked) -> AttemptRecord | None:
    """The attempt that holds the run, if one lives."""
    facts = asked.call(read_facts, asked.blobs, asked.paths.run_id)
    now = asked.call(asked.blobs.now)
    lives = state(facts, now) is State.RUNNING and not died_here(facts, here())
    return facts.newest_attempt if lives else None


def tell_of(holder: AttemptRecord, plan: Plan) -> None:
    """Who holds the run. Raises ConfigError if nothing can go meanwhile."""
    who = f"attempt {holder.attempt} on {holder.host} since {isoformat(holder.started)}"
    if plan.empty:
        what = (
            f"is held by {who}, which removes what it does not need by itself; nothing was removed"
        )
        raise ConfigError.of(holder.run, f"{what}: wait for it to end")
    complain(f"{holder.run} is held by {who}: its checkpoints stay")


def agreed(asked: Asked, wish: Wish, plan: Plan) -> bool:
    """Whether it is to be done. Raises ConfigError if nobody can be asked."""
    if wish.yes:
        return True
    if wish.as_json or not sys.stdin.isatty():
        what = "asks before it removes, and nobody is there to answer; nothing was removed"
        raise ConfigError.of("prune", f"{what}. Type: {wish.command(asked.typed)} --yes")
    return click.confirm(f"remove {told(plan)}?", err=True)


def told(plan: Plan) -> str:
    """`3 checkpoints, 1.2 GB`."""
    return f"{plural(len(plan.checkpoints), 'checkpoint')}, {size(plan.bytes)}"


def lines_of(plan: Plan, keep: Keep, now: datetime) -> Iterator[str]:
    """What goes and what stays, and the sum."""
    page, why = screen(), reasons(plan.stays, keep)
    rows = [row(it, now, Cell("stays", "green"), why[it.number]) for it in plan.stays]
    rows += [
        row(it, now, Cell("goes", "yellow"), "damaged" if it.damaged else "older")
        for it in reversed(plan.checkpoints)
    ]
    yield from table(HEADERS, rows, width=page.width, colour=page.colour) if rows else ()
    if plan.empty:
        yield "nothing need go"
        return
    yield f"would free: {size(plan.bytes)} in {plural(len(plan.packs), 'pack')}"
    if plan.uploads:
        yield f"would abort: {plural(len(plan.uploads), 'upload')} that never ended"


def row(it: Known, now: datetime, verdict: Cell, why: str) -> list[Text]:
    """A checkpoint as a line of the table."""
    saved = "" if it.created is None else short_age(it.created, now)
    big = size(it.bytes) if it.readable else ""
    return [f"{it.step}", f"{it.attempt}", saved, big, verdict, why]


def reasons(stays: Sequence[Known], keep: Keep) -> dict[Any, str]:
    """Why each of them stays. stays: newest first."""
    whole = [it for it in stays if not it.damaged]
    newest = {it.number for it in whole[: max(keep.last, 1)]}
    kept = of_steps(whole, keep.every)
    best = best_of(whole, keep.best)
    found: dict[Any, str] = {}
    for it in stays:
        why = [f"one of the {keep.last} newest" if keep.last > 1 else "the newest"] * (
            it.number in newest
        )
        why += [f"a multiple of {keep.every}"] * (it.number in kept)
        why += [f"the best by {keep.best.metric}" if keep.best else ""] * (it.number in best)
        why += ["damaged, and none newer is whole"] * it.damaged
        found[it.number] = ", ".join(why) or "the newest that verifies"
    return found


def tell(asked: Asked, wish: Wish, plan: Plan, freed: int | None) -> None:
    """What was removed, or would be, and what to type next. freed: None if nothing was to be removed."""
    if wish.as_json:
        gone = [
            {"step": it.step, "attempt": it.attempt, "damaged": it.damaged}
            for it in plan.checkpoints
        ]
        stays = [{"step": it.step, "attempt": it.attempt} for it in plan.stays]
        write_json(
            {"id": asked.paths.run_id, "checkpoints": gone, "packs": len(plan.packs),
             "uploads": len(plan.uploads), "stays": stays,
             "bytes": plan.bytes if freed is None else freed, "removed": freed is not None}
        )  # fmt: skip
        return
    if freed is not None:
        click.echo(f"removed {plural(len(plan.checkpoints), 'checkpoint')}, freed {size(freed)}")
    elif not plan.empty:
        click.echo("nothing was removed, as --dry-run asks")
        click.echo(f"next: {wish.command(asked.typed)}")
        return
    click.echo(f"next: crown-exp checkpoints list {asked.typed}")
