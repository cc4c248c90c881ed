"""What an attempt costs: written while it lives, and held against the caps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crown_exp.config.settings import Machine, machine
from crown_exp.errors import SettingsError, StoreError
from crown_exp.folder import AttemptRecord, JobRecord, RunRecord, SpendingRecord
from crown_exp.folder.paths import spending_path
from crown_exp.folder.records import Rate, SweepPlace
from crown_exp.outcome import ExitCode
from crown_exp.runner import Run
from crown_exp.runner.spending import POLL_SECONDS, Spending, job_of
from crown_exp.storage import BlobStore, Portal, open_blobs
from crown_exp.storage.runs import write_job
from crown_exp.storage.spending import read_ledger, read_run_spending, write_spending
from tests.asked import Asked
from tests.clocks import Moved
from tests.running import Ended, Lab

T0 = datetime(2026, 11, 30, 22, tzinfo=UTC)
RATE = Rate(cloud="aws", region="us-east-1", accelerators="A100:1", spot=True, usd_per_hour=2.0)


@dataclass
class Hand:
    """A clock that is moved by hand, the wall's too."""

    hours: float = 0.0

    def now(self) -> datetime:
        return T0 + timedelta(hours=self.hours)

    def monotonic(self) -> float:
        return 1e6 + self.hours * 3600


@dataclass
class Paid:
    """A paid attempt of a run in a sweep, and others' spending beside it."""

    portal: Portal
    blobs: BlobStore
    clock: Hand = field(default_factory=Hand)
    said: list[str] = field(default_factory=list)

    def of(
        self,
        budget: Mapping[str, Any],
        earlier: tuple[SpendingRecord, ...] = (),
        sweep: str | None = "s1",
        sweep_since: str = "",
        since: datetime = T0,
    ) -> Spending:
        run = RunRecord(
            id="r1", name="x", experiment=None, user="ada", created=T0, task="a.b", signature="v1:0",
            overrides=[], tags=[], seed=1, compute="a100", lineage=None, code=None, bound=[],
            sweep=SweepPlace(id=sweep, number=1, of=2) if sweep else None,
        )  # fmt: skip
        attempt = AttemptRecord(
            run="r1", attempt=2, started=T0, host="h", pid=1, process_started=None, boot_id=None,
            job="r1", numerics={}, versions={}, place=RATE,
        )  # fmt: skip
        return Spending(
            self.portal, self.blobs, run, attempt, target="a100", budget=budget, earlier=earlier,
            since=since, clock=self.clock, sweep_since=sweep_since, warn=self.said.append,
        )  # fmt: skip

    def other(
        self, usd: float, run: str = "r2", sweep: str | None = "s1", since: datetime = T0
    ) -> SpendingRecord:
        """Written to the ledger."""
        record = SpendingRecord(
            run=run, attempt=1, user="bob", experiment=None, sweep=sweep, target="a100", place=RATE,
            since=since, until=since + timedelta(minutes=1), usd=usd,
        )  # fmt: skip
        self.portal.call(write_spending, self.blobs, [record])
        return record

    def ledger(self) -> list[SpendingRecord]:
        return self.portal.call(read_ledger, self.blobs).records


@pytest.fixture
def paid(portal: Portal, tmp_path: Path) -> Paid:
    return Paid(portal, open_blobs(str(tmp_path / "store")))


def test_a_beat_writes_what_was_spent_so_far_by_month(paid: Paid) -> None:
    spending = paid.of({})
    paid.clock.hours = 1
    spending.beat()
    assert [it.usd for it in paid.ledger()] == [2.0]
    paid.clock.hours = 3
    spending.beat()
    assert [(it.since.month, it.usd, it.sweep) for it in paid.ledger()] == [
        (11, 4.0, "s1"), (12, 2.0, "s1"),
    ]  # fmt: skip
    assert spending.due() is None


def test_a_run_s_cap_counts_earlier_attempts_and_holds_between_beats(paid: Paid) -> None:
    spending = paid.of({"run_usd": 5.0}, (paid.other(3.0, "r1"),))
    spending.beat()
    paid.clock.hours = 0.999
    assert spending.due() is None
    paid.clock.hours = 1
    assert spending.due() == (
        ExitCode.CAPPED,
        "budget.run_usd=5 reached: this run has cost $5.00; to go on: crown-exp resume r1 budget.run_usd=10",
    )


def test_the_cap_that_is_to_be_typed_has_cents(paid: Paid) -> None:
    spending = paid.of({"run_usd": 3.0}, (paid.other(1.0, "r1"),))
    spending.beat()
    paid.clock.hours = 1.001
    _, why = spending.due() or (None, "")
    assert why.endswith("crown-exp resume r1 budget.run_usd=6.01")


def test_a_sweep_s_cap_counts_its_other_runs_of_all_months(paid: Paid) -> None:
    paid.other(1.0, since=T0 - timedelta(days=40))
    paid.other(2.0, "r3")
    paid.other(100.0, "r4", sweep="s2")
    spending = paid.of({"sweep_usd": 4.0})
    spending.beat()
    paid.clock.hours = 0.49
    assert spending.due() is None
    paid.clock.hours = 0.51
    code, why = spending.due() or (None, "")
    assert code == 77
    assert why.startswith("budget.sweep_usd=4 reached: its sweep s1 has cost $4.02; to go on: ")


def test_a_sweep_over_a_month_s_end_is_whole_and_what_was_before_it_is_not_read(
    paid: Paid,
) -> None:
    """Others began in November, one of them by a clock that is a day behind; this one begins in December."""
    for days in range(40, 400, 20):
        paid.other(100.0, f"r{days}", sweep="s2", since=T0 - timedelta(days=days))
    paid.other(1.0, "r2", since=T0 - timedelta(days=25))
    paid.other(1.0, "r3", since=T0 + timedelta(hours=3))
    paid.other(1.0, "r4", since=T0 + timedelta(hours=4) - timedelta(days=1))
    asked = Asked(paid.blobs)
    paid.blobs = asked.store
    paid.clock.hours = 4
    spending = paid.of({"sweep_usd": 4.0}, sweep_since="2026-11", since=paid.clock.now())
    spending.beat()
    assert asked.take() == {"folders": 1, "list": 2, "get": 3}
    assert spending.spent()["sweep_usd"] == pytest.approx(3.0)
    paid.clock.hours = 4.51
    assert (spending.due() or (0,))[0] == 77


def test_a_run_of_no_sweep_is_held_to_a_sweep_s_cap_alone(paid: Paid) -> None:
    paid.other(100.0, sweep=None)
    spending = paid.of({"sweep_usd": 4.0}, sweep=None)
    spending.beat()
    assert spending.due() is None
    paid.clock.hours = 4.1
    code, why = spending.due() or (0, "")
    assert code == 77
    assert why.startswith("budget.sweep_usd=4 reached: this run has cost $")


def test_others_are_seen_after_one_poll(paid: Paid) -> None:
    spending = paid.of({"month_usd": 10.0})
    spending.beat()
    paid.other(10.0, sweep=None)
    paid.clock.hours = 0.5 * POLL_SECONDS / 3600
    spending.beat()
    assert spending.due() is None  # not looked at again yet
    paid.clock.hours = POLL_SECONDS / 3600
    spending.beat()
    code, why = spending.due() or (None, "")
    assert code == 77
    assert why.startswith("budget.month_usd=10 reached: all runs of 2026-11 have cost $10.02; ")


def test_a_new_month_begins_at_nothing(paid: Paid) -> None:
    paid.other(7.0)
    spending = paid.of({"month_usd": 10.0})
    spending.beat()
    paid.clock.hours = 1.4
    assert spending.due() is None
    paid.clock.hours = 2.01
    spending.beat()
    assert spending.due() is None
    paid.clock.hours = 6.9
    spending.beat()
    assert spending.due() is None
    paid.clock.hours = 7.1
    assert spending.due() is not None


def test_a_damaged_record_of_another_is_said_once_and_left_out(paid: Paid) -> None:
    paid.other(9.0)
    path = spending_path("2026-11", "r2", 1)
    paid.portal.call(paid.blobs.put, path, b"{")
    spending = paid.of({"month_usd": 8.0})
    for beat in range(3):
        paid.clock.hours = beat * POLL_SECONDS / 3600
        spending.beat()
    assert spending.due() is None
    (line,) = paid.said
    assert path in line


def test_a_store_that_is_away_does_not_lift_the_cap(
    paid: Paid, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: Any, **kwargs: Any) -> None:
        raise StoreError("away")

    spending = paid.of({"run_usd": 2.0})
    monkeypatch.setattr(paid.blobs, "put", away)
    paid.clock.hours = 0.1
    with pytest.raises(StoreError):
        spending.beat()
    paid.clock.hours = 1.01
    assert (spending.due() or (0,))[0] == 77
    assert spending.close() == ("what it cost: away",)


# --- the job and the machine ------------------------------------------------------------------------------


def job(*rates: Rate, name: str | None = "r1") -> JobRecord:
    return JobRecord(
        run="r1", number=1, executor="skypilot", created=T0, job=name, cancelled=False, target="a100",
        rates=list(rates),
    )  # fmt: skip


FREE: Rate = {**RATE, "cloud": "slurm", "region": "", "usd_per_hour": 0.0}


def test_a_job_is_found_by_its_name() -> None:
    jobs = [job(name=None), job(name="r1"), job(name="r1-2")]
    assert job_of(jobs, "r1-2") is jobs[2]
    assert job_of(jobs, None) is job_of(jobs, "x") is None


def test_the_environment_tells_where_this_is() -> None:
    told = json.dumps({"cloud": "AWS", "region": "us-east-1", "zone": None})
    found = machine({"SKYPILOT_CLUSTER_INFO": told, "CROWN_MACHINE_SINCE": "1700000000.5"})
    assert found == Machine("aws", "us-east-1", datetime.fromtimestamp(1700000000.5, UTC))
    for text in ("", "{", "[]", "null", '{"cloud": null}'):
        assert machine({"SKYPILOT_CLUSTER_INFO": text}) == Machine()


@pytest.mark.parametrize("text", ["yesterday", "nan", "inf", "1e300", "0"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(text)):
        machine({"CROWN_MACHINE_SINCE": text})


# --- whole runs -------------------------------------------------------------------------------------------


def turns(run: Run) -> int:
    for _ in run.steps(3):
        pass
    return run.step


def launched(
    lab: Lab, budget: Mapping[str, Any], rate: Rate = RATE, task: Callable[[Run], int] = turns
) -> str:
    """A run with a job of its own name, whose machine has a rate."""
    run = lab.make(task, {"budget": budget})
    lab.portal.call(write_job, lab.blobs, replace(job(rate, name=run), run=run))
    return run


def attempt(lab: Lab, run: str, **options: Any) -> Ended:
    return lab.attempt(run, job=run, **options)


def spent(lab: Lab, run: str) -> list[SpendingRecord]:
    return lab.portal.call(read_run_spending, lab.blobs, run).records


def test_a_run_that_reaches_its_cap_saves_and_goes_on_when_that_is_raised(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setenv("CROWN_MACHINE_SINCE", str(hour_ago.timestamp()))
    monkeypatch.setenv("SKYPILOT_CLUSTER_INFO", '{"cloud": "aws", "region": "us-east-1"}')
    run = launched(lab, {"run_usd": 1.5})
    ended = attempt(lab, run)
    assert (ended.code, ended.state) == (77, "capped")
    assert f"crown-exp resume {run} budget.run_usd=" in ended.said
    assert [it.place for it in ended.facts.attempts] == [RATE]
    first = sum(it.usd for it in spent(lab, run))
    assert 2.0 <= first < 2.1
    again = attempt(lab, run, changes={"budget.run_usd": 1.75})
    assert again.code == 77
    done = attempt(lab, run, changes={"budget.run_usd": 100.0})
    assert (done.code, done.ending.result) == (0, 3)
    assert sum(it.usd for it in spent(lab, run)) < first + 0.1  # the kept machine's hour, once
    assert {it.attempt for it in spent(lab, run)} == {1, 2, 3}
    assert {it.target for it in spent(lab, run)} == {"a100"}


def test_a_cap_that_is_reached_in_mid_run_saves_there(lab: Lab) -> None:
    clock = Moved()

    def slow(run: Run) -> int:
        for turn in run.steps(100):
            if turn == 3:
                clock.ahead = 3600.0
        return run.step

    run = launched(lab, {"run_usd": 2.0}, task=slow)
    ended = attempt(lab, run, clock=clock)
    assert ended.code == 77
    assert ended.ending.step == 4
    (end,) = ended.facts.ends
    assert end.saved == end.step == ended.ending.step


@pytest.mark.parametrize("rate", [None, FREE])
def test_without_a_price_nothing_is_written(lab: Lab, rate: Rate | None) -> None:
    run = launched(lab, {"run_usd": 0.001}, rate) if rate else lab.make(turns)
    ended = attempt(lab, run)
    assert ended.code == 0
    assert [it.place for it in ended.facts.attempts] == [None]
    assert lab.portal.call(lab.blobs.list, "budget/") == []
