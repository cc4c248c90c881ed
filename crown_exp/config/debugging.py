"""What `debug=true` makes of a config: the one that really runs, and the line that says what is other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crown_exp.config import schema

TURNS = 5
"""The most turns of each loop of a debug run."""


@dataclass(frozen=True)
class Debugged:
    """config: what a debug run runs. line: what is other than it was composed, for people."""

    config: dict[str, Any]
    line: str


def debugged(config: Mapping[str, Any], typed: Iterable[str]) -> Debugged:
    """A composed config as a debug run carries it out.

    No workers, nothing compiled, no tracker but the terminal, `TURNS` turns of each loop at the most. A key
    that was typed by itself (`limits.steps=50`) stays as it was typed; one that a preset or a group's option
    sets does not. What decides the numbers of a turn (seed, precision, …) is never touched.
    """
    typed = list(typed)
    device, limits, tracker = dict(config["device"]), dict(config["limits"]), config["tracker"]
    said: list[str] = []
    limit = limits["steps"]
    if (limit is None or limit > TURNS) and not is_typed("limits.steps", typed):
        limits["steps"] = TURNS
        said.append(f"{TURNS} turns of each loop" + (f" (was {limit})" if limit else ""))
    if device["workers"] and not is_typed("device.workers", typed):
        said.append(f"no workers (was {device['workers']})")
        device["workers"] = 0
    if device["compile"] and not is_typed("device.compile", typed):
        said.append(f"no compile (was {str(device['compile']).lower()})")
        device["compile"] = False
    if tracker.get("_target_") and not is_typed("tracker._target_", typed):
        said.append(f"no {str(tracker['_target_']).rpartition('.')[2]}")
        tracker = schema.own_tracker(tracker)
    changed = {"device": device, "limits": limits, "tracker": dict(tracker)}
    return Debugged({**config, **changed}, f"debug: {', '.join([*said, 'nothing is kept'])}")


def is_typed(path: str, typed: Iterable[str]) -> bool:
    """Whether an override names this key: `limits.steps=50`, or `limits={steps: 50}`."""
    owner, _, name = path.rpartition(".")
    inside = re.compile(rf"\{{(.*[\s,{{])?['\"]?{name}['\"]?\s*:")
    for text in typed:
        key, _, value = text.lstrip("+~").partition("=")
        if key == path or (key == owner and inside.match(value.strip())):
            return True
    return False
