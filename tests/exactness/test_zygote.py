"""A forked child is as good as a process of its own, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exactness.cases import Cases, Zygotes
from tests.exactness.runs import outcome_of
from tests.exactness.seams import at_call, at_event
from tests.exactness.zygote import ONE_THREAD, ROOT, RUNNER, Zygote


def test_a_child_comes_to_the_bits_of_a_process_of_its_own(cases: Cases, tmp_path: Path) -> None:
    straight = cases.straight("everything")
    run = straight.recorded.copied(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "crown_exp", "run", str(run.folder)], cwd=run.root, capture_output=True,
        text=True,
        env=os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT), "CROWN_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert straight.outcome.difference(outcome_of(run)) == ""


@pytest.mark.full
@pytest.mark.parametrize("number", [0, 1])
def test_the_hash_seed_of_a_zygote_decides_nothing(
    cases: Cases, zygotes: Zygotes, tmp_path: Path, number: int
) -> None:
    straight = cases.straight("everything")
    run = straight.recorded.copied(tmp_path)
    assert run.begin(zygotes.of("everything", number)).wait() == 0, run.said()
    found = outcome_of(run)
    assert straight.outcome.difference(found) == ""
    assert found.digest == straight.outcome.digest


def test_a_seam_ends_a_child_where_it_is_placed(
    cases: Cases, zygotes: Zygotes, tmp_path: Path
) -> None:
    recorded, zygote = cases.straight("everything").recorded, zygotes.of("everything")
    run = recorded.copied(tmp_path / "event")
    child = run.begin(zygote, seams=[at_event("os.link", r"result\.json$")])
    assert child.wait() == -signal.SIGKILL
    assert run.codes() == [-1] and not (run.folder / "result.json").exists()
    run = recorded.copied(tmp_path / "call")
    child = run.begin(zygote, seams=[at_call("torch.nn.functional:cross_entropy", 3)])
    assert child.wait() == -signal.SIGKILL


def test_what_a_child_prints_and_its_exit_code_are_its_own(tmp_path: Path) -> None:
    with Zygote.preloaded(RUNNER) as zygote:
        first = zygote.start("--version", cwd=tmp_path, out=tmp_path / "first")
        second = zygote.start("run", "nothing", cwd=tmp_path, out=tmp_path / "second")
        assert (first.wait(), second.wait()) == (0, 2)
    assert first.said.startswith("crown-exp ") and "nothing" in second.said


def test_nothing_of_a_child_outlives_the_zygote(cases: Cases, tmp_path: Path) -> None:
    run = cases.straight("everything").recorded.copied(tmp_path)
    with Zygote.preloaded(RUNNER) as zygote:
        child = run.begin(zygote)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
