"""Checks of what carries out runs elsewhere: SkyPilot and Slurm."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from crown_exp.compute.base import Executor, ExecutorError, Target
from crown_exp.errors import CrownError
from crown_exp.launch.doctor.base import Finding, Place
from crown_exp.launch.doctor.services import installed, optional
from crown_exp.launch.remote.planning.environment import is_loopback
from crown_exp.launch.remote.planning.fitness import AFAR
from crown_exp.storage.aws import way_to_s3

if TYPE_CHECKING:
    from crown_exp.config.settings_model import Settings

NAMED = 8
"""How many clouds are named."""


def sky(place: Place) -> Sequence[Finding]:
    """Whether there is a SkyPilot, and which clouds it may use. Nothing is asked of the network."""
    settings = place.settings
    if settings is None:
        return []
    if not has_sky(settings):
        return [optional("sky", "pip install 'crown-exp[sky]'", "for machines in a cloud")]
    from crown_exp.compute.executors.skypilot.executor import make_executor

    with closing(make_executor(settings.sky.python, settings.sky.home)) as executor:
        return clouds(executor)


def has_sky(settings: Settings) -> bool:
    """Whether SkyPilot is installed, here or where the settings say."""
    return settings.sky.python is not None or importlib.util.find_spec("sky") is not None


def clouds(executor: Executor) -> Sequence[Finding]:
    """The clouds in which machines are to be had."""
    target = Target(name="doctor", executor="skypilot")
    try:
        found = executor.candidates(target)
        problems = executor.problems(target)
    except CrownError as error:
        return [Finding("sky", "fail", str(error))]
    if problems:
        return [Finding("sky", "warn", str(problems[0].what))]
    version = installed("skypilot")
    names = sorted({it.cloud for it in found if it.enabled})
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    what = f"skypilot{f' {version}' if version else ''}, enabled: {', '.join(names[:NAMED])}{more}"
    return [Finding("sky", "ok", what)]


def reach(place: Place) -> Sequence[Finding]:
    """Whether machines in a cloud can reach the store; nothing if none are to be had here."""
    if place.settings is None or not has_sky(place.settings):
        return []
    root = place.settings.storage.root
    if root.startswith(("memory:", "file:")) or "://" not in root:
        what = f"machines in a cloud do not see {root}; those of compute.shared=true targets do"
        return [Finding("reach", "ok", what, f"set {AFAR}   # for runs in a cloud")]
    if root.startswith("s3:"):
        endpoint = way_to_s3(place.settings.storage.access).endpoint
        if is_loopback(endpoint):
            what = (
                f"{endpoint} is each machine itself, so machines in a cloud do not find the store"
            )
            fix = "set CROWN_STORAGE__ENDPOINT to one that they reach"
            return [Finding("reach", "warn", what, fix)]
    return [Finding("reach", "ok", f"machines in a cloud are told to find the store at {root}")]


def slurm(place: Place) -> Sequence[Finding]:
    """Whether this machine is a client of a Slurm cluster; nothing if it is not."""
    if shutil.which("sbatch") is None or place.settings is None:
        return []
    from crown_exp.compute.executors.slurm.executor import SlurmExecutor

    try:
        problems = SlurmExecutor(place.settings.home / "slurm").problems(
            Target("doctor", executor="slurm")
        )
    except ExecutorError as error:
        return [Finding("slurm", "warn", str(error), "see whether the cluster answers: type sinfo")]
    if problems:
        return [Finding("slurm", "warn", str(problems[0].what))]
    return [Finding("slurm", "ok", "its jobs can be submitted from here: compute=slurm")]
