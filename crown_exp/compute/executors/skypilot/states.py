"""SkyPilot's words for what a job does, in ours. Pure.

Only known words are final: the list grew with every version, and a job that is taken for over while it runs
would be paid for by nobody's leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crown_exp.compute.base import JobState, JobStatus

_STATES = {
    "PENDING": JobState.WAITING,
    "SUBMITTED": JobState.WAITING,
    "STARTING": JobState.STARTING,
    "RUNNING": JobState.RUNNING,
    "WINDING_DOWN": JobState.RUNNING,
    "RECOVERING": JobState.RECOVERING,
    "CANCELLING": JobState.CANCELLING,
    "SUCCEEDED": JobState.SUCCEEDED,
    "CANCELLED": JobState.CANCELLED,
    "FAILED": JobState.FAILED,
    "FAILED_SETUP": JobState.FAILED,
    "FAILED_PRECHECKS": JobState.FAILED,
    "FAILED_NO_RESOURCE": JobState.FAILED,
    "FAILED_CONTROLLER": JobState.FAILED,
    # words of plain clusters only
    "INIT": JobState.STARTING,
    "SETTING_UP": JobState.STARTING,
    "FAILED_DRIVER": JobState.FAILED,
}
_MEANING = {
    "FAILED_SETUP": "the machine could not be set up",
    "FAILED_PRECHECKS": "SkyPilot refused the job before it looked for a machine",
    "FAILED_NO_RESOURCE": "no such machine was to be had",
    "FAILED_CONTROLLER": "SkyPilot's controller of the job failed",
    "FAILED_DRIVER": "SkyPilot's own process on the machine ended",
}


def status(record: Mapping[str, Any]) -> JobStatus:
    """A record of `queue_v2`, or the state of a job on a plain cluster, as a status.

    A word that is not known is taken for RUNNING, with the word as the reason.
    """
    word = str(record.get("status") or "")
    recoveries = int(record.get("recovery_count") or 0)
    state = _STATES.get(word, JobState.RUNNING)
    return JobStatus(
        state=state,
        reason=_reason(word, record),
        began_nothing=_began_nothing(word, recoveries, record.get("start_at")),
        recoveries=recoveries,
        setup_failed=word == "FAILED_SETUP",
    )


def _began_nothing(word: str, recoveries: int, running_since: Any) -> bool:
    """Whether its command was never started.

    A job is RUNNING, since `start_at`, while its machine is set up for it too; a recovery is counted when it
    is RUNNING again.
    """
    if word == "FAILED_SETUP":
        return recoveries == 0
    return word in ("FAILED_PRECHECKS", "FAILED_NO_RESOURCE") and running_since is None


def _reason(word: str, record: Mapping[str, Any]) -> str:
    if word not in _STATES:
        return f"SkyPilot says {word or 'nothing'}"
    told = record.get("failure_reason") or record.get("details") or ""
    return ": ".join(part for part in (_MEANING.get(word, ""), " ".join(str(told).split())) if part)
