"""How long a run trains on that has a cloud's notice: it is saved in time, and leaves no sooner."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from crown_exp.runner.cloud_notices import Notice
from crown_exp.runner.last_turns import MARGIN_SECONDS, RECENT_SECONDS, Pace
from crown_exp.runner.stopping import StopRequest

seconds = st.floats(0.001, 200.0)


def moved(pace: Pace, turns: list[float], now: float = 0.0) -> float:
    """Turns that follow each other; when the last one ends."""
    pace.turn_ended(now)
    for turn in turns:
        now += turn
        pace.turn_ended(now)
    return now


@given(turns=st.lists(seconds, min_size=1, max_size=30), saves=st.lists(seconds, max_size=5))
def test_the_longest_recent_turn_and_the_longest_save_count(
    turns: list[float], saves: list[float]
) -> None:
    pace = Pace()
    end = moved(pace, turns)
    for save in saves:
        pace.saved(save)
    ends = [sum(turns[: n + 1]) for n in range(len(turns))]
    recent = [it for it, moment in zip(turns, ends, strict=True) if moment > end - RECENT_SECONDS]
    assert pace.turn is not None and pace.turn <= max(turns) + 1e-6
    assert pace.turn >= max(recent) - 1e-6
    wanted = 2 * (max(saves) + pace.turn) + MARGIN_SECONDS if saves else math.inf
    assert pace.reserve() == wanted


@given(slow=st.floats(50.0, 1000.0), others=st.floats(1.0, 40.0))
def test_one_slow_turn_is_forgotten(slow: float, others: float) -> None:
    pace = Pace()
    moved(pace, [slow, *[others] * math.ceil(2 * RECENT_SECONDS / others + 2)])
    assert pace.turn is not None and abs(pace.turn - others) < 1e-6


@given(
    notice=st.floats(1.0, 600.0),
    turn=st.floats(0.01, 100.0),
    save=st.floats(0.01, 100.0),
    begun=st.floats(0.0, 1.0),
)
def test_the_last_save_is_in_time_whenever_it_is_told_and_whatever_is_in_flight(
    notice: float, turn: float, save: float, begun: float
) -> None:
    """Turns and saves take what they took. At the stop another save has just begun: the worst there is."""
    now = [1_000.0]
    stop = StopRequest(clock=lambda: now[0])
    pace = Pace()
    stop.reserve, stop.in_loop = pace.reserve, True
    moved(pace, [turn, turn], now[0])
    pace.saved(save)
    stop.warn(Notice("AWS", "terminate", notice))
    end = now[0] + notice
    if stop.code is not None:  # at once, as too little is left
        assert notice <= pace.reserve()
        return
    now[0] += begun * turn  # the boundary after it
    boundaries = 0
    while stop.spare > 0:
        boundaries += 1
        now[0] += turn
    assert now[0] + 2 * save <= end - MARGIN_SECONDS
    left = end - now[0]
    assert not boundaries or left >= pace.reserve() - turn - 1e-6  # nor sooner than it must
    stop.obey_notice()
    assert stop.since == now[0] and stop.why.startswith(stop.notice.words if stop.notice else "")


def test_what_is_not_known_is_all_there_is() -> None:
    pace = Pace()
    assert pace.reserve() == math.inf
    assert (pace.reserve_after(0), pace.reserve_after(1)) == (MARGIN_SECONDS, math.inf)
    pace.saved(1.0)
    assert pace.reserve() == math.inf
    pace.turn_ended(0.0)  # the first turn of a loop is not measured
    assert pace.turn is None
    pace.loop_begins()
    pace.turn_ended(900.0)
    assert pace.turn is None
    pace.turn_ended(902.0)
    assert pace.reserve() == 2 * (1.0 + 2.0) + MARGIN_SECONDS
    assert [pace.reserve_after(saves) - MARGIN_SECONDS for saves in range(3)] == [0.0, 1.0, 2.0]


def test_before_a_loop_there_is_no_time_and_after_one_there_is_what_no_save_needs() -> None:
    stop = StopRequest(clock=lambda: 0.0)
    stop.reserve, stop.reserve_after = (lambda: 50.0), (lambda: 5.0)
    stop.until = 100.0
    assert stop.spare == -math.inf
    stop.in_loop = stop.looped = True
    assert stop.spare == 50.0
    stop.in_loop = False
    assert stop.spare == 95.0
