"""What a user agrees to, and what no cap can be kept of."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.errors import ConfigError
from crown_exp.launch.remote.base import Fate, Plan, Planned
from crown_exp.launch.remote.planning.approval import Capped, Declined, allow, most_of
from tests.unit.launch.remote.plans import CLUSTER, H100, HERE, candidate, planned


def plan(*runs: Planned, spent: dict[str, float] | None = None, **caps: float) -> Plan:
    """Runs that all have these caps, and of which so much was spent."""
    return Plan(tuple(capped(run, caps, spent or {}) for run in runs), caps, spent or {})


def capped(run: Planned, caps: dict[str, Any], spent: dict[str, float]) -> Planned:
    """A run with other caps than it had."""
    config = run.order.composition.config
    composition = replace(
        run.order.composition, config=config | {"budget": config["budget"] | caps}
    )
    return replace(run, order=replace(run.order, composition=composition), spent=spent)


FREE = candidate("", 0.0, "", cloud="kubernetes")
PAID = (candidate("us-central1", 1.15), candidate("europe-west4", 1.25))


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
    above = (
        ""
        if "not known" in said
        else ", more than $0.00"
        if "2.26" in said
        else ", more than $10.00"
    )
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
            plan(planned(), spent={"run_usd": 3.002}, run_usd=3.0),
            "budget.run_usd=3 is reached: $3.00 were spent; type budget.run_usd=6.01 to go on; "
            "nothing was launched",
        ),
        (
            plan(planned(), spent={"month_usd": 81234.11}, month_usd=1.0),
            "budget.month_usd=1 is reached: $81,234.11 were spent; type budget.month_usd=162468.22 to go on; "
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


# --- a machine that costs nothing, and paid ones if it is not to be had --------------------------------------


def test_a_free_machine_first_does_not_keep_the_user_from_being_asked() -> None:
    wanted = plan(planned(candidates=(FREE, *PAID)))
    assert wanted.is_billed and wanted.usd == 0.0
    assert asked(wanted, answer=False) == [
        "what it will cost is not known: nothing like it has run "
        "($1.15 for an hour of all runs together, less on machines that cost nothing). Launch?"
    ]
    known = plan(planned(candidates=(FREE, *PAID), hours=10.0))
    assert asked(known, answer=True) == [
        "$11.50 are expected "
        "($1.15 for an hour of all runs together, less on machines that cost nothing). Launch?"
    ]
    allow(plan(planned(candidates=(FREE, *PAID), hours=1.0)), yes=False, ask=None)


def test_a_cap_below_an_hour_of_the_cheapest_paid_machine_is_refused_whatever_is_free() -> None:
    for candidates in ((FREE, *PAID), (*PAID, FREE)):
        with pytest.raises(Capped, match=r"is \$1\.15/h"):
            allow(plan(planned(candidates=candidates), run_usd=1.0), yes=True, ask=None)


def test_paid_machines_that_are_not_enabled_cost_nothing() -> None:
    off = tuple(replace(it, enabled=False) for it in PAID)
    wanted = plan(planned(candidates=(FREE, *off)), run_usd=0.01)
    assert not wanted.is_billed
    assert asked(wanted, answer=False) == []


# --- caps that differ --------------------------------------------------------------------------------------


def test_a_small_cap_of_one_run_does_not_bound_another() -> None:
    wanted = Plan((planned(1, run_usd=2.0), planned(2, run_usd=1000.0)), {"run_usd": 2.0})
    assert most_of(wanted) == 1002.0
    assert len(asked(wanted, answer=False)) == 1
    uncapped = Plan((planned(1, run_usd=2.0, month_usd=3.0), planned(2)), {"run_usd": 2.0})
    assert most_of(uncapped) == math.inf


def test_what_one_run_has_spent_does_not_reach_the_cap_of_another() -> None:
    first = replace(planned(1, fate=Fate.RESUMED, run_usd=50.0), spent={"run_usd": 6.0})
    wanted = Plan((first, planned(2, run_usd=5.0)), {"run_usd": 5.0}, {"run_usd": 6.0})
    allow(wanted, yes=True, ask=None)
    assert most_of(wanted) == 49.0


def most_by_turns(runs: list[Planned], hours: list[float | None], rate: float) -> float:
    """The most that runs can spend whose caps end each of them, one after the other in the worst order."""
    budgets = [run.order.composition.config["budget"] for run in runs]
    most = 0.0
    for order in permutations(range(len(runs))):
        spent = 0.0
        for number in order:
            own, caps, known = runs[number].spent, budgets[number], hours[number]
            may = [math.inf if known is None else known * rate]
            if caps["run_usd"] is not None:
                may.append(caps["run_usd"] - own["run_usd"])
            for name in ("sweep_usd", "month_usd"):
                if caps[name] is not None:
                    may.append(caps[name] - own[name] - spent)
            spent += max(0.0, min(may))
        most = max(most, spent)
    return most


BUDGETS = st.fixed_dictionaries(
    {name: st.none() | st.floats(0.1, 1000.0) for name in ("run_usd", "sweep_usd", "month_usd")}
)
RUNS = st.lists(
    st.tuples(st.none() | st.floats(0.01, 100.0), BUDGETS, st.floats(0.0, 50.0)),
    min_size=1, max_size=4,
)  # fmt: skip


@given(
    RUNS, st.floats(0.0, 100.0), st.floats(0.0, 100.0), st.floats(0.0, 500.0), st.booleans(),
    st.sampled_from([PAID, (FREE, *PAID)]),
)  # fmt: skip
def test_nothing_dear_is_launched_unasked(
    told: list[tuple[float | None, dict[str, Any], float]],
    of_sweep: float,
    of_month: float,
    above: float,
    answer: bool,
    candidates: tuple[Any, ...],
) -> None:
    runs = []
    for number, (hours, caps, own) in enumerate(told):
        run = planned(number, hours=hours, confirm_above_usd=above, candidates=candidates)
        spent = {"run_usd": own, "sweep_usd": of_sweep, "month_usd": of_month}
        runs.append(capped(run, caps, spent))
    wanted = Plan(tuple(runs))
    questions: list[str] = []

    def ask(question: str) -> bool:
        questions.append(question)
        return answer

    try:
        allow(wanted, yes=False, ask=ask)
        launched = True
    except (Capped, Declined):
        launched = False
    most = most_by_turns(runs, [hours for hours, _, _ in told], 1.15)
    if launched:
        assert most <= above + 1e-9 or (questions and answer)
    assert most <= most_of(wanted) + 1e-9
    if len({tuple(caps.items()) for _, caps, _ in told}) == 1:  # alike, the bound is reached
        assert most_of(wanted) == pytest.approx(most)
