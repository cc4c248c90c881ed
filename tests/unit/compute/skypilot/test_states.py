"""SkyPilot's words as states of a job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.compute.base import OVER, JobState
from crown_exp.compute.executors.skypilot.states import status

FINAL = {
    "SUCCEEDED", "CANCELLED", "FAILED", "FAILED_SETUP", "FAILED_PRECHECKS", "FAILED_NO_RESOURCE",
    "FAILED_CONTROLLER", "FAILED_DRIVER",
}  # fmt: skip


@given(st.one_of(st.none(), st.text(), st.sampled_from(["FAILED_NEW", "PAUSED", "GONE", "failed"])))
def test_a_word_that_is_not_known_is_not_final(word: str | None) -> None:
    found = status({"status": word})
    assert (found.state in OVER) == (word in FINAL)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("PENDING", JobState.WAITING),
        ("STARTING", JobState.STARTING),
        ("RUNNING", JobState.RUNNING),
        ("WINDING_DOWN", JobState.RUNNING),
        ("RECOVERING", JobState.RECOVERING),
        ("CANCELLING", JobState.CANCELLING),
        ("SUCCEEDED", JobState.SUCCEEDED),
        ("CANCELLED", JobState.CANCELLED),
        ("FAILED_CONTROLLER", JobState.FAILED),
    ],
)
def test_known_words(word: str, state: JobState) -> None:
    assert status({"status": word}).state is state


def test_a_failed_setup_began_nothing_unless_the_job_ran_before() -> None:
    first = {"status": "FAILED_SETUP", "recovery_count": 0, "failure_reason": "pip\n  failed"}
    assert status(first).began_nothing and status(first).setup_failed
    assert status(first).reason == "the machine could not be set up: pip failed"
    assert not status({**first, "recovery_count": 2}).began_nothing
    assert status({**first, "start_at": 17.5}).began_nothing  # it is RUNNING while it is set up
    sold_out = {"status": "FAILED_NO_RESOURCE", "recovery_count": 0}
    assert status(sold_out).began_nothing and not status(sold_out).setup_failed
    assert not status({**sold_out, "start_at": 17.5}).began_nothing  # not yet running again
    assert not status({"status": "FAILED", "failure_reason": "exit code 1"}).began_nothing


def test_an_unknown_word_is_told() -> None:
    assert status({"status": "PAUSED"}).reason == "SkyPilot says PAUSED"
