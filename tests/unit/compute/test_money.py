"""What machines cost, and what caps allow."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crown_exp
from crown_exp.compute.money import (
    CAPS,
    Watched,
    allowed,
    by_month,
    compared,
    controller_spending,
    expected,
    in_cents,
    in_dollars,
    key_of,
    month_of,
    paid_since,
    spending,
    sums,
    total,
)
from crown_exp.folder import RunRecord, SpendingRecord
from crown_exp.folder.records import Rate, SweepPlace

T0 = datetime(2026, 11, 30, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
RATE = Rate(cloud="aws", region="r", accelerators="A100:1", spot=True, usd_per_hour=2.0)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
dollars = st.floats(0, 1e4)


def run(id: str = "r1", sweep: str | None = None, experiment: str | None = None) -> RunRecord:
    return RunRecord(
        id=id, name="x", experiment=experiment, user="ada", created=T0, task="a.b", signature="v1:0",
        overrides=[], tags=[], seed=1, compute="a100", lineage=None, code=None, bound=[],
        sweep=SweepPlace(id=sweep, number=1, of=2) if sweep else None,
    )  # fmt: skip


def paid(hours: float, id: str = "r1", since: datetime = T0, attempt: int = 1) -> SpendingRecord:
    until = since + hours * HOUR
    return next(iter(spending(run(id), attempt, "a100", RATE, since, until)))


@given(moments, st.timedeltas(timedelta(0), timedelta(days=400)))
def test_the_months_of_a_span_are_its_parts_without_gaps(start: datetime, long: timedelta) -> None:
    parts = list(by_month(start, start + long))
    assert sum((b - a for a, b in parts), timedelta(0)) == long
    assert all(a < b for a, b in parts)
    assert all(b == c for (_, b), (c, _) in pairwise(parts))
    months = [month_of(a) for a, _ in parts]
    assert months == sorted(set(months))
    assert all(month_of(b - timedelta.resolution) == month_of(a) for a, b in parts)


@given(moments, st.timedeltas(timedelta(0), timedelta(days=400)), st.floats(0, 1e3))
def test_what_is_spent_by_month_is_what_is_spent(
    start: datetime, long: timedelta, rate: float
) -> None:
    records = spending(run(), 1, "a100", {**RATE, "usd_per_hour": rate}, start, start + long)
    assert math.isclose(total(records), long / HOUR * rate, rel_tol=1e-9, abs_tol=1e-9)
    assert sums(records, "month").keys() == {month_of(it.since) for it in records}


def test_a_month_is_one_of_utc_whatever_the_zone() -> None:
    east = timezone(timedelta(hours=9))
    start = datetime(2026, 12, 1, 7, tzinfo=east)  # 22:00 of November in UTC
    records = spending(run(), 1, "a100", RATE, start, start + 3 * HOUR)
    assert sums(records, "month") == {"2026-11": 4.0, "2026-12": 2.0}


def test_a_year_ends_too() -> None:
    start = datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert [month_of(a) for a, _ in by_month(start, start + 2 * HOUR)] == ["2026-12", "2027-01"]


def test_time_that_runs_backwards_costs_nothing() -> None:
    assert spending(run(), 1, "a100", RATE, T0, T0 - HOUR) == []


def test_an_attempt_is_paid_from_its_machine_s_beginning() -> None:
    assert paid_since(T0, T0 - HOUR, []) == T0 - HOUR
    assert paid_since(T0, None, []) == T0
    assert paid_since(T0, T0 + HOUR, []) == T0  # clocks that disagree


def test_a_kept_machine_is_not_paid_twice() -> None:
    machine = T0 - 3 * HOUR
    before = paid(2, since=machine)
    assert paid_since(T0, machine, [before]) == T0 - HOUR  # the pause between is paid, once
    other = paid(2.5, since=T0 - 2 * HOUR)  # began before this attempt's machine did: another one
    assert paid_since(T0, T0 - HOUR, [other]) == T0 - HOUR


@given(st.lists(st.floats(0.1, 5), min_size=1, max_size=6), st.floats(0, 2))
def test_attempts_on_one_machine_cost_what_the_machine_does(
    lengths: list[float], waited: float
) -> None:
    """However they overlap or pause."""
    at, records = T0 + waited * HOUR, list[SpendingRecord]()
    for number, hours in enumerate(lengths):
        until = at + hours * HOUR
        since = paid_since(at, T0, records)
        records += spending(run(), number, "a100", RATE, since, until)
        at = until + (waited - 1) * HOUR * 0.05  # before or after the end of the last one
        at = max(at, T0)
    whole = max(it.until for it in records) - T0
    assert math.isclose(total(records), whole / HOUR * 2.0, rel_tol=1e-9)


def test_sums_go_by_what_is_asked() -> None:
    records = [
        *spending(run("r1", "s1", "digits"), 1, "a100", RATE, T0, T0 + HOUR),
        *spending(run("r2", "s1", "digits"), 1, "a100", RATE, T0, T0 + 2 * HOUR),
        *spending(run("r3"), 1, "a100", RATE, T0, T0 + 3 * HOUR),
    ]
    assert sums(records, "run") == {"r1": 2, "r2": 4, "r3": 6}
    assert sums(records, "sweep") == {"": 6, "s1": 6}
    assert sums(records, "experiment") == {"": 6, "digits": 6}
    assert sums(records, "user") == {"ada": 12}
    assert sums(records, "month") == {"2026-11": 10, "2026-12": 2}


def test_what_is_expected_is_hours_at_the_rate() -> None:
    assert expected(1.5, RATE) == 3.0
    assert expected(None, RATE) is None


def test_an_estimate_stands_beside_what_was_spent() -> None:
    records = [paid(1.5, "r1"), paid(1, "r2")]
    rows = compared(records, {"r1": 2.0}, "run")
    assert (rows["r1"].usd, rows["r1"].estimate, rows["r1"].error) == (3.0, 2.0, 0.5)
    assert (rows["r2"].usd, rows["r2"].estimate, rows["r2"].error) == (2.0, None, None)
    (both,) = compared(records, {"r1": 2.0}, "user").values()
    assert (both.usd, both.estimate, both.error) == (5.0, 2.0, 0.5)


def test_a_run_shares_its_estimate_among_its_months() -> None:
    rows = compared(spending(run(), 1, "a100", RATE, T0, T0 + 4 * HOUR), {"r1": 4.0}, "month")
    assert [(it.usd, it.estimate, it.error) for it in rows.values()] == [(4, 2, 1), (4, 2, 1)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.01, 100)), min_size=1))
def test_what_stands_beside_estimates_is_all_that_was_spent(spent: list[tuple[str, float]]) -> None:
    records = [paid(hours, name, attempt=n) for n, (name, hours) in enumerate(spent)]
    rows = compared(records, {"a": 1.0}, "month")
    assert math.isclose(sum(it.usd for it in rows.values()), total(records), rel_tol=1e-9)
    guessed = [it.estimate for it in rows.values() if it.estimate is not None]
    assert bool(guessed) == any(it.run == "a" for it in records)
    assert not guessed or math.isclose(sum(guessed), 1.0, rel_tol=1e-9)
    assert set(rows) == {key_of(it, "month") for it in records}


def test_without_caps_everything_is_allowed() -> None:
    assert allowed({}, {"run_usd": 1e9}, 5.0).hours == math.inf


def test_the_first_cap_is_told() -> None:
    caps = {"run_usd": 10.0, "sweep_usd": 20.0, "month_usd": None}
    found = allowed(caps, {"run_usd": 4.0, "sweep_usd": 18.0, "month_usd": 1e6}, 2.0)
    assert (found.hours, found.cap) == (1.0, "sweep_usd")
    found = allowed(caps, {"run_usd": 10.0, "sweep_usd": 25.0}, 2.0)
    assert (found.hours, found.cap) == (0.0, "run_usd")


@given(
    st.dictionaries(st.sampled_from(CAPS), dollars, min_size=1),
    st.dictionaries(st.sampled_from(CAPS), dollars),
    st.floats(0.01, 100),
)
def test_what_is_allowed_reaches_one_cap_and_passes_none(
    caps: dict[str, float | None], spent: dict[str, float], rate: float
) -> None:
    found = allowed(caps, spent, rate)
    after = {name: spent.get(name, 0.0) + found.hours * rate for name in caps}
    assert after[found.cap] == pytest.approx(
        max(spent.get(found.cap, 0.0), caps[found.cap] or 0.0), abs=1e-6
    )
    if found.hours:
        assert all(after[name] <= (cap or 0.0) + 1e-6 for name, cap in caps.items())


WATCHER = Rate(cloud="aws", region="r", accelerators="", spot=False, usd_per_hour=0.2)


def watched(id: str, since: float, until: float) -> Watched:
    return Watched(run(id), "a100", WATCHER, T0 + since * HOUR, T0 + until * HOUR)


def test_a_controller_is_shared_by_the_jobs_it_watches_over() -> None:
    jobs = [watched("a", 0, 2), watched("b", 1, 3), watched("b", 5, 6), watched("c", 4, 4)]
    assert sums(controller_spending(jobs), "run") == pytest.approx({"a": 0.3, "b": 0.5})
    assert {it.attempt for it in controller_spending(jobs)} == {0}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 900), st.floats(0, 900)), max_size=8)
)
def test_all_shares_are_what_it_costs_while_there_are_jobs(
    jobs: list[tuple[str, float, float]],
) -> None:
    found = controller_spending([watched(id, since, since + long) for id, since, long in jobs])
    there, until = 0.0, 0.0
    for _, since, long in sorted(jobs, key=lambda job: job[1]):
        there += max(0.0, since + long - max(until, since))
        until = max(until, since + long)
    assert total(found) == pytest.approx(0.2 * there, rel=1e-6, abs=1e-6)
    assert all(it.usd >= 0 for it in found)


def test_estimates_know_nothing_of_controllers() -> None:
    shares = controller_spending([watched("r1", 0, 1)])
    (row,) = compared([paid(1)], {"r1": 2.0}, "run", shares).values()
    assert row.usd == pytest.approx(2.2)
    assert row.error == pytest.approx(0.0)


def test_dollars_are_shown_in_one_way() -> None:
    assert [in_dollars(usd) for usd in (0.0, 0.0001, 0.0049, 0.005, 0.994, 1.0, 1234.5)] == [
        "$0.00", "<$0.01", "<$0.01", "$0.01", "$0.99", "$1.00", "$1,234.50",
    ]  # fmt: skip


SHOWN = re.compile(r"\$\{?[A-Za-z_.()\[\]]+:[^}]*[fge]\}")


def test_nothing_shows_dollars_in_a_way_of_its_own() -> None:
    sources = Path(crown_exp.__file__).parent.rglob("*.py")
    odd = [path.name for path in sources if SHOWN.search(path.read_text(encoding="utf-8"))]
    assert odd == ["money.py"]


def test_dollars_to_be_typed_are_rounded_up_to_cents() -> None:
    assert [in_cents(usd) for usd in (0.0001, 0.29, 6.0, 6.004, 12345.678)] == [
        "0.01", "0.29", "6", "6.01", "12345.68",
    ]  # fmt: skip
