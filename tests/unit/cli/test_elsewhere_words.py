"""`logs` and `show` of runs that are elsewhere: on a stand-in for SkyPilot."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from crown_exp.compute.base import Target
from crown_exp.folder import AttemptRecord, EndRecord, encode
from crown_exp.folder.records import Rate
from crown_exp.launch.remote.watching import following
from crown_exp.launch.remote.watching.following import added
from crown_exp.storage.runs import write_job
from tests.elsewhere import Elsewhere, on_skypilot, until
from tests.unit.cli.record import World, world
from tests.unit.registry.folders import complete_run

FAILS = "import sys; print('no torch for this machine', flush=True); sys.exit(3)"
WAITS = "import time; print('making the environment', flush=True); time.sleep(600)"
UNTIL = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.02)"
AGAIN = """
import pathlib, sys, time
times = pathlib.Path(sys.argv[1])
number = len(times.read_text()) + 1 if times.exists() else 1
times.write_text("x" * number)
print("machine", number, "is made", flush=True)
while not pathlib.Path(f"{sys.argv[2]}{number}").exists():
    time.sleep(0.02)
"""
QUICK = """
import pathlib, sys, time
times = pathlib.Path(sys.argv[1])
number = len(times.read_text()) + 1 if times.exists() else 1
times.write_text("x" * number)
print("machine", number, "installs", flush=True)
time.sleep(float(sys.argv[2]))
print("machine", number, "is ready", flush=True)
"""
RATE = Rate(cloud="gcp", region="x", accelerators="A100:1", spot=True, usd_per_hour=0.01)


@dataclass
class Both:
    here: World
    far: Elsewhere


@pytest.fixture
def both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Both]:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.5)
    with world(tmp_path, monkeypatch, capsys) as here, on_skypilot(tmp_path, monkeypatch) as far:
        yield Both(here, far)


@pytest.fixture
def looked(both: Both, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is there once whoever follows has looked at the job."""
    found, new = both.far.root / "looked", following.Following.new

    def noted(self: following.Following, **options: Any) -> Any:
        told = new(self, **options)
        found.touch()
        return told

    monkeypatch.setattr(following.Following, "new", noted)
    return found


def test_a_run_elsewhere_is_followed_to_its_end(both: Both, looked: Path) -> None:
    run = both.far.send("train", setup=(sys.executable, "-c", UNTIL, str(looked))).record.id
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
    over = [line for line in err.splitlines() if "ended before its command began" in line]
    assert len(over) == 1 and over[0].startswith("job 1 on a100_spot ended before its command")
    assert out.splitlines()[-1] == f"{run} stopped; next: crown-exp show {run}"
    assert both.far.job(run).cancelled
    _, out, err = both.here.type("logs", run)  # and later
    assert "| no torch for this machine" in out
    assert "could not be set up" in err


def test_whoever_follows_too_late_is_told_as_much(both: Both) -> None:
    run = both.far.send("train", setup=(sys.executable, "-c", FAILS)).record.id
    assert both.here.type("logs", "-f", run)[0] == 0
    code, out, err = both.here.type("logs", "-f", run)
    assert (code, out.count("| no torch for this machine")) == (0, 1)
    assert err.count("could not be set up") == 1
    assert out.splitlines()[-1] == f"{run} stopped; next: crown-exp show {run}"


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Inside, something happens on another thread, which has ended at the end."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_what_is_set_up_after_a_preemption_is_told_too(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each machine is made until its line was told."""
    ends, goes_on = both.far.root / "ends", str(both.far.root / "goes-on-")
    setup = (sys.executable, "-c", AGAIN, str(both.far.root / "times"), goes_on)
    sent = both.far.send("lasts", {"task": {"ends": str(ends)}}, setup=setup)
    run, new = sent.record.id, following.Following.new
    told, seen = list[str](), set[int | None]()  # lines; attempts that were looked at alive

    def noted(self: following.Following, **options: Any) -> Any:
        lines, printed = new(self, **options)
        told.extend(printed)
        seen.add(self.attempt)
        return lines, printed

    def meanwhile() -> None:
        try:
            until(lambda: "machine 1 is made" in told)
            Path(f"{goes_on}1").touch()
            both.far.wait_for_log(run)
            until(lambda: 1 in seen)
            preempt = [sys.executable, "-m", "sky.preempt", run]
            subprocess.run(preempt, check=True, capture_output=True)
            until(lambda: "machine 2 is made" in told)
            Path(f"{goes_on}2").touch()
            until(lambda: len(both.far.facts(run).attempts) == 2)
        finally:
            for number in (1, 2):
                Path(f"{goes_on}{number}").touch()
            ends.write_text("")

    monkeypatch.setattr(following.Following, "new", noted)
    with beside(meanwhile):
        code, out, err = both.here.type("logs", "-f", run)
    assert code == 0
    lines = [line.strip() for line in out.splitlines()]
    first, again = lines.index("| machine 1 is made"), lines.index("| machine 2 is made")
    assert first < again and lines.count("| machine 1 is made") == 1
    assert lines[-1] == f"{run} completed; next: crown-exp show {run}"
    assert err.count("job 1 on a100_spot is ") >= 2


@pytest.mark.parametrize("seconds", [5.0, 0.2])
def test_each_line_of_the_next_machine_is_told_however_soon_it_comes(
    both: Both, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 3.0)
    ends = both.far.root / "ends"
    setup = (sys.executable, "-c", QUICK, str(both.far.root / "times"), str(seconds))
    run = both.far.send("lasts", {"task": {"ends": str(ends)}}, setup=setup).record.id
    looks = both.far.root / "looks"

    def meanwhile() -> None:
        try:
            both.far.wait_for_log(run)
            until(looks.exists)
            preempt = [sys.executable, "-m", "sky.preempt", run]
            subprocess.run(preempt, check=True, capture_output=True)
            until(lambda: len(both.far.facts(run).attempts) == 2)
            looks.unlink()
            until(looks.exists)
        finally:
            ends.write_text("")

    lived, new, lives = [False], following.Following.new, following.Following.lives

    def noted(self: following.Following, *args: Any) -> bool:
        lived.append(lives(self, *args))
        return lived[-1]

    def looked(self: following.Following, **options: Any) -> Any:
        found = new(self, **options)
        if lived.pop():
            looks.touch()
        lived[:] = [False]
        return found

    monkeypatch.setattr(following.Following, "lives", noted)
    monkeypatch.setattr(following.Following, "new", looked)
    with beside(meanwhile):
        code, out, _ = both.here.type("logs", "-f", run)
    assert code == 0
    told = [line.strip() for line in out.splitlines() if "| machine" in line]
    assert told[-2:] == ["| machine 2 installs", "| machine 2 is ready"]
    assert len(told) == len(set(told))
    assert f"|   {run}" not in out and f"| test  {run}" not in out


def test_the_job_of_a_run_that_goes_on_is_told_below_its_log(both: Both) -> None:
    sent = both.far.send("train", setup=(sys.executable, "-c", WAITS))
    until(lambda: "environment" in both.far.executor.log(sent.job.handle or ""))
    run = sent.record.id
    folder = both.far.root / "store/runs" / run
    before = sent.job.created - timedelta(hours=1)
    earlier = AttemptRecord(run, 1, before, "h", 1, None, None, None, {}, {})
    end = EndRecord(run, 1, before, 75, 3, "preempted", None, None)
    (folder / "attempts").mkdir(exist_ok=True)
    (folder / "attempts/000001.json").write_bytes(encode(earlier))
    (folder / "attempts/000001.end.json").write_bytes(encode(end))
    code, out, err = both.here.type("logs", run)
    assert (code, err.count("job 1 on a100_spot is ")) == (0, 1)
    assert out.index("attempt 1 preempted") < out.index("| making the environment")


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
    assert told.startswith("1 on a100_spot (skypilot), submitted ") and ", <$0.01" in told
    both.here.out("cancel", run, "--yes")
    _, out, _ = both.here.type("show", run)
    assert line_of(out.splitlines(), "job").endswith("; over:")  # and the reason below
    _, out, _ = both.here.type("show", run, "--json")
    assert f'"handle": "job/{run}/1"' in out and '"reason": "cancelled by the user"' in out
    both.here.call(write_job, both.here.blobs, replace(both.far.job(run), env={"N": "4"}))
    assert ", with N=4; over:" in " ".join(" ".join(both.here.out("show", run)).split())
    assert both.here.json("show", run)["job"]["env"] == {"N": "4"}


def test_a_run_that_was_never_elsewhere_has_no_job(both: Both) -> None:
    made = both.here.call(complete_run, both.here.blobs)
    assert not [line for line in both.here.out("show", made.id) if line.startswith("  job")]
    assert both.here.json("show", made.id)["job"] is None
