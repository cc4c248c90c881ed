"""A machine for a person: priced and agreed to, made ready, entered in this terminal, left to end itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crown_exp.compute.base import Candidate, Executor, Job, Target, Terminal
from crown_exp.compute.money import in_dollars
from crown_exp.compute.start import shell_here
from crown_exp.compute.target import priced
from crown_exp.config.settings import whole_environment
from crown_exp.errors import ConfigError, Problem
from crown_exp.launch.remote.planning.approval import Declined
from crown_exp.launch.remote.planning.fitness import unseen_store, unset_secrets
from crown_exp.launch.remote.planning.plan import to_be_had_first
from crown_exp.launch.remote.submitting.jobs import Prepared, travelling
from crown_exp.launch.session import Session

if TYPE_CHECKING:
    from types import FrameType


def as_shell(target: Target) -> Target:
    """The target as a person's machine: of SkyPilot's, a plain cluster, as nobody is to be on a managed job."""
    return replace(target, managed=False) if target.executor == "skypilot" else target


def executor_of(session: Session, target: Target) -> Executor:
    """Who makes machines of a target ready; this one too."""
    if target.is_here:
        from crown_exp.compute.executors.local import LocalExecutor

        return LocalExecutor(session.home / "shells", whole_environment())
    return session.executors[target.executor]


def name_of(session: Session, target: Target) -> str:
    """What a person's machine is called: theirs, one for each target."""
    words = ("crown-shell", session.settings.user, target.name)
    return re.sub(r"[^a-z0-9-]+", "-", "-".join(words).lower()).strip("-")


def candidates(session: Session, target: Target) -> list[Candidate]:
    """The machines that it may be, in the order in which they are tried.

    Raises ConfigError with all that keeps it from being one, ExecutorError.
    """
    executor = executor_of(session, target)
    problems: list[Problem] = []
    if not target.is_here:
        problems = [*unseen_store(session, target), *unset_secrets(session, target)]
    problems += executor.problems(target)
    if problems:
        raise ConfigError(problems)
    return to_be_had_first(priced(target, executor.candidates(target)))


def agree(found: Sequence[Candidate], *, yes: bool, ask: Callable[[str], bool] | None) -> None:
    """Nothing, if the machine is free or agreed to: nobody knows for how long it will be paid.

    Raises Declined, and ConfigError if nobody can be asked.
    """
    rates = [it.usd_per_hour or 0.0 for it in found if it.enabled is not False]
    if yes or not any(rates):
        return
    low, high = min(rates), max(rates)
    price = in_dollars(low) + (f" to {in_dollars(high)}" if high > low else "")
    paid = f"it is paid by the hour, {price}, until it is ended"
    if ask is None:
        raise ConfigError.of("shell", f"{paid}, and nobody is there to agree; type --yes")
    if not ask(f"{paid}. Go on?"):
        raise Declined("no machine was started")


def job_of(session: Session, target: Target, argv: Sequence[str]) -> Job:
    """What prepares the machine and what the person runs there: a command, or a shell.

    Raises ConfigError for code that cannot travel.
    """
    name = name_of(session, target)
    if target.is_here:
        here = ("env", "-u", "CROWN_JOB", *(argv or [shell_here()]))
        return Job(name, here, target, directory=session.root, env=project_here(session))
    bundle = Prepared(session).bundle(target)
    words = ("shell", *argv)
    return travelling(
        session, target, name, bundle, words, {}, wandb=True
    )  # what one types is not known


def project_here(session: Session) -> dict[str, str]:
    """What finds the project's modules, and the programs of this Python's environment, as its runs do."""
    known = whole_environment()
    programs = str(Path(sys.executable).parent)
    env = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(session.root), known.get("PYTHONPATH")])),
        "PATH": os.pathsep.join([programs, known.get("PATH", os.defpath)]),
    }
    if sys.prefix != sys.base_prefix:
        env["VIRTUAL_ENV"] = sys.prefix
    return env


def entered(terminal: Terminal) -> int:
    """Run it in this terminal; its exit code. Ctrl-C is for what runs there."""
    before = signal.signal(signal.SIGINT, _left_to_it)
    try:
        done = subprocess.run(
            terminal.argv,
            env=None if terminal.env is None else dict(terminal.env),
            cwd=terminal.directory, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise ConfigError.of("shell", f"{terminal.argv[0]} is not installed here") from None
    finally:
        signal.signal(signal.SIGINT, before)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _left_to_it(number: int, frame: FrameType | None) -> None:
    """A handler, and not SIG_IGN, which what is started would inherit."""
