"""`crown-exp upload PATH`: data into the store, where runs elsewhere find it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What was put into the store. sent: files that were not there; size: bytes of all."""

    url: str
    files: int
    sent: int
    size: int


@click.command(name="upload")
@click.argument("path", metavar="PATH")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(path: str, as_json: bool) -> None:
    """Put a file or folder into the store, and print its URL.

    For data that lies on this machine alone, when a run is to happen elsewhere: name the URL in the config
    instead of the path, and take run.fetch(url) in the task, which is a path on the machine where it runs. The
    same data is sent once; the URL holds its digest, so a run that is repeated has the same data.
    """
    from crown_exp.cli.screen import complain, write_json

    done = uploaded(Path(path).expanduser())
    if as_json:
        write_json(done)
        return
    click.echo(done.url)
    complain(told(done))
    complain("next: name this URL in the config; run.fetch(url) is its path in the task")


def uploaded(source: Path) -> Uploaded:
    """Send it. Raises ConfigError, SettingsError, StoreError."""
    from crown_exp.config.project import find_project
    from crown_exp.config.settings import load_settings
    from crown_exp.errors import ConfigError
    from crown_exp.launch.fitness import is_lost
    from crown_exp.storage import Portal, open_blobs
    from crown_exp.storage.uploads import send, surveyed

    settings = load_settings(find_project(Path.cwd()))
    blobs = open_blobs(settings.storage.root, settings.storage.access)
    if is_lost(blobs):
        what = "is gone when this process ends; set CROWN_STORAGE__ROOT=s3://bucket/prefix"
        raise ConfigError.of(f"the store {blobs.url}", what)
    upload = surveyed(source)
    screen = sys.stderr if sys.stderr.isatty() else StringIO()
    bar: Any = click.progressbar(length=upload.size, label=upload.name, file=screen)
    with Portal() as portal, bar:
        portal.call(blobs.prepare)
        sent = portal.call(send, blobs, upload, bar.update)
    return Uploaded(f"{blobs.url}/{upload.path}", len(upload.files), sent, upload.size)


def told(done: Uploaded) -> str:
    """How much that was."""
    from crown_exp.cli.ages import plural

    there = done.files - done.sent
    were = f" ({there:,} {'was' if there == 1 else 'were'} there)" if there else ""
    return f"{plural(done.files, 'file')}, {done.size / 1e6:,.1f} MB{were}"
