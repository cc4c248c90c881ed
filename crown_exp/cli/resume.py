"""`crown-exp resume RUN [KEY=VALUE…]`: go on with a run from where it was saved last."""

from __future__ import annotations

from pathlib import Path

import click

from crown_exp.errors import ConfigError


@click.command(name="resume")
@click.argument("run", metavar="RUN")
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--take-over", is_flag=True, help="end the turn of an attempt that still lives")
@click.option("--yes", is_flag=True, help="agree beforehand to what a paid machine costs")
@click.option("-m", "--multirun", is_flag=True, hidden=True)
def command(run: str, changes: tuple[str, ...], take_over: bool, yes: bool, multirun: bool) -> int:
    """Go on with a run from where it was saved last, with the config it was recorded with.

    RUN is an id or its beginning, whole or after the dash, or latest, or where its folder is, in whatever
    store. Keys that cannot change the result may be set anew, as may an option of a group of the framework:

    \b
    crown-exp resume k7f
    crown-exp resume s3://bucket/prefix/runs/r261122-k7f3q2
    crown-exp resume k7f device.workers=4 limits.run='8 hours' tracker=wandb
    crown-exp resume k7f compute=a100_spot
    crown-exp resume k7f compute=local

    It goes on where it was last: here, or on its compute target, whose price is shown first. One that runs
    goes elsewhere with crown-exp move. What decides the result stays: for a new run from the same state with
    other settings there is crown-exp fork. A run that has not been saved yet begins again. A run that is
    completed or failed is not run again.
    """
    from crown_exp.config.project import find_project
    from crown_exp.launch.awake import awake
    from crown_exp.launch.invocation import Invocation
    from crown_exp.launch.recorded import conf_of
    from crown_exp.launch.resuming import resumed
    from crown_exp.launch.session import open_session
    from crown_exp.runner import run_attempt
    from crown_exp.runner.process import importable

    if multirun:
        raise ConfigError.of("-m", "resume goes on with one run: leave it out")
    project = find_project(Path.cwd())
    root = project.root if project else Path.cwd()
    with importable(root), open_session(project, run=run) as session, conf_of(project) as loader:
        found = resumed(session, loader, run, changes)
        if found.is_elsewhere:
            from crown_exp.launch.remote.dispatch import gone_on

            ended = gone_on(session, Invocation(False, project, yes=yes), found)
            assert ended is not None
            return ended.exit_code
        if found.facts is not None and found.facts.jobs:
            from crown_exp.launch.remote.dispatch import refuse_two_places

            refuse_two_places(session, found)
        with awake():
            ending = run_attempt(
                session.portal, session.blobs, found.record.id,
                home=session.home, root=session.root, database=session.database, elsewhere=session.elsewhere,
                changes=found.changes, take_over=take_over,
            )  # fmt: skip
    return ending.exit_code
