"""One experiment from Python: its config, and a run of it in this thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crown_exp.config.check import Checked
from crown_exp.config.compose import Composition
from crown_exp.config.diagnose import sound
from crown_exp.config.overrides import quoted_run, resumed_alone
from crown_exp.config.project import Project, find_project
from crown_exp.errors import ConfigError, CrownError
from crown_exp.launch.collect import RunFailed
from crown_exp.launch.recorded import conf_of
from crown_exp.launch.resuming import Resumption, resumed, resumed_from
from crown_exp.launch.session import Session, for_debugging, open_session
from crown_exp.launch.submit import Order
from crown_exp.outcome import ExitCode
from crown_exp.runner import run_attempt
from crown_exp.runner.process import importable


@dataclass(frozen=True)
class Started:
    """A run that `start` saw through. kept: its folder; None of a debug run, which leaves none."""

    id: str
    name: str
    result: Any
    kept: Path | str | None

    @property
    def folder(self) -> Path | str:
        """In the store; a path if that is on this machine. Raises CrownError after a debug run."""
        if self.kept is None:
            raise CrownError(f"{self.id} was a debug run: its folder is gone")
        return self.kept


def compose(*overrides: str) -> dict[str, Any]:
    """The checked, resolved config of these overrides, as plain values.

    Raises ConfigError with every problem: `crown_exp.compose("+experiment=digits_cnn", "optimizer.lr=0.1")`.
    """
    return checked(find_project(Path.cwd()), overrides)[0].config


def start(*overrides: str) -> Started:
    """Run one experiment here, in this thread, and return its result; `start("resume=k7f")` goes on with a run.

    Works in a notebook, in a test, under a debugger. Raises ConfigError for a config that is wrong,
    KeyboardInterrupt if the run was interrupted, and RunFailed if it did not complete for any other
    reason; the task's own traceback is printed.
    """
    project = find_project(Path.cwd())
    typed = tuple(map(quoted_run, overrides))
    with importable(project.root if project else Path.cwd()):
        with conf_of(project) as loader:
            if alone := resumed_alone(loader, typed):
                with open_session(project, run=alone[0]) as session:
                    return carried_out(session, resumed(session, loader, *alone))
            order = Order(*sound(loader, typed))
        if order.is_elsewhere:
            what = "start runs here; elsewhere: python -m crown_exp +experiment=… compute=…"
            raise ConfigError.of(f"compute={order.composition.config['compute']['name']}", what)
        debug, run = order.composition.config["debug"], order.composition.config["resume"]
        with open_session(project, debug=debug, run=str(run or "")) as session:
            if run:
                return carried_out(session, resumed_from(session, order))
            if debug:
                order = for_debugging(order)
            return carried_out(session, Resumption(session.make(order), {}))


def carried_out(session: Session, begun: Resumption) -> Started:
    """See a run through. Raises as `start`."""
    record = begun.record
    ending = run_attempt(
        session.portal, session.blobs, record.id,
        home=session.home, root=session.root, database=session.database, changes=begun.changes,
    )  # fmt: skip
    if ending.exit_code == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if ending.exit_code != ExitCode.OK:
        raise RunFailed(f"{record.id}: {ending.error}", ending.exit_code)
    place = f"runs/{record.id}"
    folder = session.blobs.local_path(place) or f"{session.blobs.url}/{place}"
    kept = folder if session.keeps else None
    return Started(record.id, record.name, ending.result, kept)


def checked(project: Project | None, overrides: tuple[str, ...]) -> tuple[Composition, Checked]:
    """One composed and checked config. Raises ConfigError."""
    with conf_of(project) as loader:
        return sound(loader, overrides)
