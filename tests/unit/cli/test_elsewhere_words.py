"""`logs` and `show` of runs that are elsewhere: on a stand-in for SkyPilot."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from crown_exp.compute.base import Target
from crown_exp.compute.executors.skypilot.child import Child
from crown_exp.compute.executors.skypilot.executor import SkyPilotExecutor
from crown_exp.folder.records import Rate
from crown_exp.launch.remote.watching import following
from crown_exp.launch.remote.watching.following import added
from crown_exp.storage.runs import write_job
from tests.elsewhere import ROOT, Elsewhere, elsewhere, until
from tests.stand_in.sky import edge
from tests.unit.cli.record import World, world
from tests.unit.registry.folders import complete_run

FAILS = "import sys; print('no torch for this machine', flush=True); sys.exit(3)"
WAITS = "import time; print('making the environment', flush=True); time.sleep(600)"
RATE = Rate(cloud="gcp", region="x", accelerators="A100:1", spot=True, usd_per_hour=1.0)


@dataclass
class Both:
    here: World
    far: Elsewhere


@pytest.fixture
def both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Both]:
    state = tmp_path / "stand-in"
    monkeypatch.setenv("SKY_STAND_IN", str(state))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/stand_in"))
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.5)
    with (
        world(tmp_path, monkeypatch, capsys) as here,
        elsewhere(tmp_path, SkyPilotExecutor(Child(sys.executable))) as far,
    ):
        try:
            yield Both(here, far)
        finally:
            edge.stop(state)


def test_a_run_elsewhere_is_followed_to_its_end(both: Both) -> None:
    run = both.far.send("train").record.id
    code, out, err = both.here.type("logs", "-f", run)
    assert code == 0
    assert "job 1 on a100_spot is " in err
    assert [line.split("  ")[-2:] for line in out.splitlines() if "loss" in line][-1] == [
        "step 3", "loss 0.5",
    ]  # fmt: skip
    assert out.splitlines()[-1] == f"{run} completed; next: crown-exp show {run}"


def test_a_setup_that_fails_is_told_and_ends_the_following(both: Both) -> None:
    run = both.far.send("train", setup=(sys.executable, "-c", FAILS)).record.id
    code, out, err = both.here.type("logs", "-f", run)
    assert code == 0
    assert "| no torch for this machine" in out
    assert "job 1 on a100_spot is over: its job 1 on a100_spot ended before its command" in err
    assert out.splitlines()[-1] == f"{run} stopped; next: crown-exp show {run}"
    assert both.far.job(run).cancelled
    _, out, err = both.here.type("logs", run)  # and later
    assert "| no torch for this machine" in out
    assert "could not be set up" in err


def test_a_job_that_has_not_begun_is_looked_at_and_left_alone(both: Both) -> None:
    sent = both.far.send("train", setup=(sys.executable, "-c", WAITS))
    run = sent.record.id
    until(lambda: "environment" in both.far.executor.log(sent.job.handle or ""))
    both.far.portal.call(
        write_job, both.far.blobs, replace(sent.job, created=sent.job.created.replace(year=2020))
    )
    code, out, err = both.here.type("logs", run)
    assert (code, err.count("job 1 on a100_spot is ")) == (0, 1)
    assert "| making the environment" in out
    assert not both.far.job(run).cancelled
    assert not both.far.is_over(sent)


def test_whoever_follows_keeps_the_deadline(both: Both) -> None:
    sent = both.far.send(
        "train", {"compute": {"start_deadline": "3 seconds"}}, setup=(sys.executable, "-c", WAITS)
    )
    code, out, _ = both.here.type("logs", "-f", sent.record.id)
    assert (code, out.splitlines()[-1].split(";")[0]) == (0, f"{sent.record.id} stopped")
    assert "did not begin within 3 seconds" in both.far.job(sent.record.id).reason
    until(lambda: both.far.is_over(sent))


def test_without_the_executor_the_folder_is_followed(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = both.far.send("train").record.id
    monkeypatch.setenv("CROWN_SKY__PYTHON", "/no/such/python")
    code, out, err = both.here.type("logs", "-f", run)
    assert (code, out.splitlines()[-1].split(";")[0]) == (0, f"{run} completed")
    assert err.count("CROWN_SKY__PYTHON") <= 1


def test_the_lines_of_a_growing_tail_are_told_once() -> None:
    assert added([], ["a", "b"]) == ["a", "b"]
    assert added(["a", "b"], ["a", "b", "c"]) == ["c"]
    assert added(["a", "b", "c"], ["b", "c", "d"]) == ["d"]
    assert added(["a", "b"], ["a", "b"]) == []
    assert added(["a"], ["x", "y"]) == ["x", "y"]


# --- show ---------------------------------------------------------------------------------------------


def line_of(lines: list[str], label: str) -> str:
    (found,) = [line for line in lines if line.startswith(f"  {label} ")]
    return " ".join(found.split()[1:])


def test_show_tells_the_job(both: Both) -> None:
    target = Target(name="a100_spot", executor="skypilot")
    sent = both.far.send("lasts", target=target, rates=(RATE,))
    run = sent.record.id
    both.far.wait_for_log(run)
    told = line_of(both.here.out("show", run), "job")
    assert told.startswith("1 on a100_spot (skypilot), submitted ") and told.endswith(", $0.00")
    both.here.out("cancel", run, "--yes")
    _, out, _ = both.here.type("show", run)
    assert line_of(out.splitlines(), "job").endswith("; over:")  # and the reason below
    _, out, _ = both.here.type("show", run, "--json")
    assert f'"handle": "job/{run}/1"' in out and '"reason": "cancelled by the user"' in out


def test_a_run_that_was_never_elsewhere_has_no_job(both: Both) -> None:
    made = both.here.call(complete_run, both.here.blobs)
    assert not [line for line in both.here.out("show", made.id) if line.startswith("  job")]
    assert both.here.json("show", made.id)["job"] is None
