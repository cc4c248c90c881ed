"""`crown-exp checkpoints verify`: every byte read, and whether it is what was written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from crown_exp.checkpoints.checking import Verdict, checked, numbers_of
from crown_exp.checkpoints.listing import steps_of
from crown_exp.cli.ages import plural, size
from crown_exp.cli.checkpoint_run import on_its_way
from crown_exp.cli.letters import labelled
from crown_exp.cli.screen import screen, write_json, write_lines

if TYPE_CHECKING:
    from crown_exp.checkpoints.base import Progress
    from crown_exp.checkpoints.restore import Number
    from crown_exp.cli.checkpoint_run import Asked


def show(asked: Asked, as_json: bool) -> int:
    """Check, print, and return the exit code. Raises ConfigError if there is none to check, StoreError."""
    checked_all = verdicts_of(asked, numbers(asked))
    verdicts = [it for it in checked_all if not it.removed]
    removed = [it for it in checked_all if it.removed]
    damaged = [it for it in verdicts if not it.whole]
    if as_json:
        found = [
            {"step": it.step, "attempt": it.attempt, "name": it.name, "bytes": it.bytes,
             "whole": it.whole, "why": it.why}
            for it in verdicts
        ]  # fmt: skip
        write_json(
            {"id": asked.paths.run_id, "checkpoints": found, "damaged": len(damaged),
             "removed": [it.name for it in removed]}
        )  # fmt: skip
        return int(bool(damaged))
    for it in removed:
        where = f"removed  step {it.step}, attempt {it.attempt}  "
        write_lines(labelled(where, "by the run, while it was read", screen().width))
    for it in damaged:
        where = f"damaged  step {it.step}, attempt {it.attempt}  "
        write_lines(labelled(where, it.why, screen().width))
    total = f"{plural(len(verdicts), 'checkpoint')}, {size(sum(it.bytes for it in verdicts))}"
    if not verdicts:
        click.echo(f"{asked.paths.run_id}: nothing was checked")
        click.echo(f"next: crown-exp checkpoints list {asked.typed}")
        return 0
    if not damaged:
        click.echo(f"{asked.paths.run_id}: {total}: every byte is what was written")
        click.echo(f"next: crown-exp checkpoints list {asked.typed}")
        return 0
    click.echo(f"{asked.paths.run_id}: {total}: {len(damaged):,} damaged")
    click.echo(f"next: {what_now(asked, verdicts)}")
    return 1


def numbers(asked: Asked) -> list[Number]:
    """The checkpoints to check, newest first: all, those of a step, or the one that `best` or `latest` is."""
    if asked.step is not None and not asked.step.isdecimal():
        return [asked.number()]
    found = asked.call(numbers_of, asked.blobs, asked.paths)
    if asked.step is not None:
        found = [it for it in found if it[1] == int(asked.step)]
    return found or [asked.number()]  # which says what there is instead


def verdicts_of(asked: Asked, wanted: list[Number]) -> list[Verdict]:
    """Check one after the other, showing how far all are."""
    sizes = {
        (it.attempt, it.step): it.bytes for it in asked.call(steps_of, asked.blobs, asked.paths)
    }
    total, before = sum(sizes.get(it, 0) for it in wanted), 0
    verdicts = []
    with on_its_way() as transfer:
        for number in wanted:
            told = partial(shifted, transfer.moved, before, total)
            verdict = asked.call(checked, asked.blobs, asked.paths, number, told)
            verdicts.append(verdict)
            before += sizes.get(number, 0)
    return verdicts


def shifted(moved: Progress, before: int, total: int, what: str, done: int, of: int) -> None:
    """Progress of one as that of all. before: bytes of those that are done."""
    moved(what, before + done, max(total, before + of))


def what_now(asked: Asked, verdicts: list[Verdict]) -> str:
    """What to type where some are damaged: going on passes over them, if any is whole."""
    whole = next((it for it in verdicts if it.whole), None)
    if whole is None:
        return f"crown-exp checkpoints list {asked.typed}"
    return (
        f"crown-exp resume {asked.typed}   # goes on from step {whole.step}, the newest whole one"
    )
