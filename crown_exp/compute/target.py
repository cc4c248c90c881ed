"""The group `compute` of a config, read: a compute target. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from crown_exp.compute.base import Candidate, Target
from crown_exp.config.nearest import did_you_mean
from crown_exp.config.units import parse_duration
from crown_exp.errors import ConfigError, Problem

DURATIONS = ("time", "start_deadline")
CLOUDS = (
    "aws", "azure", "cudo", "do", "fluidstack", "gcp", "hyperbolic", "ibm", "kubernetes", "lambda", "nebius",
    "oci", "paperspace", "primeintellect", "runpod", "scp", "seeweb", "slurm", "ssh", "vast", "vsphere",
)  # fmt: skip
"""The first words of what SkyPilot 0.14 calls infra."""

MEANINGLESS = {
    "slurm": ("spot", "infra", "avoid", "disk_gb", "max_usd_per_hour", "setup"),
    "skypilot": ("partition", "time"),
}
"""Keys that an executor has no use for: one that is set there was meant to do something."""

_ACCELERATORS = re.compile(r"[A-Za-z][\w.-]*(:[1-9]\d{0,3})?", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OURS = "CROWN_"
_OF_MACHINES = ("CROWN_ENVIRONMENTS",)
"""Where a machine keeps the environments of runs, which its owner may know better."""


def target_of(compute: Mapping[str, Any]) -> Target:
    """The target that a config's `compute` describes; keys that it lacks are the schema's defaults.

    Raises ConfigError with all that is wrong with it.
    """
    if problems := list(target_problems(compute)):
        raise ConfigError(problems)
    return Target(
        **{
            field.name: _read(field.name, compute[field.name])
            for field in fields(Target)
            if field.name in compute
        }
    )


def _read(name: str, value: Any) -> Any:
    if name == "start_deadline" and value is None:
        return math.inf
    if name in DURATIONS:
        return None if value is None else parse_duration(value, f"compute.{name}")
    if name == "accelerators":
        return tuple(each if ":" in each else f"{each}:1" for each in value)
    return tuple(value) if isinstance(value, list) else value


def target_problems(compute: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with a target whose types are right: spellings that no type can tell."""
    for name in DURATIONS:
        try:
            _read(name, compute.get(name, "1 hour"))
        except ConfigError as error:
            yield from error.problems
    for text in compute.get("accelerators", ()):
        if not _ACCELERATORS.fullmatch(text):
            what = f"expected a name and a count such as A100:1, got {text!r}"
            yield Problem("compute.accelerators", what)
    for name in ("infra", "avoid"):
        yield from _place_problems(f"compute.{name}", compute.get(name, ()))
    for name in ("env", "secrets"):
        yield from variable_problems(f"compute.{name}", compute.get(name, ()))
    executor = str(compute.get("executor", ""))
    for name in MEANINGLESS.get(executor, ()):
        if compute.get(name):
            where = f"compute.{name}"
            how = f"leave it out, or type {where}={_nothing(compute[name])}"
            yield Problem(where, f"means nothing to {executor}; {how}")
    yield from _price_problems(compute)
    both = sorted({*compute.get("env", ())} & {*compute.get("secrets", ())})
    if both:
        what = f"{', '.join(both)}: travels as a secret and is in compute.env too; keep one of them"
        yield Problem("compute.secrets", what)


def priced(target: Target, found: Iterable[Candidate]) -> list[Candidate]:
    """Machines of the target, in the same order: those without a price cost what the target says."""
    return [
        it if it.usd_per_hour else replace(it, usd_per_hour=target.usd_per_hour or it.usd_per_hour)
        for it in found
    ]


def _nothing(value: Any) -> str:
    """What one types for none of it: a yaml, or the record of a run, may have it where nobody typed it."""
    return "[]" if isinstance(value, list | tuple) else "false" if value is True else "null"


def _price_problems(compute: Mapping[str, Any]) -> Iterator[Problem]:
    price, most = compute.get("usd_per_hour"), compute.get("max_usd_per_hour")
    if price and compute.get("executor", "local") == "local":
        what = (
            "a run on this machine costs nothing; leave it out, or set it in another target's yaml"
        )
        yield Problem("compute.usd_per_hour", what)
    elif price and most and price > most:
        what = (
            f"is above compute.max_usd_per_hour={most:g}, which refuses such machines; raise that"
        )
        yield Problem("compute.usd_per_hour", what)


def _place_problems(where: str, places: Any) -> Iterator[Problem]:
    for place in places:
        cloud, *rest = place.split("/")
        if cloud.lower() not in CLOUDS:
            near = did_you_mean(cloud.lower(), CLOUDS)
            yield Problem(where, f"no cloud {cloud!r}; {near}")
        elif len(rest) > 2 or not all(rest):
            yield Problem(
                where, f"expected cloud, cloud/region or cloud/region/zone, got {place!r}"
            )


def variable_problems(where: str, names: Iterable[str]) -> Iterator[Problem]:
    """What is wrong with the names of variables that a job is to have."""
    for name in names:
        if not _VARIABLE.fullmatch(name):
            yield Problem(where, f"expected the name of an environment variable, got {name!r}")
        elif name.startswith(_OURS) and name not in _OF_MACHINES:
            yield Problem(where, f"{name} is set by crown_exp itself; leave it out")
