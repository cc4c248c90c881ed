"""Whether a run can be carried out elsewhere: all that can be told before anything is started or paid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crown_exp.compute.target import target_of, variable_problems
from crown_exp.config.secrets import guard, redact
from crown_exp.config.settings import known_secrets
from crown_exp.config.units import Interval, parse_duration, parse_interval
from crown_exp.errors import ConfigError, Problem
from crown_exp.launch.remote.planning.data_paths import local_data
from crown_exp.launch.remote.planning.environment import is_loopback, missing_secrets
from crown_exp.storage.aws import way_to_s3

if TYPE_CHECKING:
    from crown_exp.compute.base import Target
    from crown_exp.launch.session import Session
    from crown_exp.launch.submit import Order

AFAR = "CROWN_STORAGE__ROOT=s3://bucket/prefix"


def elsewhere_problems(session: Session, orders: Iterable[Order]) -> list[Problem]:
    """What keeps those of the orders that are to run elsewhere from being launched: nothing is started.

    Each executor is asked once for each target, also if something else is wrong: all is told at once. Raises
    ExecutorError if one does not answer. A value that is told in one is redacted.
    """
    found: list[Problem] = []
    targets: list[Target] = []
    for order in orders:
        try:
            target = target_of(order.composition.config["compute"])
        except ConfigError as error:
            found += error.problems
            continue
        if target.is_here:
            continue
        found += remote_problems(session, order, target)
        if target not in targets:
            targets.append(target)
    for target in targets:
        if target not in session.targets:
            problems = session.executors[target.executor].problems(target)
            session.targets += [] if problems else [target]
            found += problems
    return [replace(it, what=redact(it.what, session.secrets)) for it in found]


def remote_problems(session: Session, order: Order, target: Target) -> list[Problem]:
    """What keeps a run from being carried out on a target, without asking who would carry it out."""
    config = order.composition.config
    if config["debug"]:
        what = f"runs here, where you can look at it: type compute=local, not {target.name}"
        return [Problem("debug=true", what)]
    return [
        *unseen_store(session, target),
        *undurable(config, target),
        *unfit_device(config["device"]["kind"], target),
        *unset_secrets(session, target),
        *unfit_variables(session, order),
        *local_data(session, order, target),
    ]


def unseen_store(session: Session, target: Target) -> Iterator[Problem]:
    """A store that a job cannot reach: it would find neither its config nor a place to save."""
    url = session.blobs.url
    lost = "; a spot machine takes its checkpoints with it" if target.spot else ""
    if url.startswith("memory:"):
        what = f"only this process sees it, no job of compute={target.name} does{lost}; set {AFAR}"
        yield Problem(f"the store {url}", what)
    elif url.startswith("file:") and not target.shared:
        what = (
            f"machines of compute={target.name} do not see this machine's files{lost}; set {AFAR}"
        )
        yield Problem(f"the store {url}", f"{what}, or compute.shared=true if they do see them")
    elif url.startswith("s3:") and not target.shared:
        endpoint = way_to_s3(session.settings.storage.access).endpoint
        if is_loopback(endpoint):
            what = f"{endpoint} is each machine itself, so no job of compute={target.name} finds it"
            how = (
                "set one that they reach (or compute.shared=true if they see this machine's ports)"
            )
            yield Problem("CROWN_STORAGE__ENDPOINT", f"{what}; {how}")


def undurable(config: Mapping[str, Any], target: Target) -> Iterator[Problem]:
    """Saves that come too late for a machine that may be taken back at any time."""
    every = str(config["checkpoint"]["every"])
    if not target.spot or every.strip() == "auto":
        return
    steps, mtbf = config["limits"]["steps"], str(config["checkpoint"]["mtbf"])
    try:
        interval = parse_interval(every, "checkpoint.every")
        lives = parse_duration(mtbf, "checkpoint.mtbf")
    except ConfigError as error:
        yield from error.problems
        return
    if why := too_late(interval, lives, mtbf, steps):
        what = f"{every!r} {why}, and a spot machine is taken back without asking"
        yield Problem("checkpoint.every", f"{what}; type checkpoint.every=auto, or leave spot out")


def too_late(interval: Interval, lives: float, mtbf: str, steps: int | None) -> str:
    """Why an interval between saves protects nothing; "" if it does. lives: seconds, `mtbf` read."""
    if interval.seconds is not None:
        return f"is longer than a machine lives ({mtbf}, checkpoint.mtbf)" * (
            interval.seconds > lives
        )
    turns = interval.steps or 0
    if steps is not None and turns >= steps:
        return f"is no sooner than the end of the run (limits.steps={steps})"
    return "never comes" * (turns >= ENDLESS)


ENDLESS = 10**9
"""Turns: at a millisecond each they take eleven days."""


def unfit_device(kind: str, target: Target) -> Iterator[Problem]:
    """A device that no machine of the target has."""
    where = "device.kind"
    if kind == "mps":
        what = f"only a Mac has mps, and compute={target.name} is none; type device.kind=auto"
        yield Problem(where, what)
    elif kind == "cuda" and not target.accelerators and target.partition is None:
        how = "type compute.accelerators=[A100:1], or device.kind=auto"
        yield Problem(where, f"compute={target.name} asks for no GPU; {how}")


def unfit_variables(session: Session, order: Order) -> Iterator[Problem]:
    """What Hydra is to set for a job and cannot travel: secrets do so by another way, our own are ours."""
    where = "hydra.job.env_set"
    yield from variable_problems(where, order.env)
    secrets = session.secrets | known_secrets(order.env)
    for name, value in order.env.items():
        if guard({name: value}, secrets):
            way = f"export it, or put it into the project's .env, and type compute.secrets=[{name}]"
            yield Problem(
                where, f"{name} looks like a secret, which is no part of a command; {way}"
            )


def unset_secrets(session: Session, target: Target) -> Iterator[Problem]:
    """Secrets that are to travel and are not here."""
    for name in missing_secrets(session, target):
        what = f"{name} is not set here; export it, or put {name}=... into the project's .env"
        yield Problem("compute.secrets", what)
