"""What a user agrees to, and what no cap can be kept of."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.errors import ConfigError
from crown_exp.launch.remote.approval import Capped, Declined, allow, most_of
from crown_exp.launch.remote.base import Fate, Plan, Planned
from tests.unit.launch.remote.plans import CLUSTER, H100, HERE, candidate, planned


def plan(*runs: Planned, spent: dict[str, float] | None = None, **caps: float) -> Plan:
    return Plan(runs, caps, spent or {})


def asked(wanted: Plan, answer: bool) -> list[str]:
    """The questions of a launch that nobody agreed to beforehand."""
    questions: list[str] = []

    def ask(question: str) -> bool:
        questions.append(question)
        return answer

    try:
        allow(wanted, yes=False, ask=ask)
    except Declined as error:
        assert (str(error), error.exit_code) == ("nothing was launched", 130)
        assert questions and not answer
    else:
        assert answer or not questions
    return questions


@pytest.mark.parametrize(
    "wanted",
    [
        plan(),
        plan(planned(target=HERE, hours=1000.0)),
        plan(planned(target=CLUSTER)),
        plan(planned(fate=Fate.DONE), planned(fate=Fate.RUNNING)),
        plan(planned(hours=8.0)),  # 8 x 1.15
        plan(planned(hours=5.0), planned(2, hours=3.0), planned(3, HERE)),
        plan(planned(), run_usd=9.0),  # it cannot become more
        plan(planned(), planned(2), spent={"sweep_usd": 41.0}, sweep_usd=50.0),
    ],
)
def test_what_is_free_or_cheap_is_not_asked_for(wanted: Plan) -> None:
    allow(wanted, yes=False, ask=None)
    assert asked(wanted, answer=False) == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            plan(planned(hours=10.0)),
            "$11.50 are expected ($1.15 for an hour of all runs together)",
        ),
        (
            plan(planned(hours=1.0, confirm_above_usd=0.0), planned(2, H100, hours=0.1)),
            "$2.26 are expected ($12.21 for an hour of all runs together)",
        ),
        (
            plan(planned(), planned(2, hours=0.1)),
            "what it will cost is not known: nothing like it has run "
            "($2.30 for an hour of all runs together)",
        ),
        (
            plan(planned(), planned(2), run_usd=9.0, month_usd=1000.0),
            "up to $18.00 may be spent: nobody knows for how long "
            "($2.30 for an hour of all runs together)",
        ),
    ],
)
def test_what_costs_more_is_asked_for(wanted: Plan, said: str) -> None:
    allow(wanted, yes=True, ask=None)
    assert asked(wanted, answer=True) == asked(wanted, answer=False) == [f"{said}. Launch?"]
    with pytest.raises(ConfigError) as error:
        allow(wanted, yes=False, ask=None)
    above = "" if "not known" in said else ", more than $0" if "2.26" in said else ", more than $10"
    hint = "" if wanted.caps else ", best with budget.run_usd=..."
    assert (
        str(error.value) == f"budget.confirm_above_usd: {said}{above}; type --yes to launch{hint}"
    )
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            plan(planned(), run_usd=1.0),
            "budget.run_usd=1 is below the price of one hour: the cheapest machine of compute=a100_spot is "
            "$1.15/h; type budget.run_usd=2 or more, or choose a cheaper compute; nothing was launched",
        ),
        (
            plan(planned(), planned(2, H100), run_usd=5.0, sweep_usd=50.0),
            "budget.run_usd=5 is below the price of one hour: the cheapest machine of compute=h100 is "
            "$11.06/h; type budget.run_usd=12 or more, or choose a cheaper compute; nothing was launched",
        ),
        (
            plan(planned(), spent={"month_usd": 100.2}, month_usd=100.0),
            "budget.month_usd=100 is reached: $100.20 were spent; type budget.month_usd=200.4 to go on; "
            "nothing was launched",
        ),
        (
            plan(planned(hours=0.1), spent={"run_usd": 5.0}, run_usd=5.0),
            "budget.run_usd=5 is reached: $5.00 were spent; type budget.run_usd=10 to go on; "
            "nothing was launched",
        ),
    ],
)
def test_a_cap_that_leaves_nothing_is_refused(wanted: Plan, said: str) -> None:
    for yes in (False, True):
        with pytest.raises(Capped) as error:
            allow(wanted, yes=yes, ask=lambda question: True)
        assert (str(error.value), error.value.exit_code) == (said, 77)


def test_a_cap_below_an_hour_is_enough_for_what_is_known_to_be_short() -> None:
    allow(plan(planned(hours=0.5), run_usd=1.0), yes=False, ask=None)
    with pytest.raises(Capped):
        allow(plan(planned(hours=0.9), run_usd=1.0), yes=False, ask=None)


def test_the_cheapest_machine_counts_that_can_be_had() -> None:
    dear, cheap = candidate("here", 5.0), candidate("there", 1.0)
    allow(plan(planned(candidates=(dear, cheap)), run_usd=2.0), yes=True, ask=None)
    out_of_reach = candidate("there", 1.0, enabled=False)
    with pytest.raises(Capped, match=r"is \$5\.00/h"):
        allow(plan(planned(candidates=(dear, out_of_reach)), run_usd=2.0), yes=True, ask=None)


def test_what_costs_nothing_needs_no_cap() -> None:
    allow(plan(planned(target=CLUSTER), run_usd=0.01, month_usd=0.01), yes=False, ask=None)


@given(
    st.lists(st.none() | st.floats(0.01, 100.0), min_size=1, max_size=5),
    st.dictionaries(st.sampled_from(["run_usd", "sweep_usd", "month_usd"]), st.floats(0.1, 1000.0)),
    st.floats(0.0, 500.0),
    st.booleans(),
)
def test_nothing_dear_is_launched_unasked(
    hours: list[float | None], caps: dict[str, Any], above: float, answer: bool
) -> None:
    runs = [planned(n, hours=each, confirm_above_usd=above) for n, each in enumerate(hours)]
    wanted = plan(*runs, **caps)
    questions: list[str] = []

    def ask(question: str) -> bool:
        questions.append(question)
        return answer

    try:
        allow(wanted, yes=False, ask=ask)
        launched = True
    except (Capped, Declined):
        launched = False
    most = most_of(wanted)
    assert most <= (math.inf if wanted.usd is None else wanted.usd)
    if launched:
        assert most <= above or (questions and answer)
    if questions:
        assert most > above
