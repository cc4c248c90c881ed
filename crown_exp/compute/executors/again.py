"""When a job that has ended is started again, and when no more. Pure."""

from __future__ import annotations

LOST = 80
"""Exit code of a job whose store was not to be had: perhaps never, so that nothing else counts its starts."""

AGAIN = frozenset({75, LOST})
"""Exit codes that ask for another start; 75: stopped and saved. Each 75 was asked for by somebody."""

MOST_LOST = 5
"""After so many ends with 80 in a row a job is over."""

LONG_SECONDS = 3600.0
"""Who lived for so long had a store, whatever it ended with: the row is counted anew."""


def lost_in_a_row(before: int, code: int, seconds: float) -> int:
    """How many ends with 80 the job has in a row, with one more end, after so many seconds of life."""
    return before + 1 if code == LOST and seconds < LONG_SECONDS else 0


def gave_up(times: int) -> str:
    """Why it is not started again."""
    return f"its store was not to be had {times} times in a row; the next launch starts it again"


def pause_seconds(starts: int, first: float) -> float:
    """Before the next of so many starts (>= 1): twice the last pause, at most 30 times the first one."""
    return min(first * 2.0 ** min(starts - 1, 10), first * 30)
