"""`crown-exp run <folder>`: carry out a recorded run in this process. Executors call it with a fixed argv."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from crown_exp.errors import ConfigError
from crown_exp.folder.paths import is_id


@click.command(name="run")
@click.argument("folder", metavar="<store>/runs/<id>")
@click.option("--take-over", is_flag=True, help="end the turn of an attempt that still lives")
def command(folder: str, take_over: bool) -> int:
    """Carry out the run recorded in a folder, in the current directory's project."""
    from crown_exp.config.project import find_project
    from crown_exp.config.settings import executor_job, variables
    from crown_exp.runner import run_attempt
    from crown_exp.storage import Portal, open_blobs

    store, run_id = split_folder(folder)
    project = find_project(Path.cwd())
    root = project.root if project else Path.cwd()
    home = root / os.path.expanduser(variables(project).get("CROWN_HOME") or ".crown")  # noqa: PTH111
    with Portal() as portal:
        ending = run_attempt(
            portal, open_blobs(store), run_id, home=home, root=root,
            job=executor_job(), take_over=take_over,
        )  # fmt: skip
    return ending.exit_code


def split_folder(folder: str) -> tuple[str, str]:
    """The store's root and the run's id. Raises ConfigError for anything but `<store>/runs/<id>`."""
    match = re.fullmatch(r"(.+)/runs/([^/]+)/?", folder)
    if match is None or not is_id(match[2]):
        raise ConfigError.of(folder, "expected the folder of a run: <store>/runs/<id>")
    return match[1], match[2]
