"""The ledger followed: what others cost is known as if it were read, and they are not read."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.compute.money import as_of, spending, total
from crown_exp.folder import RunRecord, SpendingRecord, encode
from crown_exp.folder.paths import spending_path
from crown_exp.folder.records import Rate
from crown_exp.storage import Portal, open_blobs
from crown_exp.storage.spending import FollowedLedger, write_spending
from tests.asked import Asked
from tests.unit.registry.folders import RUN
from tests.unit.runner.test_spending import Hand, Paid

T0 = datetime(2026, 11, 30, 22, tzinfo=UTC)
RATE = Rate(cloud="aws", region="r", accelerators="A100:1", spot=True, usd_per_hour=2.0)
NAMES = itertools.count()
"""Of stores in memory, each new."""


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


class Others:
    """Attempts that write what they cost, on a store and by clocks that are moved by hand."""

    def __init__(self, portal: Portal, skew: float = 0.0) -> None:
        self.portal, self.clock, self.skew = portal, Hand(), timedelta(seconds=skew)
        self.asked = Asked(open_blobs(f"memory://followed-{next(NAMES)}"), self.clock.now)

    def run(self, number: int) -> RunRecord:
        return replace(RUN, id=f"o{number}", sweep={"id": "s1", "number": 1, "of": 2})

    def records(self, number: int, seconds: float) -> list[SpendingRecord]:
        since, until = at(0) + self.skew, at(seconds) + self.skew
        return spending(self.run(number), 1, "a100", RATE, since, until)

    def write(self, numbers: Sequence[int], seconds: float) -> None:
        self.clock.hours = seconds / 3600
        for number in numbers:
            self.portal.call(write_spending, self.asked.store, self.records(number, seconds))

    def look(self, ledger: FollowedLedger, seconds: float) -> Counter[str]:
        """What a look asks of the store."""
        self.asked.take()
        self.portal.call(ledger.look, self.asked.store, at(seconds), earlier=True)
        return self.asked.take()


def followed(ledger: FollowedLedger) -> float:
    return total(as_of(it.record, it.until) for it in ledger.known.values() if it.record)


def test_two_hundred_that_live_cost_one_listing_a_look(portal: Portal) -> None:
    others, ledger = Others(portal), FollowedLedger()
    everyone = range(200)
    others.write(everyone, 15)
    assert others.look(ledger, 20) == {"folders": 1, "list": 1, "get": 200}
    for beat in range(2, 8):
        others.write(everyone, 15 * beat)
        assert others.look(ledger, 15 * beat + 5) == {"list": 1}
        assert followed(ledger) == pytest.approx(200 * 2.0 * 15 * beat / 3600)
    assert others.look(ledger, 171) == {"list": 1, "get": 200}  # quiet since 110: the last words
    assert others.look(ledger, 201) == {"list": 1}
    assert followed(ledger) == pytest.approx(200 * 2.0 * 105 / 3600)


def test_a_cap_holds_although_nobody_is_read_again(portal: Portal) -> None:
    """Its own attempt and 19 others at $2 an hour each: the sweep's $4 are spent after 6 minutes."""
    others = Others(portal)
    paid = Paid(portal, others.asked.store, others.clock)
    mine = paid.of({"sweep_usd": 4.0})
    seconds = 0
    while mine.due() is None:
        seconds += 15
        assert seconds < 1000
        others.write(range(19), seconds)
        others.asked.take()
        mine.beat()
        assert others.asked.take()["get"] == (20 if seconds == 15 else 0)
    assert 360 <= seconds <= 360 + 30


@given(
    ends=st.lists(st.integers(1, 16), min_size=1, max_size=4),
    looks=st.lists(st.integers(1, 20), min_size=1, max_size=10, unique=True),
    pace=st.sampled_from([(700.0, 0.0), (15.0, 0.0), (15.0, -3000.0), (40.0, 3000.0)]),
)
def test_what_is_followed_is_what_is_written(
    ends: list[int], looks: list[int], pace: tuple[float, float]
) -> None:
    """Whatever their clocks show, also over the end of a month: until they end, and after."""
    every, skew = pace
    with Portal() as portal:
        others, ledger = Others(portal, skew), FollowedLedger()
        for beat in range(1, max(looks) + 1):
            seconds = every * beat
            others.write([number for number, end in enumerate(ends) if beat <= end], seconds)
            if beat in looks:
                others.look(ledger, seconds + 1)
                spent = [min(beat, end) * every / 3600 * 2.0 for end in ends]
                known = {f"o{number}": 0.0 for number in range(len(ends))}
                for it in ledger.known.values():
                    assert it.record is not None
                    known[it.record.run] += as_of(it.record, it.until).usd
                assert list(known.values()) == pytest.approx(spent)


def test_a_damaged_record_that_is_written_anew_counts_at_once(portal: Portal) -> None:
    others, ledger = Others(portal), FollowedLedger()
    path = spending_path("2026-11", "o0", 1)
    portal.call(others.asked.put, path, b"{")
    (line,) = portal.call(ledger.look, others.asked.store, at(1), earlier=False)
    assert line.startswith(path)
    assert portal.call(ledger.look, others.asked.store, at(31), earlier=False) == []
    others.write([0], 45)
    assert others.look(ledger, 61) == {"list": 1, "get": 1}
    assert followed(ledger) == pytest.approx(2.0 * 45 / 3600)


def test_only_the_runs_that_are_wanted_are_read(portal: Portal) -> None:
    others, ledger = Others(portal), FollowedLedger({"o1"})
    others.write(range(12), 15)
    portal.call(others.asked.put, f"{spending_path('2026-11', 'o1', 1)}.old", b"?")
    assert others.look(ledger, 20) == {"folders": 1, "list": 1, "get": 1}
    (it,) = ledger.known.values()
    assert it.record is not None and it.record.run == "o1"


def test_a_record_that_is_deleted_is_no_longer_counted(portal: Portal) -> None:
    others, ledger = Others(portal), FollowedLedger()
    others.write(range(2), 15)
    others.look(ledger, 20)
    portal.call(others.asked.real.delete, spending_path("2026-11", "o0", 1))
    others.look(ledger, 50)
    assert followed(ledger) == pytest.approx(2.0 * 15 / 3600)


@pytest.mark.parametrize("hours", [0.5, 1.0, 3.0, 1000.0])
def test_a_record_goes_on_to_the_end_of_its_month(hours: float) -> None:
    (record,) = spending(RUN, 1, "a100", RATE, T0, T0 + timedelta(hours=1))
    found = as_of(record, T0 + timedelta(hours=hours))
    assert found.usd == 2.0 * min(max(hours, 1.0), 2.0)
    assert encode(found)
