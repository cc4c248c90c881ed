"""`crown-exp tag RUN… +paper -draft`: tags of runs, kept in their folders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from crown_exp.errors import ConfigError

if TYPE_CHECKING:
    from crown_exp.cli.refreshed import RefreshedIndex
    from crown_exp.registry import Change

HOW = "crown-exp tag RUN... +paper -draft"


@click.command(name="tag", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[RUN]... [+TAG|-TAG]...")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(words: tuple[str, ...], as_json: bool) -> None:
    """Give runs tags (+TAG) or take them away (-TAG); without any, show which they have.

    \b
    crown-exp tag k3f 8qx +paper -draft   both runs
    crown-exp tag k3f                     what it has
    crown-exp tag                         every tag, with how many runs have it

    RUN is an id or its beginning, whole or after the dash.
    """
    from crown_exp.cli.refreshed import refreshed_index

    runs, change = understood(words)
    with refreshed_index() as index:
        if not runs:
            show_all(index.call(index.registry.tags), as_json)
            return
        ids = dict.fromkeys(found_id(index, run) for run in runs)
        found = {run_id: tags_after(index, run_id, change) for run_id in ids}
    show(found, change, as_json)


def understood(words: Sequence[str]) -> tuple[list[str], Change]:
    """The runs, and what becomes of their tags. Raises ConfigError for what is neither."""
    from crown_exp.registry import Change
    from crown_exp.registry.notes import check_tag

    runs = [word for word in words if word[:1] not in ("+", "-")]
    add = [word[1:] for word in words if word.startswith("+")]
    remove = [word[1:] for word in words if word.startswith("-")]
    for tag in remove:
        if tag.startswith("-"):
            raise ConfigError.of(f"-{tag}", f"no such option; expected {HOW}")
    for tag in (*add, *remove):
        check_tag(tag)
        if tag in add and tag in remove:
            raise ConfigError.of(f"+{tag} -{tag}", "is both given and taken away")
    if (add or remove) and not runs:
        raise ConfigError.of(words[0], f"is a tag, but of which run? Expected {HOW}")
    return runs, Change(tuple(dict.fromkeys(add)), tuple(dict.fromkeys(remove)))


def found_id(index: RefreshedIndex, run: str) -> str:
    """The id of a run. Raises ConfigError if none fits, or several do; it may have been meant as a tag."""
    try:
        return index.find(run)
    except ConfigError as error:
        if "no run" in str(error):
            raise ConfigError.of(run, f"no run has this id; a tag is written +{run}") from None
        raise


def tags_after(index: RefreshedIndex, run_id: str, change: Change) -> list[str]:
    """The tags of a run, changed if that changes anything."""
    from crown_exp.registry import change_run

    before = set(index.info(run_id).tags)
    if set(change.add) - before or set(change.remove) & before:
        user = index.settings.user
        index.call(
            change_run, index.registry, index.blobs, run_id, change, user=user, clock=index.clock
        )
        return list(index.info(run_id).tags)
    return sorted(before)


def show(found: dict[str, list[str]], change: Change, as_json: bool) -> None:
    """The tags that each run has now."""
    from crown_exp.cli.letters import plain
    from crown_exp.cli.screen import write_json

    if as_json:
        write_json([{"id": run_id, "tags": tags} for run_id, tags in found.items()])
        return
    for run_id, tags in found.items():
        click.echo(f"{run_id}  {plain(' '.join(tags)) if tags else 'no tags'}")
    had = sorted({tag for tags in found.values() for tag in tags})
    first = next(iter([*change.add, *had]), None)
    again = f"crown-exp runs tag:{first}" if first else f"crown-exp tag {next(iter(found))} +paper"
    click.echo(f"next: {plain(again)}")


def show_all(counted: dict[str, int], as_json: bool) -> None:
    """Every tag with how many runs have it."""
    from crown_exp.cli.screen import screen, write_json, write_lines
    from crown_exp.cli.table import Column, table

    if as_json:
        write_json([{"tag": tag, "runs": count} for tag, count in counted.items()])
        return
    if not counted:
        click.echo("no run has a tag")
        click.echo("next: crown-exp tag <run> +paper")
        return
    shown = screen()
    rows = [[tag, f"{count:,}"] for tag, count in counted.items()]
    headers = (Column("tag"), Column("runs", right=True))
    write_lines(table(headers, rows, width=shown.width, colour=shown.colour))
    click.echo(f"next: crown-exp runs tag:{next(iter(counted))}")
