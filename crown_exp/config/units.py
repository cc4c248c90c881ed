"""How people write intervals: `10 steps`, `5 minutes`, `90 s`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crown_exp.errors import ConfigError

SECONDS = {
    "second": 1, "minute": 60, "hour": 3600, "day": 86400,
    "sec": 1, "min": 60, "s": 1, "m": 60, "h": 3600, "d": 86400,
}  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """Either a number of steps or a number of seconds; the other is None."""

    steps: int | None = None
    seconds: float | None = None


def parse_interval(text: str, where: str) -> Interval:
    """`500 steps` or `5 minutes`. Raises ConfigError naming `where` for anything else or nothing above zero."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+?)(s?)\s*", text.lower())
    if match:
        number, word, plural = float(match[1]), match[2], match[3]
        unit = word if word in SECONDS or word == "step" else word + plural
        if unit == "step" and number >= 1 and number.is_integer():
            return Interval(steps=int(number))
        if unit in SECONDS and number > 0:
            return Interval(seconds=number * SECONDS[unit])
    raise ConfigError.of(where, f"expected something like '500 steps' or '5 minutes', got {text!r}")
