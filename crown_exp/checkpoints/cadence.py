"""When to save next."""

from __future__ import annotations

import math

from crown_exp.config.units import Interval, parse_duration, parse_interval

MTBF = "2 hours"
"""The mean time between two deaths of a process, where none is stated."""

SHARE = 0.2
"""What a save takes from the training, of the time until it is durable that the loop is not held up.

Measured: 0.05 where an upload has a core of its own, up to 0.7 where disk and training share two. Saving as if
it were 0.2 costs at most 1.25 times the least there.
"""

SHORTEST_S, LONGEST_S = 10.0, 30 * 60.0


def learned_mtbf(stated: float, lived: float, deaths: int) -> float:
    """The mean time between two deaths in seconds, after `deaths` of them in `lived` seconds.

    What was stated counts as one death after that time: the prior Gamma(1, stated) of the rate of deaths, if
    lives are exponential. This is one over the mean of the posterior, Gamma(1 + deaths, stated + lived) (Gelman
    et al., Bayesian Data Analysis, 3rd ed., 2013, section 2.6).
    """
    return (stated + max(lived, 0.0)) / (1 + deaths)


class Cadence:
    """`10 steps`, `5 minutes` or `auto`. Raises ConfigError for anything else.

    `auto` saves after 10 s, and then as often as costs least, between 10 s and 30 minutes: the time that saves
    take against the work that a death takes (Young 1974, Daly 2006). mtbf: the mean time between two deaths, as
    `2 hours`; lived, deaths: for how many seconds the run was at work so far, and how often that was ended.
    """

    def __init__(
        self,
        every: str,
        where: str = "checkpoint.every",
        *,
        mtbf: str = MTBF,
        lived: float = 0.0,
        deaths: int = 0,
    ) -> None:
        self.auto = every.strip() == "auto"
        self.mtbf = learned_mtbf(parse_duration(mtbf, "checkpoint.mtbf"), lived, deaths)
        self.interval = Interval(seconds=SHORTEST_S) if self.auto else parse_interval(every, where)

    def due(self, turns_since_save: int, seconds_since_save: float) -> bool:
        """Whether to save now, so many turns and seconds after the last save, or after the start."""
        if self.interval.steps is not None:
            return turns_since_save >= self.interval.steps
        return turns_since_save > 0 and seconds_since_save >= (self.interval.seconds or 0.0)

    def learn(self, stall: float, seconds: float) -> None:
        """A save held the loop up for `stall` seconds and was durable after `seconds`."""
        if self.auto:
            stall = max(stall, 0.0)
            cost = stall + SHARE * max(seconds - stall, 0.0)
            best = math.sqrt(2 * cost * self.mtbf)
            self.interval = Interval(seconds=min(max(best, SHORTEST_S), LONGEST_S))
