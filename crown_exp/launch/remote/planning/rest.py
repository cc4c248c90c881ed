"""How long runs that go on are thought to take, yet: what is left of the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from crown_exp.compute.money import HOUR
from crown_exp.folder import Facts
from crown_exp.launch.remote.base import Guess
from crown_exp.launch.remote.planning.past import Lived, lived
from crown_exp.launch.session import Session


def rest(session: Session, guess: Guess, facts: Facts, config: Mapping[str, Any]) -> Guess:
    """What is left of a run. guess: of it whole. config: as it goes on. Raises StoreError."""
    if not facts.attempts:
        return guess
    done = part_by_steps(facts, total_of(config))
    if done is None:
        attempts = session.portal.call(lived, session.blobs, facts)
        done = part_by_hours(attempts, guess.hours)
    return replace(guess, hours=guess.hours * (1 - done), done=done)


def part_by_steps(facts: Facts, total: int | None) -> float | None:
    """The part of its steps that is saved, 0 to 1; None if that is not known, as after a kill."""
    newest, end = facts.newest_attempt, facts.last_end
    if not total or newest is None or end is None or end.attempt != newest.attempt:
        return None
    return min(1.0, (end.saved or 0) / total)


def part_by_hours(attempts: Iterable[Lived], hours: float) -> float:
    """The part that was lived of what the whole takes, 0 to 1."""
    seconds = sum(it.seconds for it in attempts)
    return min(1.0, seconds / (hours * HOUR)) if hours > 0 else 1.0


def total_of(config: Mapping[str, Any]) -> int | None:
    """The step at which a run ends: `limits.steps`, or the `steps` of its task, which most tasks have."""
    try:
        asked = [config["limits"]["steps"], config["task"].get("steps")]
    except (LookupError, TypeError, AttributeError):
        return None
    return min((it for it in asked if isinstance(it, int) and it > 0), default=None)
