"""SIGKILL at any moment, as often as one likes: every bit is that of the run that nobody touched."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.exactness.cases import CASES, Cases, Zygotes
from tests.exactness.kills import at_random
from tests.exactness.runs import Recorded, outcome_of
from tests.exactness.seams import Seam, at_call, at_event, in_step


@pytest.mark.parametrize("name", CASES)
def test_killed_at_a_few_random_moments(
    name: str, cases: Cases, zygotes: Zygotes, tmp_path: Path
) -> None:
    tally = at_random(cases.long(name), zygotes, tmp_path, kills=2, seed=1)
    assert tally.first == "" and tally.differing_bits == 0


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_killed_at_many_random_moments(
    name: str, cases: Cases, zygotes: Zygotes, tmp_path: Path
) -> None:
    tally = at_random(cases.long(name), zygotes, tmp_path, kills=20, seed=2)
    assert tally.first == "" and tally.differing_bits == 0


@pytest.mark.full
def test_saving_seldom_or_often_changes_nothing(cases: Cases) -> None:
    often = cases.straight("everything").outcome
    seldom = cases.straight("everything", "checkpoint.every='1 hour'").outcome
    always = cases.straight("everything", "checkpoint.every='1 step'").outcome
    assert often.difference(seldom) == often.difference(always) == ""


# --- aimed ----------------------------------------------------------------------------------------------

COMMIT = r"checkpoints/\d+-\d+\.json$"

FIRST: dict[str, Seam] = {
    "before the fence": at_event("os.link", r"attempts/000001\.json$"),
    "in the first turn": at_call("torch.nn.functional:cross_entropy", 2),
    "before the first checkpoint": at_event("os.link", COMMIT),
    "in the snapshot": at_call("crown_exp.checkpoints.snapshot:Camera.take", 3),
    "before a pack": at_event("os.rename", r"packs/[0-9a-f]{64}$", 4),
    "between packs and manifest": at_event("os.link", COMMIT, 4),
    "after a manifest, before its folder is synced": at_event("open", r"/checkpoints$", 6),
    "in retention, before a manifest goes": at_event("os.remove", COMMIT, 2),
    "in retention, before a pack goes": at_event("os.remove", r"packs/[0-9a-f]{64}$", 2),
    "between epochs": at_call("crown_exp.data.batches:order", 3),
    "at the top of an evaluation": at_call("tasks:evaluated", 3),
    "in an evaluation": at_call("torch.nn.functional:cross_entropy", 10),
    "between two loops": at_event("os.link", r"checkpoints/\d+-0*15\.json$"),
    "in the last turn": at_event("os.link", r"checkpoints/\d+-0*30\.json$"),
    "at step == total, all saved": at_event("os.link", r"result\.json$"),
    "between result and end": at_event("os.link", r"attempts/000001\.end\.json$"),
}
"""Where the first attempt is killed."""

SECOND: dict[str, Seam] = {
    "before the fence": at_event("os.link", r"attempts/000002\.json$"),
    "in restore, before a manifest is read": at_event("open", COMMIT),
    "in restore, before a pack is read": at_event("open", r"packs/[0-9a-f]{64}"),
    "before something tracked is put back": at_call("crown_exp.runner.resuming:Resuming.one", 2),
    "before all is put back": at_call("crown_exp.runner.resuming:Resuming.all"),
    "before random numbers are put back": at_call("crown_exp.runner.random_state:restore"),
    "in the first turn": at_call("torch.nn.functional:cross_entropy", 2),
    "before its first checkpoint": at_event("os.link", COMMIT),
    "in its first retention": at_event("os.remove", COMMIT),
}
"""Where the second attempt is killed, which goes on from step 21."""

QUICK = {
    *("before the first checkpoint", "between packs and manifest", "in retention, before a pack goes"),
    *("in an evaluation", "at step == total, all saved", "in restore, before a pack is read"),
}  # fmt: skip


def places(seams: dict[str, Seam]) -> list[object]:
    """Parameters of a test; all but a few are for `make test-full`."""
    return [
        pytest.param(seam, id=where, marks=[] if where in QUICK else pytest.mark.full)
        for where, seam in seams.items()
    ]


def ended_equal(run: Recorded, cases: Cases, zygotes: Zygotes, attempt: int) -> None:
    """Resume a killed run, with workers; hold it against the one that nobody touched."""
    child = run.resume(zygotes.of("everything", attempt), "device.workers=2")
    assert child.wait() == 0, run.said()
    how = cases.straight("everything").outcome.difference(outcome_of(run))
    assert how == "", f"{how}\n{run.said()}"


@pytest.mark.parametrize("seam", places(FIRST))
def test_killed_there(seam: Seam, cases: Cases, zygotes: Zygotes, tmp_path: Path) -> None:
    run = cases.straight("everything").recorded.copied(tmp_path)
    child = run.begin(zygotes.of("everything"), seams=[in_step(), seam])
    assert child.wait() == -signal.SIGKILL, run.said()
    ended_equal(run, cases, zygotes, 1)


@pytest.fixture(scope="module")
def killed(cases: Cases, zygotes: Zygotes, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A run whose newest checkpoint is that of step 21."""
    run = cases.straight("everything").recorded.copied(tmp_path_factory.mktemp("killed"))
    seam = at_event("os.link", r"checkpoints/\d+-0*24\.json$")
    assert run.begin(zygotes.of("everything"), seams=[in_step(), seam]).wait() == -signal.SIGKILL
    return run


@pytest.mark.parametrize("seam", places(SECOND))
def test_killed_there_while_it_goes_on(
    seam: Seam, cases: Cases, zygotes: Zygotes, killed: Recorded, tmp_path: Path
) -> None:
    run = killed.copied(tmp_path)
    child = run.resume(zygotes.of("everything", 1), seams=[in_step(), seam])
    assert child.wait() == -signal.SIGKILL, run.said()
    ended_equal(run, cases, zygotes, 2)
