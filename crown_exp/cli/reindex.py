"""`crown-exp reindex`: make the index of runs anew from their folders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from crown_exp.registry.base import Reindexed

BAR = 30


@click.command(name="reindex")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(as_json: bool) -> None:
    """Make the index of runs anew from their folders, which hold all there is to know of them.

    Nothing is lost by it, and runs may go on meanwhile. An index that is damaged is moved away first.
    """
    from crown_exp.config.project import find_project
    from crown_exp.config.settings import load_settings
    from crown_exp.registry import chosen_url, reindex
    from crown_exp.storage import Portal, open_blobs

    settings = load_settings(find_project(Path.cwd()))
    blobs = open_blobs(settings.storage.root, settings.storage.access)
    with Portal() as portal, Bar() as bar:
        told = portal.call(reindex, chosen_url(settings), blobs, bar.draw)
    tell(told, blobs.url, as_json)


class Bar:
    """How far it is, on a line of its own that goes away; only on a terminal."""

    def __init__(self) -> None:
        self.on = sys.stderr.isatty()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self.write("")

    def draw(self, done: int, of: int) -> None:
        """`done` runs of `of` are read."""
        filled = BAR * done // max(of, 1)
        self.write(f"[{'=' * filled}{' ' * (BAR - filled)}] {done:,}/{of:,} runs")

    def write(self, text: str) -> None:
        """Draw over what is there."""
        if self.on:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()


def tell(told: Reindexed, store: str, as_json: bool) -> None:
    """How many runs there are, what could not be read, and what to type next."""
    from crown_exp.cli.ages import plural
    from crown_exp.cli.letters import plain
    from crown_exp.cli.screen import complain, write_json
    from crown_exp.config.places import display

    if as_json:
        moved = str(told.moved) if told.moved else None
        write_json({"runs": told.runs, "problems": told.problems, "moved": moved})
        return
    for problem in told.problems:
        complain(plain(problem))
    if told.moved is not None:
        click.echo(f"what was there is no database; it was moved to\n{plain(display(told.moved))}")
    problems = f", {plural(len(told.problems), 'problem')}" if told.problems else ""
    click.echo(f"indexed {plural(told.runs, 'run')}{problems}")
    click.echo(f"store  {plain(store)}")
    click.echo("next: crown-exp runs")
