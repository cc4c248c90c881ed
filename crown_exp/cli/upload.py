"""`crown-exp upload PATH`: data into the store, where runs elsewhere find it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import click

CUT_OFF = "\nnot all of it is there; typed again, it goes on with what is missing\n"


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
    same data is sent once; the URL holds its digest, so a run that is repeated has the same data. All of it is
    read before any is sent. Ctrl-C leaves no half file; typed again, it sends what is missing.
    """
    from crown_exp.cli.ages import plural
    from crown_exp.cli.screen import complain, write_json

    done = uploaded(Path(path).expanduser())
    if as_json:
        write_json(done)
        return
    click.echo(done.url)
    if there := done.files - done.sent:
        complain(f"{plural(there, 'file')} of them {'was' if there == 1 else 'were'} there")
    complain("next: name this URL in the config; run.fetch(url) is its path in the task")


def uploaded(source: Path) -> Uploaded:
    """Send it. Raises ConfigError, SettingsError, StoreError."""
    from crown_exp.cli.ages import plural
    from crown_exp.cli.screen import complain
    from crown_exp.config.project import find_project
    from crown_exp.config.settings import load_settings
    from crown_exp.errors import ConfigError
    from crown_exp.launch.fitness import is_lost
    from crown_exp.launch.signals import told
    from crown_exp.storage import Portal, open_blobs
    from crown_exp.storage.uploads import listed, send, surveyed

    settings = load_settings(find_project(Path.cwd()))
    blobs = open_blobs(settings.storage.root, settings.storage.access)
    if is_lost(blobs):
        what = "is gone when this process ends; set CROWN_STORAGE__ROOT=s3://bucket/prefix"
        raise ConfigError.of(f"the store {blobs.url}", what)
    found = listed(source)
    complain(f"{found.name}: {plural(len(found.files), 'file')}, {bytes_of(found.size)}")
    with told(lambda: CUT_OFF), bar("reading", found.size) as shown:
        upload = surveyed(found, shown.update)
    with told(lambda: CUT_OFF), Portal() as portal, bar("sending", upload.size) as shown:
        portal.call(blobs.prepare)
        sent = portal.call(send, blobs, upload, shown.update)
    return Uploaded(f"{blobs.url}/{upload.path}", len(upload.files), sent, upload.size)


def bar(label: str, size: int) -> Any:
    """How far so many bytes are, on a terminal."""
    screen = sys.stderr if sys.stderr.isatty() else StringIO()
    return click.progressbar(length=size, label=label, file=screen)


def bytes_of(size: int) -> str:
    """`12.3 MB`, or of more than a thousand of those `1,234.5 GB`."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
