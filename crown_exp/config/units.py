"""How people write intervals (`10 steps`, `5 minutes`, `90 s`), what is best (`max accuracy`), and sizes."""

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

PREFIXES = ("kB", "MB", "GB", "TB", "PB")


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


def parse_cadence(text: str, where: str) -> Interval | None:
    """As `parse_interval`; None for `auto`."""
    if text.strip().lower() == "auto":
        return None
    try:
        return parse_interval(text, where)
    except ConfigError:
        what = f"expected '10 steps', '5 minutes' or auto, got {text!r}"
        raise ConfigError.of(where, what) from None


def parse_steps(text: str, where: str) -> int:
    """`500 steps`. Raises ConfigError for anything else, times too."""
    steps = _interval(text).steps
    if steps is None:
        raise ConfigError.of(where, f"expected something like '1000 steps', got {text!r}")
    return steps


def parse_duration(text: str, where: str) -> float:
    """`5 minutes` in seconds. Raises ConfigError for anything else, steps too."""
    seconds = _interval(text).seconds
    if seconds is None:
        what = f"expected a time such as '5 minutes' or '4 hours', got {text!r}"
        raise ConfigError.of(where, what)
    return seconds


def _interval(text: str) -> Interval:
    """An empty one for what is none."""
    try:
        return parse_interval(text, "")
    except ConfigError:
        return Interval()


def parse_best(text: str, where: str) -> tuple[str, bool]:
    """`max accuracy` as the metric and whether its greatest value is the best. Raises ConfigError."""
    match = re.fullmatch(r"\s*(max|min)\s+(\S+)\s*", text)
    if match is None:
        what = f"expected max or min and a metric, such as 'max accuracy', got {text!r}"
        raise ConfigError.of(where, what)
    return match[2], match[1] == "max"


def size(count: float) -> str:
    """Bytes: `980 B`, `1.2 MB`, `35 GB`, in powers of a thousand."""
    if count < 1000:
        return f"{int(count)} B"
    for prefix in PREFIXES:
        count /= 1000
        if count < 999.5 or prefix == PREFIXES[-1]:
            break
    return f"{count:.1f} {prefix}" if count < 9.95 else f"{count:,.0f} {prefix}"
