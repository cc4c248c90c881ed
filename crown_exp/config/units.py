"""How people write intervals: `10 steps`, `5 minutes`, `90 s`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crown_exp.errors import ConfigError

SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}


@dataclass(frozen=True)
class Interval:
    """Either a number of steps or a number of seconds; the other is None."""

    steps: int | None = None
    seconds: float | None = None


def parse_interval(text: str, where: str) -> Interval:
    """`500 steps` or `5 minutes`. Raises ConfigError naming `where` for anything else or nothing above zero."""
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([a-z]+)\s*", text.lower())
    number, unit = (float(match[1]), match[2]) if match else (0.0, "")
    if unit in ("step", "steps") and number >= 1 and number.is_integer():
        return Interval(steps=int(number))
    if unit in SECONDS and number > 0:
        return Interval(seconds=number * SECONDS[unit])
    raise ConfigError.of(where, f"expected something like '500 steps' or '5 minutes', got {text!r}")
