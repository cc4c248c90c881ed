"""`crown-exp move RUN compute=…`: stop a run at a boundary, and go on with it somewhere else."""

from __future__ import annotations

from pathlib import Path

import click

from crown_exp.errors import ConfigError


@click.command(name="move")
@click.argument("run", metavar="RUN")
@click.argument("changes", nargs=-1, required=True, metavar="compute=TARGET [KEY=VALUE]...")
@click.option("--yes", is_flag=True, help="agree beforehand to what a paid machine costs")
def command(run: str, changes: tuple[str, ...], yes: bool) -> int:
    """Stop a run at a boundary, saved, and go on with it on another compute target: same id, same curve.

    RUN is an id or its beginning, whole or after the dash, or latest. What the new place costs is shown, and
    agreed to, before anything is stopped. Other keys may change as with crown-exp resume:

    \b
    crown-exp move k7f compute=a100_spot
    crown-exp move k7f compute=local device.workers=2
    """
    from crown_exp.config.project import find_project
    from crown_exp.launch.awake import awake
    from crown_exp.launch.invocation import Invocation
    from crown_exp.launch.recorded import conf_of
    from crown_exp.launch.remote.dispatch import moved
    from crown_exp.launch.resuming import resumed
    from crown_exp.launch.session import open_session
    from crown_exp.runner import run_attempt
    from crown_exp.runner.process import importable

    if not any(it.lstrip("+").startswith("compute") for it in changes):
        what = "expected where to: type compute=local, compute=a100_spot, …"
        raise ConfigError.of("move", what)
    project = find_project(Path.cwd())
    root = project.root if project else Path.cwd()
    with importable(root), open_session(project, run=run) as session, conf_of(project) as loader:
        found = resumed(session, loader, run, changes)
        ended = moved(session, Invocation(False, project, yes=yes), found)
        if ended is not None:
            return ended.exit_code
        with awake():
            ending = run_attempt(
                session.portal, session.blobs, found.record.id,
                home=session.home, root=session.root, database=session.database, elsewhere=session.elsewhere,
                changes=found.changes,
            )  # fmt: skip
    return ending.exit_code
