"""`cost`: what paid machines cost, beside what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.cli.cost import estimate
from crown_exp.compute.money import spending
from crown_exp.folder import AttemptRecord, EndRecord, Facts, JobRecord, RunPaths, RunRecord, encode
from crown_exp.folder.paths import spending_path
from crown_exp.folder.records import Rate, SweepPlace
from crown_exp.storage.runs import write_end, write_job, write_run
from crown_exp.storage.spending import write_spending
from tests.unit.cli.record import World

T0 = datetime(2026, 11, 30, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
RATE = Rate(cloud="aws", region="r", accelerators="A100:1", spot=True, usd_per_hour=2.0)


def paid(
    here: World, id: str, *hours: float, usd: float | None = None, sweep: str | None = None,
    experiment: str | None = None, user: str = "ada", cancelled: float | None = None,
) -> str:  # fmt: skip
    """A run whose attempts were paid for so many hours, one after the other; usd: what was expected."""
    run = RunRecord(
        id=id, name="x", experiment=experiment, user=user, created=T0, task="a.b", signature="v1:0",
        overrides=[], tags=[], seed=1, compute="a100", lineage=None, code=None, bound=[],
        sweep=SweepPlace(id=sweep, number=1, of=2) if sweep else None,
    )  # fmt: skip
    here.call(write_run, here.blobs, run, b"seed: 1\n")
    for number, (expected, over) in enumerate([(usd, False), (cancelled, True)], 1):
        job = JobRecord(
            run=id, number=number, executor="skypilot", created=T0, job=f"{id}-{number}",
            cancelled=over, rates=[RATE], usd=expected,
        )  # fmt: skip
        here.call(write_job, here.blobs, job)
    since = T0
    for attempt, long in enumerate(hours, 1):
        records = spending(run, attempt, "a100", RATE, since, since + long * HOUR)
        here.call(write_spending, here.blobs, records)
        since += long * HOUR
    return id


def went_on(*jobs: JobRecord, hours: Sequence[float] = ()) -> Facts:
    """A run with these jobs, each of which carried out one attempt for so many hours, if told."""
    run = RunRecord(
        id="r261130-dddddd", name="x", experiment=None, user="ada", created=T0, task="a.b",
        signature="v1:0", overrides=[], tags=[], seed=1, compute="a100", lineage=None, code=None,
        bound=[], sweep=None,
    )  # fmt: skip
    attempts = [
        AttemptRecord(run.id, n, T0, "h", 1, None, None, job.job, {}, {})
        for n, (job, _) in enumerate(zip(jobs, hours, strict=False), 1)
    ]
    ends = [
        EndRecord(run.id, n, T0 + each * HOUR, 77, 1, "", None, None)
        for n, each in enumerate(hours, 1)
    ]
    return Facts(run, jobs, attempts, ends)


def expecting(number: int, hours: float, usd_per_hour: float = 2.0, **changes: Any) -> JobRecord:
    job = JobRecord(
        run="r261130-dddddd", number=number, executor="skypilot", created=T0, job=f"d-{number}",
        cancelled=False, rates=[RATE | {"usd_per_hour": usd_per_hour}], hours=hours,
        usd=hours * usd_per_hour,
    )  # fmt: skip
    return replace(job, **changes)


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=5))
def test_jobs_that_go_on_were_expected_to_cost_as_the_whole(hours: list[float]) -> None:
    left = sorted(hours, reverse=True)
    jobs = [expecting(number, each) for number, each in enumerate(left, 1)]
    assert estimate(went_on(*jobs)) == pytest.approx(2.0 * left[0])


def test_a_run_that_went_on_elsewhere_counts_for_what_each_job_did() -> None:
    first, then = expecting(1, 8.0), expecting(2, 3.0, usd_per_hour=10.0)
    assert estimate(went_on(first, then, hours=[2.0, 3.0])) == pytest.approx(4.0 + 30.0)
    moved = replace(first, cancelled=True)
    assert estimate(went_on(moved, then, hours=[2.0, 3.0])) == pytest.approx(4.0 + 30.0)
    assert estimate(went_on(moved, then)) == 30.0  # it began nothing
    assert estimate(went_on(first, replace(then, cancelled=True), hours=[2.0, 1.0])) == 16.0
    assert estimate(went_on(replace(first, usd=None, hours=None), then)) == 30.0
    assert estimate(went_on(moved)) is estimate(went_on()) is None


@pytest.fixture
def three(here: World) -> World:
    paid(here, "r261130-aaaaaa", 1, 0.5, usd=2.0, sweep="s1", experiment="digits", cancelled=9.0)
    paid(here, "r261130-bbbbbb", 3, usd=8.0, sweep="s1", experiment="digits", user="bob")
    paid(here, "r261130-cccccc", 1)
    return here


def test_all_attempts_of_each_run_and_the_sum(three: World) -> None:
    assert [line.split() for line in three.out("cost")] == [
        ["run", "cost", "expected", "error"],
        ["r261130-aaaaaa", "$3.00", "$2.00", "+50%"],
        ["r261130-bbbbbb", "$6.00", "$8.00", "-25%"],
        ["r261130-cccccc", "$2.00", "-", "-"],
        ["total", "$11.00", "$10.00", "-10%"],
    ]


def test_a_run_or_a_sweep_alone(three: World) -> None:
    assert three.json("cost", "aaa") == [
        {"key": "r261130-aaaaaa", "usd": 3.0, "estimate": 2.0, "error": 0.5}
    ]
    assert [it["key"] for it in three.json("cost", "s1")] == ["r261130-aaaaaa", "r261130-bbbbbb"]


@pytest.mark.parametrize(
    ("by", "usd"),
    [
        ("month", {"2026-11": 9.0, "2026-12": 2.0}),
        ("experiment", {"": 2.0, "digits": 9.0}),
        ("user", {"ada": 5.0, "bob": 6.0}),
    ],
)
def test_sums(three: World, by: str, usd: dict[str, float]) -> None:
    assert {it["key"]: it["usd"] for it in three.json("cost", "--by", by)} == usd


def test_a_month_of_a_run(three: World) -> None:
    shown = [line.split() for line in three.out("cost", "bbb", "--by", "month")]
    assert shown[1:3] == [
        ["2026-11", "$4.00", "$5.33", "-25%"],
        ["2026-12", "$2.00", "$2.67", "-25%"],
    ]


def test_nothing_paid(here: World) -> None:
    paid(here, "r261130-aaaaaa")
    assert here.out("cost") == here.out("cost", "aaa") == ["nothing was paid"]
    assert here.json("cost") == []


def test_what_is_neither_is_one_line(three: World) -> None:
    assert "zzz" in three.refused("cost", "zzz")
    assert "'--by'" in three.refused("cost", "--by", "day")


def test_a_damaged_record_is_named_and_left_out(three: World) -> None:
    path = spending_path("2026-11", "r261130-cccccc", 1)
    three.call(three.blobs.put, path, b"{")
    code, out, err = three.type("cost", "--json")
    assert (code, err.count("\n")) == (0, 1)
    assert path in err
    assert "cccccc" not in out


def test_what_a_deleted_run_has_cost_was_paid_nevertheless(three: World) -> None:
    three.call(three.blobs.delete, "runs/r261130-bbbbbb/run.json")
    row = three.type("cost", "--json")
    assert row[0] == 0
    assert '{"key": "r261130-bbbbbb", "usd": 6.0, "estimate": null, "error": null}' in row[1]


def test_the_controller_is_in_it_shared_with_runs_that_are_not_asked_for(here: World) -> None:
    controller = RATE | {"accelerators": "", "usd_per_hour": 0.5}
    for run in ("r261130-aaaaaa", "r261130-bbbbbb"):
        paid(here, run, 2.0)
        job = JobRecord(
            run=run, number=1, executor="skypilot", created=T0, job=f"{run}-1", cancelled=False,
            controller=controller,
        )  # fmt: skip
        here.call(write_job, here.blobs, job)
        attempt = AttemptRecord(
            run=run, attempt=1, started=T0, host="h", pid=1, process_started=1.0, boot_id="b",
            job=f"{run}-1", numerics={}, versions={}, place=RATE,
        )  # fmt: skip
        here.call(here.blobs.put, RunPaths(run).attempt(1), encode(attempt))
        end = EndRecord(
            run=run, attempt=1, ended=T0 + 2 * HOUR, exit_code=0, step=1, reason="completed",
            error=None, code=None,
        )  # fmt: skip
        here.call(write_end, here.blobs, end)
    assert here.json("cost", "aaa")[0]["usd"] == pytest.approx(4.0 + 0.5)
    assert here.out("cost")[-1] == "of it the machine that watches over jobs: $1.00"
