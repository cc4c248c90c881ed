"""`crown-exp fork RUN@STEP [KEY=VALUE…]`: a new run from the state that another one saved."""

from __future__ import annotations

from pathlib import Path

import click

from crown_exp.errors import ConfigError


@click.command(name="fork")
@click.argument("origin", metavar="RUN[@STEP]")
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--yes", is_flag=True, help="agree beforehand to what a paid machine costs")
@click.option("-m", "--multirun", is_flag=True, hidden=True)
def command(origin: str, changes: tuple[str, ...], yes: bool, multirun: bool) -> int:
    """Begin a new run with the whole state that RUN saved after STEP, and other settings.

    RUN is an id or its beginning, whole or after the dash, or latest, or where its folder is. STEP is one of
    its checkpoints; which there are is said if there is none. Without it, or with @latest, it is the newest.
    Every key may differ:

    \b
    crown-exp fork k7f@2000 optimizer.lr=1e-5
    crown-exp fork k7f limits.steps=20000 name=longer
    crown-exp fork k7f compute=a100_spot

    RUN stays as it is. The new run is in the same store, keeps a copy of the state and remembers where it
    comes from.
    """
    from crown_exp.config.project import find_project
    from crown_exp.launch.awake import awake
    from crown_exp.launch.forking import forked
    from crown_exp.launch.invocation import Invocation
    from crown_exp.launch.recorded import conf_of
    from crown_exp.launch.session import open_session
    from crown_exp.runner import run_attempt
    from crown_exp.runner.process import importable
    from crown_exp.tracking.run_log import to_stderr

    if multirun:
        how = "type the command once for each value"
        raise ConfigError.of("-m", f"fork makes one run: leave it out, and {how}")
    project = find_project(Path.cwd())
    root = project.root if project else Path.cwd()
    with importable(root), open_session(project, run=origin) as session:
        with conf_of(project) as loader:
            order = forked(session, loader, origin, changes)
        if order.is_elsewhere:
            from crown_exp.launch.remote.dispatch import agreed, carried_out

            session.approve([order])
            plan = agreed(session, Invocation(False, project, yes=yes), [order])
            assert plan is not None
            return carried_out(session, plan).exit_code
        with session.announcing():
            record = session.make(order)
            assert record.lineage is not None
            parent = record.lineage["fork"]
            to_stderr(f"{record.id} recorded, forked from {parent['run']}@{parent['step']}")
            with awake():
                ending = run_attempt(
                    session.portal, session.blobs, record.id,
                    home=session.home, root=session.root, database=session.database,
                    elsewhere=session.elsewhere,
                )  # fmt: skip
    return ending.exit_code
