"""What an attempt must know of those before it: did they get on and save, what has to be done again."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from crown_exp.config.changes import changed
from crown_exp.folder import EndRecord, Facts, RunPaths
from crown_exp.folder.segment import RESUMED, encode_header, frames
from crown_exp.outcome import ExitCode
from crown_exp.runner.cloud_notices import WORD
from crown_exp.runner.stopping import ASKED
from crown_exp.storage import BlobStore

MOST_WITHOUT_PROGRESS = 3
"""After so many ends in a row without progress, the next attempt ends the run for good."""

GONE_SECONDS = 150.0
"""So long after a notice a machine is gone, by and large."""

CALL_AGAIN = (ExitCode.PREEMPTED, ExitCode.INFRASTRUCTURE)
"""Ends after which an executor starts the next attempt by itself, however often."""

TELLING = (RESUMED, "saved")
"""Kinds of events that say up to which step the run had come."""


# --- progress -----------------------------------------------------------------------------------------


def without_progress(facts: Facts) -> int:
    """How many of the newest attempts in a row only asked to be called again and saved nothing new.

    An attempt without an end (it was killed) breaks the row, as does one whose successor began at once. One
    that soon ended by a cloud's notice is passed over: until the machine is gone, an executor that starts the
    run again there may do so many times.
    """
    ends = {end.attempt: end for end in facts.ends}
    began = {attempt.attempt: attempt.started for attempt in facts.attempts}
    count = 0
    for attempt in range(_newest(facts), 0, -1):
        end = ends.get(attempt)
        if end is None or end.exit_code not in CALL_AGAIN or end.again:
            break
        lived = (end.ended - began.get(attempt, end.ended)).total_seconds()
        if end.reason.startswith(WORD) and lived < GONE_SECONDS:
            continue
        if end.saved != _saved_before(attempt, ends):
            break
        count += 1
    return count


def _saved_before(attempt: int, ends: Mapping[int, EndRecord]) -> int | None:
    """The run's newest checkpoint as the last end before an attempt knew it; None if none did."""
    known = [number for number in ends if number < attempt]
    return ends[max(known)].saved if known else None


def _newest(facts: Facts) -> int:
    return facts.newest_attempt.attempt if facts.newest_attempt else 0


def final_word(count: int) -> str:
    """Why a run ends for good after so many ends without progress."""
    return (
        f"{count} attempts in a row were stopped, or lost their store, before they had saved anything new; "
        "more would only cost time and money, so the run ends here: start it anew with a shorter "
        "checkpoint.every, or where it may run for longer"
    )


def deaths(facts: Facts) -> int:
    """How many attempts had their machine, or their process, taken from them before they could save.

    Killed ones, and those that were told too late. What was saved in time cost nothing that saving more often
    would spare; what a limit ended, or memory, or the user, was not taken. Nor was one that another took over
    from while it lived: it has no end, as it writes nothing more.
    """
    ends = {end.attempt: end for end in facts.ends}
    gave_way = {it.attempt - 1 for it in facts.attempts if it.took_over}
    others = [it.attempt for it in facts.attempts if it.attempt not in gave_way]
    return sum(_was_taken(ends.get(number)) for number in others)


def _was_taken(end: EndRecord | None) -> bool:
    """Whether an attempt with this end, or none, was taken before it could save."""
    if end is None:
        return True
    told = end.exit_code == ExitCode.PREEMPTED and end.reason.startswith((WORD, ASKED))
    return told and (end.saved or 0) < end.step


# --- changes ------------------------------------------------------------------------------------------


def applied(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The config with these changes, in the order given; shares nothing with what it is made of."""
    return deepcopy(changed(config, changes))


# --- what was saved -----------------------------------------------------------------------------------


def newest_saved(facts: Facts) -> int | None:
    """The step of the newest checkpoint, as the last attempt with an end knew it."""
    return facts.last_end.saved if facts.last_end else None


async def saved_up_to(blobs: BlobStore, facts: Facts) -> int | None:
    """The step of the newest checkpoint that earlier attempts tell of; None if they tell of none.

    Asked are the newest attempt, then those before it until one knows: its end, or else its log, from behind.
    """
    ends = {end.attempt: end.saved for end in facts.ends}
    paths = RunPaths(facts.run.id)
    for attempt in range(_newest(facts), 0, -1):
        step = ends.get(attempt)
        if step is None:
            step = await _last_saved(blobs, paths, attempt)
        if step is not None:
            return step
    return None


async def _last_saved(blobs: BlobStore, paths: RunPaths, attempt: int) -> int | None:
    """The step of the last save that an attempt's log tells of. Raises StoreError."""
    for entry in reversed(await blobs.list(paths.log_of(attempt))):
        if place := paths.segment_number(entry.path):
            steps = _saves(await blobs.get(entry.path), encode_header(paths.run_id, *place))
            if steps:
                return max(steps)
    return None


def _payloads(data: bytes, header: bytes) -> list[bytes]:
    """What the frames of a segment hold; nothing of one with another header."""
    if not data.startswith(header):
        return []
    file = io.BytesIO(data)
    file.seek(len(header))
    return [payload for _, payload in frames(file, len(header), len(data))]


def _saves(data: bytes, header: bytes) -> list[int]:
    return [
        record[3]["step"]
        for payload in _payloads(data, header)
        if b'"saved"' in payload
        for record in json.loads(payload)
        if record[0] == "e" and record[2] == "saved"
    ]


# --- steps lost ---------------------------------------------------------------------------------------


async def steps_lost(blobs: BlobStore, facts: Facts, step: int) -> int:
    """How many steps have to be done again by an attempt that goes on from `step` (0: from the start).

    What was lost before the newest attempt went on was told then, and is not counted again.
    """
    ends = {end.attempt: end for end in facts.ends}
    paths = RunPaths(facts.run.id)
    for attempt in range(_newest(facts), 0, -1):
        end = ends.get(attempt)
        reached = end.step if end else 0
        if not reached:  # killed, or ended before its first turn
            logged = await last_step(blobs, paths, attempt)
            if logged is None:
                continue
            reached = logged
        return max(0, reached - step)
    return 0


async def last_step(blobs: BlobStore, paths: RunPaths, attempt: int) -> int | None:
    """The last step that an attempt's log tells of; None if it tells of none.

    That of the newest points, else the one that it saved or went on from. Raises StoreError.
    """
    for entry in reversed(await blobs.list(paths.log_of(attempt))):
        place = paths.segment_number(entry.path)
        if place is None:
            continue
        data = await blobs.get(entry.path)
        step = _last_step(data, encode_header(paths.run_id, *place))
        if step is not None:
            return step
    return None


def _last_step(data: bytes, header: bytes) -> int | None:
    """The highest step in the last frame of a segment that tells of any: steps never go back in it."""
    found = reversed(_payloads(data, header))
    each = (max(_steps(payload), default=None) for payload in found)
    return next((step for step in each if step is not None), None)


def _steps(payload: bytes) -> Iterator[int]:
    for record in json.loads(payload):
        match record:
            case ["m", int(step), *_]:
                yield step
            case ["e", _, kind, {"step": int(step)}] if kind in TELLING:
                yield step
