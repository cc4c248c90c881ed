"""Checks of what carries out runs elsewhere: SkyPilot and Slurm."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from contextlib import closing

from crown_exp.compute.base import Executor, ExecutorError, Target
from crown_exp.launch.doctor.base import Finding, Place
from crown_exp.launch.doctor.services import installed, optional

NAMED = 8
"""How many clouds are named."""


def sky(place: Place) -> Sequence[Finding]:
    """Whether there is a SkyPilot, and which clouds it may use. Nothing is asked of the network."""
    settings = place.settings
    if settings is None:
        return []
    if settings.sky.python is None and importlib.util.find_spec("sky") is None:
        return [optional("sky", "pip install 'crown-exp[sky]'", "for machines in a cloud")]
    from crown_exp.compute.executors.skypilot.executor import make_executor

    with closing(make_executor(settings.sky.python, settings.sky.home)) as executor:
        return clouds(executor)


def clouds(executor: Executor) -> Sequence[Finding]:
    """The clouds in which machines are to be had."""
    target = Target(name="doctor", executor="skypilot")
    try:
        problems = executor.problems(target)
        if problems:
            return [Finding("sky", "warn", str(problems[0].what))]
        found = executor.candidates(target)
    except ExecutorError as error:
        return [Finding("sky", "fail", str(error))]
    version = installed("skypilot")
    names = sorted({it.cloud for it in found if it.enabled})
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    what = f"skypilot{f' {version}' if version else ''}, enabled: {', '.join(names[:NAMED])}{more}"
    return [Finding("sky", "ok", what)]


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
