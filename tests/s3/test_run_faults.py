"""A whole run over a store with trouble in mid-run: training goes on, and nothing that was saved is lost."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crown_exp.runner import Run, run_attempt
from crown_exp.storage import Portal, open_blobs
from tests.checkpoint_states import memory_store
from tests.counting import counting
from tests.running import Ended, Lab
from tests.s3.buckets import Bucket
from tests.s3.faults import ACCESS_DENIED, EXPIRED_TOKEN, INTERNAL_ERROR, QUOTA_EXCEEDED, Fault
from tests.s3.servers import Proxy
from tests.s3.sweeps import PATIENT_S

TURNS = 8
EVERY = {"checkpoint": {"every": "1 steps"}}

TROUBLES: dict[str, tuple[dict[str, Any], str]] = {
    "expired": (EXPIRED_TOKEN, "the credentials have expired; renew them"),
    "hang": ({"kind": "hang"}, "does not answer (timed out)"),
    "500": (INTERNAL_ERROR, "answers 500"),
    "refuse": ({"kind": "refuse"}, "does not answer (connection reset)"),
    "denied": (ACCESS_DENIED | {"method": "PUT"}, "the credentials may not write there"),
    "quota": (QUOTA_EXCEEDED | {"method": "PUT"}, "there is no more room for it there"),
}
PASSING = ("hang", "500", "refuse")
"""What is tried again until the deadline, so that here it has to be a near one."""
QUICK = ("expired", "hang")
EACH = [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in TROUBLES]


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture
def direct(portal: Portal, bucket: Bucket, tmp_path: Path) -> Lab:
    """The same store, as another machine without the trouble has it."""
    return Lab(portal, open_blobs(f"{bucket.url}/store", bucket.access), tmp_path / "other home")


@pytest.fixture
def lab(portal: Portal, bucket: Bucket, proxy: Proxy, tmp_path: Path) -> Lab:
    access = bucket.behind(proxy).access
    return Lab(portal, open_blobs(f"{bucket.url}/store", access), tmp_path / "home")


def begin(lab: Lab, proxy: Proxy, name: str) -> None:
    """Let a trouble befall all that comes from now on."""
    blobs: Any = lab.blobs
    blobs._deadline_s = 0.7 if name in PASSING else PATIENT_S
    proxy.arm(Fault(**TROUBLES[name][0]))


def end(lab: Lab, proxy: Proxy) -> None:
    """All is well again, and waited for, however busy the machine is."""
    blobs: Any = lab.blobs
    blobs._deadline_s = PATIENT_S
    proxy.clear()


@pytest.fixture
def expected(portal: Portal, tmp_path: Path) -> float:
    """What an undisturbed run returns."""
    plain = Lab(portal, memory_store(), tmp_path / "plain")
    ended = plain.run(counting(lambda run: None, TURNS))
    return float(ended.ending.result)


def attempt_and_read(lab: Lab, direct: Lab, run: str, **options: Any) -> tuple[int, Any, Ended]:
    """An attempt through the proxy, though its store may be away at the end: code, result, what is there."""
    stream = io.StringIO()
    ending = run_attempt(
        lab.portal, lab.blobs, run, home=lab.home, root=lab.home, stream=stream, **options
    )
    there = Ended(run, ending, stream.getvalue(), direct.facts(run), direct.segments(run))
    return ending.exit_code, ending.result, there


@pytest.mark.parametrize("name", EACH)
def test_training_goes_on_and_saves_again(
    lab: Lab, direct: Lab, proxy: Proxy, expected: float, name: str, capsys: Any
) -> None:
    _, said = TROUBLES[name]

    def at(run: Run) -> None:
        run._keeping.checkpoints.wait()  # that of the turn before has ended, one way or the other
        if run.step == 3:
            begin(lab, proxy, name)
        if run.step == 6:
            end(lab, proxy)

    code, result, there = attempt_and_read(lab, direct, lab.make(counting(at, TURNS), EVERY))
    lines = capsys.readouterr().err.splitlines()
    assert (code, result) == (0, expected), there.said
    (line,) = [line for line in lines if "not saved: " in line]
    assert said in line and "is safe, training goes on, and it is tried again" in line
    assert [line for line in lines if "saved again, after step" in line], lines
    assert there.state == "completed" and there.facts.ends[0].saved == TURNS
    assert [step for step, _ in there.points] == list(range(1, TURNS + 1))


@pytest.mark.parametrize("name", EACH)
def test_for_ever_is_past_the_deadline_and_goes_on_elsewhere(
    lab: Lab, direct: Lab, proxy: Proxy, expected: float, name: str, capsys: Any
) -> None:
    """80, and another machine goes on from the last good checkpoint."""
    _, said = TROUBLES[name]

    def at(run: Run) -> None:
        run._keeping.checkpoints.wait()
        if run.step == 4 and run.attempt == 1:
            begin(lab, proxy, name)

    config = {"checkpoint": {"every": "1 steps", "deadline": "0.5 s"}}
    run = lab.make(counting(at, TURNS), config)
    code, _, there = attempt_and_read(lab, direct, run)
    err = capsys.readouterr().err
    assert code == 80, there.said
    assert said in err + there.said and "Traceback" not in err + there.said
    assert "is safe" in err
    assert not there.facts.ends and there.facts.result is None
    proxy.clear()
    second = direct.attempt(run, take_over=True)
    assert (second.code, second.ending.result) == (0, expected), second.said
    assert "goes on after step" in second.said


@pytest.mark.parametrize("name", EACH)
def test_the_result_cannot_be_written(
    lab: Lab, direct: Lab, proxy: Proxy, expected: float, name: str, capsys: Any
) -> None:
    """80 with what it returned on the screen; the next attempt has nothing to do but to write it."""
    _, said = TROUBLES[name]

    def task(run: Run) -> float:
        result = counting(lambda run: None, TURNS)(run)
        if run.attempt == 1:
            run._keeping.checkpoints.wait()
            begin(lab, proxy, name)
        return result

    run = lab.make(task, EVERY)
    code, result, there = attempt_and_read(lab, direct, run)
    said_all = there.said + capsys.readouterr().err
    assert (code, result) == (80, expected), said_all
    assert said in said_all and "Traceback" not in said_all
    assert not there.facts.ends and there.facts.result is None
    proxy.clear()
    second = direct.attempt(run, take_over=True)
    assert (second.code, second.ending.result) == (0, expected), second.said
