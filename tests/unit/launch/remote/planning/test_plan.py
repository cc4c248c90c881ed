"""What a command is about to do: machines asked of SkyPilot's stand-in, caps, what was spent."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from crown_exp.compute.base import Candidate, Target
from crown_exp.compute.executors.skypilot.child import Child
from crown_exp.compute.executors.skypilot.executor import SkyPilotExecutor
from crown_exp.compute.executors.slurm.executor import SlurmExecutor
from crown_exp.config import schema
from crown_exp.config.project import builtin_conf
from crown_exp.errors import ConfigError
from crown_exp.folder import AttemptRecord, EndRecord, Facts, SpendingRecord
from crown_exp.folder.records import Rate, SweepPlace
from crown_exp.identity import new_run_id
from crown_exp.launch.remote.base import Earlier, Fate, Guess
from crown_exp.launch.remote.executors import Executors, Maker
from crown_exp.launch.remote.planning.approval import Capped, allow
from crown_exp.launch.remote.planning.plan import make_plan, to_be_had_first
from crown_exp.launch.session import Session, open_session
from crown_exp.launch.submit import Order
from crown_exp.storage.spending import SLACK, write_spending
from tests.asked import Asked
from tests.sky_project import STAND_IN
from tests.stand_in.sky import edge
from tests.unit.launch.remote.planning.test_estimate import Store
from tests.unit.launch.test_submit import order
from tests.unit.registry.folders import RUN

A100 = Rate(cloud="gcp", region="us-central1", accelerators="A100:1", spot=True, usd_per_hour=1.15)


class Counting(SkyPilotExecutor):
    """SkyPilot, counting what it is asked."""

    def __init__(self, child: Child) -> None:
        super().__init__(child)
        self.asked: list[str] = []

    def candidates(self, target: Target) -> Sequence[Candidate]:
        self.asked.append(target.name)
        return super().candidates(target)

    def controller(self) -> Candidate | None:
        self.asked.append("controller")
        return super().controller()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    state = tmp_path / "stand-in"
    state.mkdir()
    yield state
    edge.stop(state)


@pytest.fixture
def sky(folder: Path) -> Iterator[Counting]:
    environment = {"SKY_STAND_IN": str(folder), "PYTHONPATH": str(STAND_IN)}
    executor = Counting(Child(env=dict(os.environ) | environment))
    yield executor
    executor.close()


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sky: Counting) -> Iterator[Session]:
    monkeypatch.chdir(tmp_path)
    with open_session(None) as opened:
        makers: dict[str, Maker] = {
            "skypilot": lambda: sky,
            "slurm": lambda: SlurmExecutor(tmp_path / "slurm"),
        }
        opened.executors = Executors(makers)
        yield opened


def ordered(
    compute: str = "a100_spot", *swept: str, name: str | None = None, **changes: Any
) -> Order:
    """An order on one of the targets that come with crown_exp. changes: of budget, or of compute."""
    group = yaml.safe_load((builtin_conf() / f"compute/{compute}.yaml").read_text())
    tree = schema.defaults()
    budget = {key: value for key, value in changes.items() if key in tree["budget"]}
    given = {key: value for key, value in changes.items() if key not in budget}
    target = tree["compute"] | group | given | ({"name": name} if name else {})
    return order(*swept, compute=target, budget=tree["budget"] | budget)


def earlier(fate: Fate) -> Earlier:
    return Earlier(Facts(RUN), fate)


def spend(session: Session, usd: float, **changes: Any) -> None:
    now = datetime.now(UTC)
    record = SpendingRecord(
        run="r261001-aaaaaa", attempt=1, user="me", experiment="digits", sweep=None, target="a100_spot",
        place=A100, since=now, until=now, usd=usd,
    )  # fmt: skip
    session.portal.call(write_spending, session.blobs, [replace(record, **changes)])


def test_each_target_is_asked_for_once_and_what_is_not_launched_never(
    session: Session, sky: Counting
) -> None:
    orders = [ordered(), ordered("h100"), ordered(), ordered("local"), ordered("l4_spot")]
    done: list[Earlier | None] = [None, None, earlier(Fate.RESUMED), None, earlier(Fate.DONE)]
    plan = make_plan(session, orders, done)
    assert sorted(sky.asked) == ["a100_spot", "controller", "h100"]
    assert [run.number for run in plan.runs] == [1, 2, 3, 4, 5]
    assert [run.fate.value for run in plan.runs] == ["new", "new", "to resume", "new", "done"]
    assert [run.number for run in plan.launched] == [1, 2, 3]
    assert [bool(run.candidates) for run in plan.runs] == [True, True, True, False, False]
    assert plan.runs[0].candidates == plan.runs[2].candidates
    first = plan.runs[0].candidates[0]
    assert (first.cloud, first.accelerators, first.spot) == ("gcp", "A100:1", True)
    assert plan.is_billed and plan.controller is None
    assert plan.usd is None
    assert (plan.caps, plan.spent) == ({}, {})


def test_nothing_is_asked_of_an_executor_for_what_runs_here(
    session: Session, sky: Counting
) -> None:
    plan = make_plan(session, [ordered("local"), ordered()], [None, earlier(Fate.RUNNING)])
    assert sky.asked == []
    assert not plan.is_billed and plan.usd == 0.0


def test_a_controller_is_told_where_one_would_be_started(
    session: Session, sky: Counting, folder: Path
) -> None:
    (folder / "controller").touch()
    plan = make_plan(session, [ordered()], [None])
    assert plan.controller is not None and (plan.controller.usd_per_hour or 0) > 0
    sky.asked.clear()
    plain = make_plan(session, [ordered(managed=False)], [None])
    assert plain.controller is None and "controller" not in sky.asked


def test_a_free_cluster_beside_paid_machines_does_not_make_a_run_free(
    session: Session, folder: Path
) -> None:
    (folder / "enabled").write_text("kubernetes gcp")
    plan = make_plan(session, [ordered(run_usd=5.0)], [None])
    (run,) = plan.runs
    assert [it.cloud for it in run.candidates[:3]] == ["kubernetes", "gcp", "gcp"]
    assert (run.usd_per_hour, run.prices) == (0.0, (1.15, 1.25, 2.1))
    assert plan.is_billed and plan.caps == {"run_usd": 5.0}
    assert run.spent == {"run_usd": 0.0, "sweep_usd": 0.0, "month_usd": 0.0}
    (folder / "enabled").write_text("kubernetes")
    assert not make_plan(session, [ordered()], [None]).is_billed


def test_a_cluster_of_ones_own_costs_what_the_target_says(session: Session, folder: Path) -> None:
    (folder / "enabled").write_text("kubernetes gcp")
    plan = make_plan(session, [ordered(usd_per_hour=0.5), ordered("h100")], [None, None])
    run, other = plan.runs
    assert [it.usd_per_hour for it in run.candidates[:3]] == [0.5, 1.15, 1.25]  # gcp's are gcp's
    assert (run.usd_per_hour, run.prices[0]) == (0.5, 0.5)
    assert other.candidates[0].usd_per_hour == 0.0
    own: dict[str, Any] = {"usd_per_hour": 0.5, "infra": ["kubernetes"]}
    plan = make_plan(
        session, [ordered("kubernetes", **own), ordered("slurm", usd_per_hour=4)], [None] * 2
    )
    assert [run.prices for run in plan.launched] == [(0.5,), (4.0,)]
    assert plan.is_billed and plan.usd is None
    with pytest.raises(ConfigError, match=r"what it will cost is not known.*\$4.50 for an hour"):
        allow(plan, yes=False, ask=None)
    capped = make_plan(session, [ordered("slurm", usd_per_hour=4, run_usd=3.0)], [None])
    with pytest.raises(Capped, match=r"below the price of one hour.*compute=slurm is \$4.00/h"):
        allow(capped, yes=True, ask=None)


def test_machines_that_cannot_be_had_are_last() -> None:
    def machine(cloud: str, enabled: bool | None) -> Candidate:
        return Candidate(cloud, "", "", "", False, 1.0, enabled)

    off, unknown, on = machine("aws", False), machine("oci", None), machine("gcp", True)
    assert to_be_had_first([off, unknown, on]) == [unknown, on, off]


def test_hours_are_those_of_the_machine_that_is_expected(session: Session) -> None:
    Store(session).ran(3.0)
    plan = make_plan(
        session, [ordered(), ordered("h100"), ordered()], [None, None, earlier(Fate.DONE)]
    )
    assert [run.guess for run in plan.runs] == [Guess(3.0, 1), None, None]
    first = plan.runs[0]
    assert first.usd == 3.0 * first.usd_per_hour


def test_a_run_that_goes_on_is_expected_to_take_what_is_left(session: Session) -> None:
    Store(session).ran(3.0)
    now = datetime.now(UTC)
    attempt = AttemptRecord(RUN.id, 1, now, "h", 1, None, None, None, {}, {})
    end = EndRecord(RUN.id, 1, now, 77, 3, "", None, None, saved=2)
    resumed = Earlier(Facts(RUN, (), [attempt], [end]), Fate.RESUMED)
    first, rest = make_plan(session, [ordered(), ordered()], [None, resumed]).runs
    assert first.usd is not None and rest.usd is not None
    assert rest.guess is not None
    assert rest.guess.hours == pytest.approx(3.0 * 3 / 5)  # 2 of 5 steps are saved
    assert (rest.guess.runs, rest.guess.done) == (1, 2 / 5)
    assert rest.usd == pytest.approx(first.usd * 3 / 5)


def test_the_smallest_cap_of_all_counts(session: Session) -> None:
    orders = [
        ordered("a100_spot", "seed=1", run_usd=9.0, sweep_usd=90.0),
        ordered("a100_spot", "seed=2", run_usd=8.0, month_usd=500.0),
        ordered("local", "seed=3", run_usd=1.0),
    ]
    plan = make_plan(session, orders, [None, None, None])
    assert plan.caps == {"run_usd": 8.0, "sweep_usd": 90.0, "month_usd": 500.0}
    alone = make_plan(session, [ordered(sweep_usd=90.0)], [None])
    assert alone.caps == {"sweep_usd": 90.0}  # a run without a sweep is held to it, too


def test_each_run_is_held_to_its_own_caps(session: Session) -> None:
    spend(session, 6.0, run=RUN.id)
    orders = [ordered(run_usd=50.0, sweep_usd=9.0), ordered(run_usd=5.0), ordered()]
    plan = make_plan(session, orders, [earlier(Fate.RESUMED), None, None])
    assert [run.caps for run in plan.runs] == [
        {"run_usd": 50.0, "sweep_usd": 9.0}, {"run_usd": 5.0}, {},
    ]  # fmt: skip
    assert plan.runs[0].left("sweep_usd") == 3.0  # by what it has cost itself
    assert [run.left("run_usd") for run in plan.runs] == [44.0, 5.0, math.inf]


def test_what_was_spent_by_run_sweep_and_month(session: Session) -> None:
    earlier_month = datetime.now(UTC) - timedelta(days=40)
    spend(session, 2.0, sweep="s-1")
    spend(session, 3.0, run="r261001-bbbbbb", sweep="s-2")
    spend(session, 4.0, run=RUN.id, sweep="s-1", since=earlier_month, until=earlier_month)
    caps: dict[str, Any] = {"run_usd": 50.0, "sweep_usd": 50.0, "month_usd": 50.0}
    orders = [ordered("a100_spot", "seed=1", **caps), ordered("a100_spot", "seed=2", **caps)]
    plan = make_plan(session, orders, [None, earlier(Fate.RESUMED)])
    assert plan.spent == {"run_usd": 4.0, "sweep_usd": 6.0, "month_usd": 5.0}
    assert [run.spent["run_usd"] for run in plan.runs] == [0.0, 4.0]
    (other,) = [replace(orders[0], sweep=SweepPlace(id="s-2", number=1, of=1))]
    assert make_plan(session, [other], [None]).spent == {
        "run_usd": 0.0, "sweep_usd": 3.0, "month_usd": 5.0,
    }  # fmt: skip


def test_the_ledger_is_read_only_for_caps_on_what_is_billed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    spend(session, 2.0)
    read: list[str] = []
    listed = session.blobs.list

    async def noting(prefix: str) -> Any:
        read.append(prefix)
        return await listed(prefix)

    monkeypatch.setattr(session.blobs, "list", noting)
    make_plan(session, [ordered(), ordered("local", month_usd=5.0)], [None, None])
    make_plan(session, [ordered(run_usd=5.0)], [None])
    assert not [path for path in read if path.startswith("budget/")]
    make_plan(session, [ordered(month_usd=5.0)], [None])
    assert [path for path in read if path.startswith("budget/")]


def test_a_run_that_goes_on_is_asked_for_what_it_has_cost_and_nothing_else_is_read(
    session: Session,
) -> None:
    now = datetime.now(UTC)
    for days in range(40, 1000, 40):
        spend(session, 100.0, since=now - timedelta(days=days), until=now - timedelta(days=days))
    made = now - timedelta(days=45)
    mine = replace(RUN, id=new_run_id(made), created=made)
    spend(session, 3.0, run=mine.id)
    spend(session, 2.0, run=mine.id, since=made, until=made)
    asked = Asked(session.blobs)
    session.blobs = asked.store
    resumed = [Earlier(Facts(mine), Fate.RESUMED)]
    (run,) = make_plan(session, [ordered(run_usd=50.0)], resumed).runs
    assert run.spent["run_usd"] == 5.0
    assert asked.take()["get"] == 2
    (run,) = make_plan(session, [ordered(run_usd=50.0, month_usd=90.0)], resumed).runs
    assert run.spent["run_usd"] == 5.0


def test_the_first_month_of_a_sweep_is_told_to_its_machines(session: Session) -> None:
    now = datetime.now(UTC)
    old, older = now - timedelta(days=100), now - timedelta(days=200)
    spend(session, 1.0, run="r1-a", sweep="s-1", since=old, until=old)
    spend(session, 1.0, run="r1-b", sweep="s-1")
    spend(session, 1.0, run="r1-c", sweep="s-2", since=older, until=older)
    spend(session, 1.0, run="r1-d", sweep=None, since=older, until=older)
    capped: dict[str, Any] = {"sweep_usd": 50.0}
    new, goes_on = (
        ordered("a100_spot", "seed=1", **capped),
        ordered("a100_spot", "seed=2", **capped),
    )
    fresh = replace(new, sweep=SweepPlace(id="s-3", number=1, of=1))
    of_another = replace(RUN, sweep=SweepPlace(id="s-2", number=1, of=1))
    alone = replace(RUN, sweep=None)
    orders = [new, goes_on, fresh, goes_on]
    were = [
        None,
        Earlier(Facts(of_another), Fate.RESUMED),
        None,
        Earlier(Facts(alone), Fate.RESUMED),
    ]
    plan = make_plan(session, orders, were)
    assert [run.sweep_since for run in plan.runs] == [
        f"{old:%Y-%m}", f"{older:%Y-%m}", f"{now - SLACK:%Y-%m}", None,
    ]  # fmt: skip
    without = make_plan(session, [ordered("a100_spot", "seed=1", month_usd=50.0)], [None])
    assert [run.sweep_since for run in without.runs] == [None]  # nobody has looked


def test_a_damaged_record_of_the_ledger_is_told(session: Session) -> None:
    spend(session, 2.0)
    month = f"{datetime.now(UTC):%Y-%m}"
    path = f"budget/{month}/r261001-cccccc-1.json"
    session.portal.call(session.blobs.put, path, b"{")
    said: list[str] = []
    plan = make_plan(session, [ordered(month_usd=5.0)], [None], said.append)
    assert plan.spent["month_usd"] == 2.0
    assert len(said) == 1 and said[0].startswith(path)
    assert said[0].endswith("it is left out of what was spent")


def test_a_target_that_is_none_is_refused(session: Session) -> None:
    with pytest.raises(ConfigError, match="start_deadline"):
        make_plan(session, [ordered(start_deadline="soon")], [None])
