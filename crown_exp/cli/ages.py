"""Times, sizes and numbers as people read them."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from crown_exp.config.units import size as size

LONG_AGO_DAYS = 100
UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def age(moment: datetime, now: datetime) -> str:
    """`3 min ago`; the day if it is long ago; `just now` for the future, too: a clock was set back."""
    seconds = (now - moment).total_seconds()
    if seconds < 1:
        return "just now"
    if seconds >= LONG_AGO_DAYS * 86400:
        return f"{moment.astimezone():%Y-%m-%d}"
    return f"{span(seconds)} ago"


def short_age(moment: datetime, now: datetime) -> str:
    """The age as a column of a table holds it: `3 min`, `now`, `2026-08-01`."""
    return age(moment, now).removesuffix(" ago").removeprefix("just ")


def span(seconds: float) -> str:
    """`45 s`, `3 min`, `5 h`, `12 d`: the largest unit of which there is one, rounded down; never negative."""
    for unit, name in UNITS:
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return "0 s"


def took(seconds: float) -> str:
    """A duration in two units: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`; never negative."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    for (unit, name), (below, below_name) in pairwise(UNITS):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name} {int(seconds % unit // below):02} {below_name}"
    return f"{int(seconds)} s"


def number(value: object, digits: int = 6) -> str:
    """A number in so many digits, a whole one in full; anything else as text."""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def plural(count: int, word: str) -> str:
    """`1 run`, `1,204 runs`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
