"""The job of a run: what is started where, with what it needs of this machine."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from crown_exp.compute.base import Job, Target
from crown_exp.folder import RunPaths, RunRecord
from crown_exp.folder.paths import environment_path
from crown_exp.launch.remote.base import Planned
from crown_exp.launch.remote.planning.environment import (
    travelling_env,
    travelling_secrets,
    uses_wandb,
)
from crown_exp.launch.session import Session

if TYPE_CHECKING:
    from crown_exp.compute.bundle import Bundle

LINK_SECONDS = 7 * 24 * 3600
"""How long a job may wait for its machine, or come back to one, and still find the packed environment."""


class Prepared:
    """What travels with the jobs of one command: made once for each kind of environment, when it is needed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.bundles: dict[str, Bundle] = {}

    def bundle(self, target: Target) -> Bundle:
        """The code, and what it needs, for a target's machines. Raises ConfigError for what cannot travel."""
        from crown_exp.compute.bundle import make_bundle

        session, environment = self.session, environment_of(target)
        if environment not in self.bundles:
            self.bundles[environment] = make_bundle(
                session.root, session.home / "bundles", environment=environment,
                exclude=[session.settings.home], secrets=session.secrets,
            )  # fmt: skip
        return self.bundles[environment]

    def job(self, record: RunRecord, planned: Planned, name: str) -> Job:
        """As `job_for`."""
        return job_for(self.session, record, planned, name, self.bundle(planned.target))


def environment_of(target: Target) -> Literal["lock", "image"]:
    """Where a job's packages come from: machines of a Slurm cluster see this Python and use it."""
    return "image" if target.executor == "slurm" or target.environment == "image" else "lock"


def job_for(
    session: Session, record: RunRecord, planned: Planned, name: str, bundle: Bundle
) -> Job:
    """The job that carries out a run. name: its own, as JobRecord.job; its attempts bear it.

    It has the variables that Hydra is to set for it, whatever `compute.env` says. Raises as `travelling`.
    """
    target = planned.target
    env = {**planned.env, "CROWN_JOB": name}
    if math.isfinite(target.start_deadline):
        env["CROWN_START_DEADLINE"] = f"{target.start_deadline:.0f}"
    words = ("run", f"{session.blobs.url}/{RunPaths(record.id).root}")
    wandb = uses_wandb(planned.order.composition.config)
    return travelling(session, target, name, bundle, words, env, wandb=wandb)


def travelling(
    session: Session, target: Target, name: str, bundle: Bundle,
    words: Sequence[str], env: Mapping[str, str], *, wandb: bool,
) -> Job:  # fmt: skip
    """A job that gives `start.py` these words where a bundle is. env: beside what travels with every job.

    wandb: whether it speaks to W&B, and gets its key.
    A machine of SkyPilot's gets the bundle and prepares itself; one of a Slurm cluster sees our files, and
    runs the bundle's code with this Python. Raises SettingsError, OSError for what is to travel and cannot.
    """
    env = {**travelling_env(session, target), **env}
    secrets = {**travelling_secrets(session, target, wandb=wandb), **links(session, bundle)}
    if target.executor == "slurm":
        argv = (sys.executable, "start.py", *words)
        return Job(name, argv, target, directory=bundle.folder, env=env, secrets=secrets)
    return Job(
        name, ("python3", "start.py", *words), target,
        bundle=bundle.folder, env=env, secrets=secrets, setup=("python3", "start.py", "prepare"),
    )  # fmt: skip


def links(session: Session, bundle: Bundle) -> dict[str, str]:
    """Where a machine finds the packed environment, and may leave it for the next; none without one."""
    if bundle.environment == "image":
        return {}
    path = environment_path(bundle.environment)

    def link(put: bool) -> str | None:
        return session.portal.call(partial(session.blobs.link, path, LINK_SECONDS, put=put))

    found = {"CROWN_ENVIRONMENT_GET": link(False), "CROWN_ENVIRONMENT_PUT": link(True)}
    return {name: url for name, url in found.items() if url is not None}
