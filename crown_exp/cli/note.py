"""`crown-exp note RUN [TEXT]`: what a person has to say of a run, kept in its folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from crown_exp.errors import ConfigError

LONGEST = 20_000
"""Characters: what a screen shows of one text, too."""


@click.command(name="note")
@click.argument("run", metavar="RUN")
@click.argument("words", nargs=-1, metavar="[TEXT|-]")
@click.option("--clear", is_flag=True, help="take the note away")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(run: str, words: tuple[str, ...], clear: bool, as_json: bool) -> None:
    """Write a note on RUN in place of the one before; without TEXT, show it.

    A single - reads the text from standard input. RUN is an id or its beginning, whole or after the dash.
    """
    from crown_exp.cli.refreshed import refreshed_index
    from crown_exp.cli.screen import write_json
    from crown_exp.registry import Change, change_run

    text = text_of(words, clear)
    with refreshed_index() as index:
        run_id = index.find(run)
        if text is not None:
            change = Change(note=text)
            index.call(
                change_run, index.registry, index.blobs, run_id, change,
                user=index.settings.user, clock=index.clock,
            )  # fmt: skip
        found = index.info(run_id).note
    if as_json:
        write_json({"id": run_id, "note": found})
    else:
        show(run_id, found)


def text_of(words: Sequence[str], clear: bool) -> str | None:
    """The note that is to be written: "" to clear it, None to leave it. Raises ConfigError if it is none."""
    if clear and words:
        raise ConfigError.of("--clear", "takes the note away, so it goes with no text")
    if clear or not words:
        return "" if clear else None
    text = from_stdin() if list(words) == ["-"] else " ".join(words)
    text = text.strip()
    if len(text) > LONGEST:
        what = f"has more than {LONGEST:,} characters; nothing was changed: keep the text in a file"
        raise ConfigError.of("note", f"{what} and note where that is")
    if not text:
        raise ConfigError.of("note", "is empty; --clear takes a note away")
    return text


def from_stdin() -> str:
    """What comes on standard input, as far as a note may be long. Raises ConfigError if it is no text."""
    data: bytes = sys.stdin.buffer.read(4 * LONGEST + 4)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and len(data) > 4 * LONGEST:
            return data.decode(errors="ignore")
        raise ConfigError.of("note", "standard input is not UTF-8 text") from None


def show(run_id: str, note: str) -> None:
    """The note, and what to type next."""
    from crown_exp.cli.letters import fold
    from crown_exp.cli.screen import screen, write_lines

    if note:
        for line in note.splitlines():
            write_lines(fold(line, screen().width))
        click.echo(f"next: crown-exp show {run_id}")
    else:
        click.echo(f"{run_id} has no note")
        click.echo(f"next: crown-exp note {run_id} <text>")
