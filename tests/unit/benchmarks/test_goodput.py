"""The simulation of a run on spot machines: what it says must follow from the policy that runs really have."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.goodput import FIXED, SIZES, TURN, Size, measure
from benchmarks.goodput_simulator import Attempt, Costs, Notice, Past, bound, simulate, wished
from benchmarks.spot_traces import Trace
from crown_exp.checkpoints.cadence import Cadence
from crown_exp.runner.keeping import Keeping
from crown_exp.runner.last_turns import MARGIN_SECONDS, Pace

COSTS = SIZES[0].costs()
FREE = Costs(turn=1.0, stall=0.0, durable=0.0, slower=1.0, start=0.0, restore=0.0, provision=0.0)
DAY = 86_400.0


def trace_of(*lives: tuple[float, float], seconds: float = DAY) -> Trace:
    return Trace("made up", 1.0, seconds, lives)


def often(life: float, gap: float = 60.0, seconds: float = DAY) -> Trace:
    """A machine that is taken again and again."""
    begins = range(0, int(seconds - life - gap), int(life + gap))
    return trace_of(*((float(begin), begin + life) for begin in begins), seconds=seconds)


lives = st.lists(st.tuples(st.floats(1, 2_000), st.floats(1, 9_000)), min_size=1, max_size=12).map(
    lambda steps: trace_of(*stretches(steps), seconds=1e6)
)


def stretches(steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    found, now = [], 0.0
    for absent, present in steps:
        found.append((now + absent, now + absent + present))
        now += absent + present
    return found


costs = st.builds(
    Costs,
    turn=st.floats(0.1, 20),
    stall=st.floats(0, 3),
    durable=st.floats(3, 60),
    slower=st.floats(1, 2),
    start=st.floats(0, 10),
    restore=st.floats(0, 30),
    provision=st.floats(0, 200),
)


def parts(least: int, most: int) -> st.SearchStrategy[float]:
    """Numbers that floats add up without an error."""
    return st.integers(64 * least, 64 * most).map(lambda number: number / 64)


exact_costs = st.builds(
    Costs,
    turn=st.integers(8, 1_000).map(lambda number: number / 64),
    stall=parts(0, 3),
    durable=parts(3, 60),
    slower=parts(1, 2),
    start=parts(0, 10),
    restore=parts(0, 30),
    provision=parts(0, 200),
)
policies = st.sampled_from(["auto", "30 s", *FIXED, "17 steps"]).map(wished)
notices = st.none() | st.builds(Notice, st.floats(2, 200), dated=st.booleans())


@given(trace=lives, costs=costs, wish=policies, notice=notices)
def test_no_run_does_more_than_the_machines_allow(
    trace: Trace, costs: Costs, wish: dict[str, Any], notice: Notice | None
) -> None:
    found = simulate(trace, costs, wish, notice)
    assert 0 <= found.useful <= found.usable + 1e-6
    assert found.usable <= found.present + 1e-6 and found.lost >= 0
    assert found.attempts <= trace.taken
    most = bound(trace, costs)
    assert found.useful <= most.useful + 1e-6 and most.useful <= most.usable + 1e-6
    assert (most.usable, most.attempts) == (found.usable, found.attempts)


@given(costs=exact_costs, wish=policies, until=parts(0, 2_000))
def test_turns_are_skipped_only_where_nothing_happens(
    costs: Costs, wish: dict[str, Any], until: float
) -> None:
    quick, patient = Attempt(costs, wish, Past(5)), Attempt(costs, wish, Past(5))
    quick.train(until)
    while patient.ending_by(until):
        patient.advance(1)
        if patient.keeping.is_due(patient.step):
            patient.save()
    assert [step for _, step in quick.saves.begun] == [step for _, step in patient.saves.begun]
    assert (quick.step, quick.clock.now) == (patient.step, patient.clock.now)


@pytest.mark.parametrize("every", ["auto", *FIXED])
def test_a_machine_that_is_never_taken_loses_only_its_start_and_stalls(every: str) -> None:
    costs = Size("", 1.02, 1.82, 1.09, 1.83).costs()
    found = simulate(trace_of((0.0, DAY)), costs, wished(every))
    assert (found.attempts, found.lost) == (0, 0)
    attempt = Attempt(costs, wished(every))
    attempt.train(found.usable - costs.start)
    saves = len(attempt.saves.begun) - 1
    a_save = costs.stall + (costs.slower - 1) * (costs.durable + costs.turn)
    assert 0 < found.usable - found.useful - costs.start <= saves * a_save + 2 * costs.turn


def test_what_costs_nothing_loses_nothing_but_turns_since_the_last_save() -> None:
    found = simulate(often(601.0), FREE, wished("100 steps"))
    assert found.lost == found.attempts  # step 600 of 601 is saved
    assert found.of_usable == found.of_present == pytest.approx(600 / 601)


def test_a_save_counts_only_once_it_is_durable() -> None:
    slow = Costs(
        turn=1.0, stall=2.0, durable=50.0, slower=1.0, start=5.0, restore=7.0, provision=20.0
    )
    trace = trace_of((0.0, 174.0), (200.0, 374.0))
    found = simulate(trace, slow, wished("100 steps"))
    assert found.useful == 0 and found.lost == 147 + 147  # durable 175 s after the machine came
    trace = trace_of((0.0, 175.0), (200.0, 375.0))
    found = simulate(trace, slow, wished("100 steps"))
    assert found.useful == 100 and found.lost == 48 + 141  # it restores for 7 s, and stalls for 2


def test_longer_intervals_lose_more_where_machines_are_taken_often() -> None:
    trace = often(3_000.0)
    found = [simulate(trace, COSTS, wished(every)).of_usable for every in FIXED]
    assert found == sorted(found, reverse=True) and found[0] > found[1] + 0.05 > found[2] + 0.1


def test_who_hears_in_time_loses_no_turn() -> None:
    trace = often(3_000.0)
    deaf, warned, saved = (
        simulate(trace, COSTS, wished(every), notice)
        for every, notice in (
            ("60 minutes", None), ("60 minutes", Notice(120)), ("10 minutes", Notice(120)),
        )
    )  # fmt: skip
    assert deaf.useful == 0 and deaf.lost > 0
    assert warned.lost == saved.lost == 0
    # without a save in this life it ends at once
    assert 118 < warned.lost_seconds - COSTS.start - COSTS.restore < 121
    reserve = 2 * (COSTS.durable + TURN * COSTS.slower + COSTS.stall) + MARGIN_SECONDS
    stalls = 6 * (COSTS.stall + (COSTS.slower - 1) * COSTS.durable)
    unused = saved.lost_seconds - COSTS.start - COSTS.restore
    assert reserve - COSTS.durable - 2 * TURN < unused < reserve + stalls + 2 * TURN


@pytest.mark.parametrize("seconds", [30.0, 60.0, 120.0])
def test_a_longer_notice_is_not_lost_time(seconds: float) -> None:
    trace = often(3_000.0)
    found = simulate(trace, COSTS, wished("auto"), Notice(seconds))
    assert found.lost == 0 and found.of_usable > 0.99


def test_the_real_rule_decides_when_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    trace, wish = often(3_000.0), wished("auto")
    before = simulate(trace, COSTS, wish, Notice(120))
    monkeypatch.setattr(Pace, "reserve", lambda self: 100.0)
    after = simulate(trace, COSTS, wish, Notice(120))
    assert after.lost_seconds > before.lost_seconds + 80


def test_how_long_machines_live_is_learned_from_life_to_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[float] = []
    learn = Cadence.learn

    def noted(self: Cadence, stall: float, seconds: float) -> None:
        seen.append(self.mtbf)
        learn(self, stall, seconds)

    monkeypatch.setattr(Cadence, "learn", noted)
    simulate(often(3_000.0), COSTS, wished("auto"))
    assert seen[0] == 7_200 and 2_700 < seen[-1] < 3_300
    seen.clear()
    simulate(often(3_000.0), COSTS, wished("auto"), Notice(120))
    assert seen[-1] > 0.9 * DAY * 0.9  # nothing was lost, so nobody died


def test_the_bound_is_what_a_life_leaves_after_a_start_a_restore_and_one_save() -> None:
    costs = Costs(
        turn=1.0, stall=2.0, durable=50.0, slower=1.0, start=5.0, restore=7.0, provision=20.0
    )
    lives = ((0.0, 175.0), (200.0, 400.0), (500.0, 560.0), (600.0, 1_000.0))
    found = bound(trace_of(*lives, seconds=1_000.0), costs)
    # the third life is too short to save in, and nobody takes the last machine
    assert found.useful == (175 - 75) + (200 - 82) + 0 + (400 - 32)
    short = trace_of((0.0, 76.0), (200.0, 376.0), seconds=500.0)  # better not saved at first
    assert bound(short, costs).useful == 176 - 75


def test_a_notice_that_is_too_short_for_a_save_does_not_help() -> None:
    slow = Costs(
        turn=1.0, stall=2.0, durable=50.0, slower=1.0, start=5.0, restore=7.0, provision=20.0
    )
    trace = often(3_000.0)
    assert simulate(trace, slow, wished("60 minutes"), Notice(30)).useful == 0
    assert simulate(trace, slow, wished("60 minutes"), Notice(60)).lost == 0


def test_the_policy_is_that_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = Attempt(COSTS, wished("auto"))
    assert type(attempt.keeping) is Keeping and type(attempt.keeping.cadence) is Cadence
    assert wished("auto")["mtbf"] == "2 hours" and wished("auto", "1 hour")["mtbf"] == "1 hour"
    before = simulate(often(3_000.0), COSTS, wished("auto"))
    monkeypatch.setattr(Cadence, "due", lambda self, turns, seconds: turns >= 10_000)
    after = simulate(often(3_000.0), COSTS, wished("auto"))
    assert before.useful > 0 == after.useful


def test_the_first_save_teaches_the_policy_what_saves_cost() -> None:
    attempt = Attempt(COSTS, wished("auto"))
    attempt.train(3_600.0)
    ends = [lands for lands, _ in attempt.saves.begun[1:]]
    learned = attempt.keeping.cadence.interval.seconds
    taught = Cadence("auto")
    taught.learn(COSTS.stall, COSTS.durable)
    assert learned == taught.interval.seconds
    assert ends[0] == pytest.approx(10 + COSTS.durable, abs=TURN)
    assert ends[2] - ends[1] == pytest.approx(learned, abs=2 * TURN)


def test_a_larger_state_costs_more() -> None:
    several = [size.costs() for size in SIZES]
    for what in ("stall", "durable", "restore"):
        values = [getattr(one, what) for one in several]
        assert values == sorted(values) and values[0] > 0


def test_it_is_measured_as_the_others_are(tmp_path: Any) -> None:
    assert list(inspect.signature(measure).parameters) == ["rounds", "home"]
    figures = measure(1, tmp_path / "home")
    ratios = [item for item in figures if item.target == 0.97]
    assert len(ratios) == 3 * 3 * 3 and all(0 < item.median <= 1 for item in ratios)
    assert len({item.what for item in figures}) == len(figures)
