"""Checks of the interpreter, the packages in it, and the device that runs would take."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version

from crown_exp import __version__
from crown_exp.launch.doctor.base import Finding, Place
from crown_exp.launch.doctor.probe import ask

SHOWN = ("torch", "hydra-core", "omegaconf", "sqlalchemy")
INSTALL = "pip install"


def python(place: Place) -> Sequence[Finding]:
    """Which Python, and which of us."""
    found = f"Python {platform.python_version()} ({sys.executable}), crown_exp {__version__}"
    return [Finding("python", "ok", found)]


def packages(place: Place) -> Sequence[Finding]:
    """Whether what we need is installed in a version that we work with."""
    try:
        wrong = list(unmet(requires("crown-exp") or []))
    except PackageNotFoundError:
        what = "crown_exp is not installed, only found beside this directory"
        return [Finding("packages", "warn", what, "pip install -e .   # in its checkout")]
    if wrong:
        what = "; ".join(f"{needed} is needed, {there}" for needed, there in wrong)
        fix = " ".join(f"'{needed}'" for needed, _ in wrong)
        return [Finding("packages", "fail", what, f"{INSTALL} {fix}")]
    found = ", ".join(f"{name} {version(name)}" for name in SHOWN)
    return [Finding("packages", "ok", found)]


def unmet(needed: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is needed and not there, each with what there is instead; extras are nobody's need."""
    from packaging.requirements import Requirement

    for requirement in map(Requirement, needed):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            yield wanted, "none is installed"
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            yield wanted, f"{there} is installed"


def device(place: Place) -> Sequence[Finding]:
    """What `device=auto` would choose, asked of torch in a process of its own."""
    told = ask("device", seconds=24.0)
    if "error" in told:
        return [
            Finding("device", "fail", f"torch does not work: {told['error']}", f"{INSTALL} torch")
        ]
    gpus = f": {', '.join(told['gpus'])}" if told["gpus"] else ""
    found = f"{told['device']}{gpus} ({told['reason']}); torch {told['torch']}"
    if told["device"] == "cpu" and shutil.which("nvidia-smi"):
        fix = "install a torch for your CUDA: https://pytorch.org/get-started/locally"
        return [
            Finding("device", "warn", f"{found}; an NVIDIA driver is here, torch sees none", fix)
        ]
    return [Finding("device", "ok", found)]
