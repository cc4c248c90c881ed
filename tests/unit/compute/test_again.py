"""When a job is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crown_exp.compute.executors.again import (
    LONG_SECONDS,
    LOST,
    MOST_LOST,
    gave_up,
    lost_in_a_row,
    pause_seconds,
)

ENDS = st.lists(st.tuples(st.sampled_from([0, 1, 75, LOST]), st.floats(0, 2 * LONG_SECONDS)))


@given(ENDS)
def test_a_row_is_of_short_ends_with_80(ends: list[tuple[int, float]]) -> None:
    count = 0
    for code, seconds in ends:
        count = lost_in_a_row(count, code, seconds)
    row = 0
    for code, seconds in reversed(ends):
        if code != LOST or seconds >= LONG_SECONDS:
            break
        row += 1
    assert count == row


@given(st.integers(1, 10_000), st.floats(0.01, 60))
def test_pauses_grow_and_end(starts: int, first: float) -> None:
    pause = pause_seconds(starts, first)
    assert first <= pause <= pause_seconds(starts + 1, first) <= 30 * first


def test_it_says_so() -> None:
    assert gave_up(MOST_LOST).startswith("its store was not to be had 5 times in a row")
