"""A new run from the state that another one saved, with other settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from crown_exp.checkpoints.listing import usable_steps
from crown_exp.errors import ConfigError, Problem
from crown_exp.folder import RunPaths
from crown_exp.launch.address import address
from crown_exp.launch.recorded import LATEST, look_up, with_values
from crown_exp.launch.session import Session
from crown_exp.launch.submit import Fork, Order

if TYPE_CHECKING:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

NEAR = 3
"""How many steps are named on either side of one that was not saved."""


def forked(session: Session, loader: ConfigLoaderImpl, origin: str, typed: Sequence[str]) -> Order:
    """`fork RUN@STEP key=value…`: the order of a new run, whose config is the recorded one with what was typed.

    Raises ConfigError for what cannot be forked so, and as `look_up`.
    """
    asked = address(origin, steps=True)
    number = None if asked.step is None else step_of(origin, asked.step)
    found = look_up(session, asked.run)
    saved = saved_steps(session, found.record.id)
    if not saved:
        what = "has no checkpoint, so there is nothing to fork from"
        raise ConfigError.of(found.record.id, f"{what}: crown-exp show {found.short}")
    if number is not None and number not in saved:
        raise ConfigError.of(origin, not_saved(number, saved))
    composition, checked = with_values(loader, found, typed)
    config = composition.config
    problems = [
        Problem(key, why)
        for key, why in (
            ("debug", "a debug run begins anew and keeps nothing, so it is no fork"),
            ("resume", "a fork is a new run: it goes on with no other"),
        )
        if config[key]
    ]
    if problems:
        raise ConfigError(problems)
    before = [item for item in found.record.overrides if keys(item) not in set(map(keys, typed))]
    composition = replace(composition, overrides=(*before, *typed))
    fork = Fork(found.record.id, number)
    return Order(composition, checked, swept=typed, fork=fork, env=found.facts.env)


def keys(override: str) -> str:
    """The key of an override."""
    return override.lstrip("+~").partition("=")[0]


def step_of(origin: str, text: str) -> int | None:
    """What stands behind the @; None for `latest`. Raises ConfigError for what is no step."""
    if text == LATEST:
        return None
    if not text.isdecimal() or not text.isascii() or len(text) > 12:
        raise ConfigError.of(origin, f"expected RUN@STEP or RUN@latest, got {text!r} for a step")
    return int(text)


def saved_steps(session: Session, run_id: str) -> list[int]:
    """The steps at which the run has a checkpoint that is not known to be damaged, each once; newest last."""
    return session.portal.call(usable_steps, session.blobs, RunPaths(run_id))


def newest_step(session: Session, run_id: str) -> int | None:
    """The step of the newest checkpoint; None if there is none."""
    saved = saved_steps(session, run_id)
    return saved[-1] if saved else None


def not_saved(step: int, saved: Sequence[int]) -> str:
    """Which checkpoints there are instead of one at a step."""
    below = sorted(one for one in saved if one < step)[-NEAR:]
    above = sorted(one for one in saved if one > step)[:NEAR]
    near = ", ".join(map(str, [*below, *above]))
    more = len(saved) - len(below) - len(above)
    rest = f" and {more} more" if more else ""
    return f"no checkpoint at step {step}; there are {near}{rest}"
