"""What a service has of a run, and what it is sent: each step and name once, whoever died when."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from crown_exp.tracking.held import Held

NAMES = ("loss", "accuracy")
STEPS = st.integers(0, 12)


def at(step: int) -> dict[str, float]:
    """What every attempt computes in a turn."""
    return {"loss": 1 / (1 + step), **({"accuracy": float(step)} if step % 3 == 0 else {})}


@given(st.sets(STEPS), STEPS, st.lists(STEPS, max_size=4))
def test_whatever_was_lost_the_service_has_each_step_once(
    there: set[int], since: int, deaths: list[int]
) -> None:
    """Attempts log all of 1..12 between them; each goes on from some step, after one that got less far."""
    sent = Counter[tuple[int, str]]()
    rows = [(step, at(step)) for step in sorted(there)]
    for step, values in rows:
        sent.update((step, name) for name in values)
    for last in [*deaths, 12]:
        held = Held[float](since)
        for step, values in rows:
            held.add(step, values)
        new = [(step, held.lost(step, at(step))) for step in range(since + 1)]
        new += [(step, held.fresh(step, at(step))) for step in range(since, last + 1)]
        assert held.differs is None
        rows += [(step, values) for step, values in new if values]
        sent.update((step, name) for step, values in new for name in values)
        since = min(since + 2, last)
    assert set(sent.values()) == {1}
    assert {step for step, _ in sent} == set(range(13))


def test_of_a_point_only_the_names_that_are_not_there_are_sent() -> None:
    held = Held[float](4)
    held.add(3, {"loss": 1.0})
    held.add(7, {"loss": 1.0})
    assert held.lost(3, {"loss": 1.0, "rate": 0.1}) == {"rate": 0.1}
    assert held.fresh(7, {"loss": 1.0, "rate": 0.1}) == {"rate": 0.1}


def test_a_name_twice_in_a_turn_is_there_twice() -> None:
    held = Held[float](4)
    for step in (3, 7):
        held.add(step, {"loss": 1.0})
    assert [held.lost(3, {"loss": value}) for value in (1.0, 2.0)] == [{}, {"loss": 2.0}]
    assert [held.fresh(7, {"loss": value}) for value in (1.0, 2.0)] == [{}, {"loss": 2.0}]
    assert held.differs is None


def test_other_values_are_not_sent_and_the_first_such_step_is_told() -> None:
    held = Held[float](4)
    for step in range(1, 9):
        held.add(step, {"loss": math.nan})
    assert held.fresh(5, {"loss": math.nan}) == {}
    assert held.differs is None
    assert held.fresh(7, {"loss": 1.0}) == held.fresh(6, {"loss": 1.0}) == {}
    assert held.differs == 6
    assert held.fresh(9, {"loss": 1.0}) == {"loss": 1.0}


def test_what_follows_the_loop_is_another_point_than_that_of_its_last_turn() -> None:
    held = Held[float](4)
    held.add(4, {"loss": 0.5})
    assert held.lost(4, {"loss": 0.5}) == {}
    assert held.fresh(4, {"loss": 0.25}) == {"loss": 0.25}
    assert held.differs is None
    again = Held[float](4)
    for value in (0.5, 0.25):
        again.add(4, {"loss": value})
    assert again.lost(4, {"loss": 0.5}) == again.lost(4, {"loss": 0.25}) == {}
    assert again.fresh(4, {"loss": 0.25}) == {}


def test_code_before_the_loop_logs_in_every_attempt_and_is_sent_once() -> None:
    held = Held[float](4)
    assert held.lost(0, {"size": 10.0}) == {"size": 10.0}
    assert held.fresh(0, {"size": 10.0}) == {}
