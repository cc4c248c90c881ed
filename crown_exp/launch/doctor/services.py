"""Checks of what is there for those who want it: W&B, the AWS command line."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from crown_exp.launch.doctor.base import Finding, Place


def wandb(place: Place) -> Sequence[Finding]:
    """Whether W&B is installed, and has a key; the key is never looked at."""
    from crown_exp.tracking.wandb_mode import has_key

    there = installed("wandb")
    if there is None:
        return [optional("wandb", "pip install wandb", "for tracker=wandb")]
    if has_key(place.known):
        return [Finding("wandb", "ok", f"wandb {there}, and a key is there")]
    what = f"wandb {there}, no key: its runs are kept offline"
    return [Finding("wandb", "ok", what, "wandb login   # if you want them online")]


def aws(place: Place) -> Sequence[Finding]:
    """Whether the AWS command line is installed."""
    there = shutil.which("aws")
    if there is None:
        return [optional("aws", "pip install awscli", "for S3 and machines of AWS")]
    return [Finding("aws", "ok", there)]


def installed(package: str) -> str | None:
    """The version of a package; None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def optional(check: str, install: str, purpose: str) -> Finding:
    """What is not there, and need not be."""
    return Finding(
        check, "ok", f"not installed, only needed {purpose}", f"{install}   # if you want it"
    )
