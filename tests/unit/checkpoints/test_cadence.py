"""When to save next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.checkpoints import Cadence
from crown_exp.checkpoints.cadence import learned_mtbf
from crown_exp.errors import ConfigError


def test_so_many_steps() -> None:
    cadence = Cadence("10 steps")
    assert not cadence.due(9, 1e9)
    assert cadence.due(10, 0.0) and cadence.due(11, 0.0)
    cadence.learn(100.0, 100.0)
    assert cadence.due(10, 0.0)


def test_so_much_time() -> None:
    cadence = Cadence("5 minutes")
    assert not cadence.due(10**9, 299.9)
    assert cadence.due(1, 300.0)
    assert not cadence.due(0, 300.0)  # there is nothing to save


@pytest.mark.parametrize(
    ("stall", "seconds", "every"),
    [
        (0.0, 0.0, 10),
        (0.0, 0.0001, 10),
        (0.0, 2.0, 75.9),  # a fifth of what is done behind the loop
        (0.5, 0.5, 84.9),
        (2.0, 2.0, 169.7),  # all of what the loop waits for
        (60.0, 60.0, 929.5),
        (1.0, 1001.0, 1701.3),
        (1000.0, 1000.0, 1800),
        (0.0, -1.0, 10),
        (0.5, 0.2, 84.9),
    ],
)
def test_auto_weighs_the_cost_against_the_loss(stall: float, seconds: float, every: float) -> None:
    cadence = Cadence("auto")
    assert not cadence.due(1, 9.9) and cadence.due(1, 10.0)
    cadence.learn(stall, seconds)
    assert not cadence.due(10**9, every - 0.1) and cadence.due(1, every + 0.1)


@pytest.mark.parametrize(
    ("mtbf", "every"), [("2 hours", 107.3), ("30 minutes", 53.7), ("1 d", 371.8), ("1 s", 10)]
)
def test_the_stated_time_between_deaths_is_reckoned_with(mtbf: str, every: float) -> None:
    cadence = Cadence("auto", mtbf=mtbf)
    cadence.learn(0.5, 2.0)
    assert not cadence.due(10**9, every - 0.1) and cadence.due(1, every + 0.1)


@pytest.mark.parametrize(
    ("lived", "deaths", "hours"),
    [
        (0.0, 0, 2.0),  # as was stated
        (6 * 3600.0, 0, 8.0),
        (0.0, 1, 1.0),
        (3 * 3600.0, 4, 1.0),
        (10_000 * 3600.0, 9_999, 1.0),  # in the end only what was seen counts
        (-5.0, 0, 2.0),
    ],
)
def test_how_long_machines_live_is_learned(lived: float, deaths: int, hours: float) -> None:
    cadence = Cadence("auto", lived=lived, deaths=deaths)
    assert cadence.mtbf == pytest.approx(hours * 3600, rel=1e-3)
    stated = Cadence("auto", mtbf=f"{cadence.mtbf:.6f} s")
    for one in (cadence, stated):
        one.learn(0.5, 2.0)
    assert cadence.interval.seconds == pytest.approx(stated.interval.seconds)


@given(lived=st.floats(0, 1e7), deaths=st.integers(0, 1000), more=st.floats(0, 1e6))
def test_more_life_is_longer_and_more_deaths_are_shorter(
    lived: float, deaths: int, more: float
) -> None:
    now = learned_mtbf(7200.0, lived, deaths)
    assert learned_mtbf(7200.0, lived + more, deaths) >= now > 0
    assert learned_mtbf(7200.0, lived, deaths + 1) < now


@pytest.mark.parametrize("text", ["", "10 steps", "never", "-1 hours"])
def test_a_time_between_deaths_is_a_time(text: str) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint\.mtbf: expected a time such as"):
        Cadence("auto", mtbf=text)


@pytest.mark.parametrize("text", ["", "often", "10", "0 steps", "-1 minutes", "auto 10"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"checkpoint\.every: expected something like '500 steps'"
    ):
        Cadence(text)
