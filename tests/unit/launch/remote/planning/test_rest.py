"""What runs that go on are thought to take, yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.folder import AttemptRecord, EndRecord, Facts
from crown_exp.launch.remote.base import Guess
from crown_exp.launch.remote.planning.past import Lived
from crown_exp.launch.remote.planning.rest import part_by_hours, part_by_steps, rest, total_of
from crown_exp.launch.session import Session
from crown_exp.storage.runs import read_facts
from tests.unit.launch.remote.planning.test_estimate import Store
from tests.unit.launch.remote.planning.test_estimate import session as session
from tests.unit.registry.folders import RUN

T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)
WHOLE = Guess(10.0, 3)
CONFIG = {"limits": {"steps": None}, "task": {"_target_": "m.train", "steps": 100}}
ENDLESS = {"limits": {"steps": None}, "task": {"_target_": "m.train"}}


def facts(*saved: int | None, alive: bool = False) -> Facts:
    """A run whose attempts ended so far; alive: and one without an end."""
    attempts = [
        AttemptRecord(RUN.id, n, T0, "h", 1, None, None, None, {}, {})
        for n in range(1, len(saved) + 1 + alive)
    ]
    ends = [
        EndRecord(RUN.id, n, T0, 77, (at or 0) + 3, "", None, None, saved=at)
        for n, at in enumerate(saved, 1)
    ]
    return Facts(RUN, (), attempts, ends)


@pytest.mark.parametrize(
    ("known", "total", "part"),
    [
        (facts(25), 100, 0.25),
        (facts(25, 60), 100, 0.6),
        (facts(None), 100, 0.0),  # nothing was saved: it begins anew
        (facts(200), 100, 1.0),
        (facts(25), None, None),
        (facts(25, alive=True), 100, None),  # killed: nobody knows how far it came
        (facts(), 100, None),
    ],
)
def test_the_part_of_the_steps_that_is_saved(
    known: Facts, total: int | None, part: float | None
) -> None:
    assert part_by_steps(known, total) == part


@pytest.mark.parametrize(
    ("config", "total"),
    [
        (CONFIG, 100),
        ({"limits": {"steps": 40}, "task": {"steps": 100}}, 40),
        (ENDLESS, None),
        ({"limits": {"steps": 0}, "task": {"steps": "many"}}, None),
        ({}, None),
        ({"limits": None, "task": None}, None),
    ],
)
def test_the_step_at_which_a_run_ends(config: Any, total: int | None) -> None:
    assert total_of(config) == total


def test_what_has_not_begun_is_whole(session: Session) -> None:
    assert rest(session, WHOLE, Facts(RUN), CONFIG) == WHOLE


def test_by_steps_where_those_are_known_else_by_hours(session: Session) -> None:
    assert rest(session, WHOLE, facts(25), CONFIG) == Guess(7.5, 3, 0.25)
    run = Store(session).ran(1.0, 3.0, result=False)
    known = session.portal.call(read_facts, session.blobs, run)
    assert rest(session, WHOLE, known, ENDLESS) == Guess(6.0, 3, 0.4)
    assert rest(session, Guess(2.0, 1), known, ENDLESS) == Guess(0.0, 1, 1.0)


@given(st.lists(st.floats(0.0, 1e5), max_size=4), st.floats(0.0, 1e5))
def test_a_part_is_a_part(hours: list[float], whole: float) -> None:
    lived = [Lived(T0, T0 + timedelta(hours=each / 1e2), "h", None, None) for each in hours]
    assert 0.0 <= part_by_hours(lived, whole / 1e2) <= 1.0
