"""`crown-exp delete RUN…`: delete runs, after saying what that frees."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from crown_exp.errors import ConfigError

if TYPE_CHECKING:
    from crown_exp.cli.removing import Doomed
    from crown_exp.launch.index import Index


@click.command(name="delete")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--yes", is_flag=True, help="do not ask")
@click.option("--dry-run", is_flag=True, help="only say what it would free")
@click.option("--json", "as_json", is_flag=True, help="for machines; goes with --yes or --dry-run")
def command(runs: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool) -> int:
    """Delete runs with all their files, for good; says first what that frees, and asks.

    RUN is an id or its beginning, whole or after the dash. Runs that are running or queued are refused.
    """
    from crown_exp.cli.refreshed import refreshed_index
    from crown_exp.cli.removing import Wish, remove

    with refreshed_index() as index:
        ids = dict.fromkeys(found(index, run) for run in runs)
        doomed = [checked(index, run_id) for run_id in ids]
        wish = Wish(f"crown-exp delete {shlex.join(ids)}", yes, dry_run, as_json)
        return remove(index, doomed, wish)


def found(index: Index, run: str) -> str:
    """The id of a run; a whole id is also that of what is left of one. Raises ConfigError if none fits."""
    from crown_exp.folder.paths import is_id
    from crown_exp.registry import size_up

    try:
        return index.call(index.registry.find, run)
    except ConfigError:
        if is_id(run) and index.call(size_up, index.blobs, run).files:
            return run
        raise


def checked(index: Index, run_id: str) -> Doomed:
    """A run to delete. Raises ConfigError if it is alive."""
    from crown_exp.cli.removing import sized
    from crown_exp.outcome import State

    try:
        info = index.info(run_id)
    except ConfigError:
        return sized(index, run_id, None)
    if info.state in (State.RUNNING, State.QUEUED):
        what = f"is {info.state}, so it is not deleted, nor is any other; end it first"
        raise ConfigError.of(run_id, what)
    return sized(index, run_id, info)
