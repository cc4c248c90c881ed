"""How an attempt ends: from what a task returned or raised to an exit code and the words for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from crown_exp.errors import CrownError, NotResumable, Stopped
from crown_exp.folder.records import Failure, NewerFormat
from crown_exp.outcome import ExitCode
from crown_exp.runner.parts import Parts, in_parts
from crown_exp.runner.stopping import StopRequest
from crown_exp.runner.task import storable
from crown_exp.runner.tracebacks import (
    is_of,
    is_out_of_memory,
    last_line,
    last_place,
    own_traceback,
    words_of,
)

KEPT_CHARACTERS = 4_000

REFUSALS = (NotResumable, NewerFormat)
"""Errors of who resumed a run, not of its task: it stays as it is."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    error: one line, "" if it completed. step: the last turn that was done. failure: the exception, if the
    task raised one. told: what to print of it. unwritten: what the store did not take, and why.
    parts: to be tried again at once, with batches cut into so many; None: that is all.
    """

    exit_code: int
    step: int
    result: Any = None
    error: str = ""
    failure: Failure | None = None
    told: str = ""
    unwritten: tuple[str, ...] = ()
    parts: int | None = None


def completed(result: Any, step: int) -> Ending:
    """The end of a task that returned. Raises TaskError if its result cannot be kept."""
    return Ending(int(ExitCode.OK), step, storable(result))


def stopped(why: str, code: int, step: int) -> Ending:
    """The end of a run that was asked to stop."""
    return Ending(int(code), step, error=why)


def after_stop(ending: Ending, stop: StopRequest, saved: int | None) -> Ending:
    """How an attempt ended that was told to stop, with how long it took to save and what that left undone.

    Called when nothing is being saved any more. saved: the step of the run's newest checkpoint. Any other
    ending stays as it is.
    """
    lost = max(0, ending.step - (saved or 0))
    if ending.exit_code == ExitCode.INTERRUPTED and lost:
        return replace(ending, error=f"{ending.error}, not saved, steps lost {lost}")
    if stop.since is None or ending.exit_code != ExitCode.PREEMPTED or ending.error != stop.why:
        return ending
    now = stop.clock()
    late = now - stop.until if stop.notice is not None else 0.0
    became = what_became(ending.step, saved, now - stop.since, late, at_once=stop.at_once)
    return replace(ending, error=f"{stop.why}, {became}")


def what_became(
    step: int, saved: int | None, seconds: float, late: float, *, at_once: bool = False
) -> str:
    """What became of a run's state when it was told to stop.

    step: the last that was done. seconds: since it was told. late: since the time that it was given was up,
    negative if it is not. at_once: it was told not to save any more.
    """
    lost = max(0, step - (saved or 0))
    if step == 0:  # what was saved before was not put back yet
        return "nothing to save"
    if lost:
        return f"{'ended at once' if at_once else 'not saved'}, steps lost {lost}"
    after = f", {late:.1f} s after its time" if late > 0 else ""
    return f"saved in {seconds:.1f} s{after}, steps lost 0"


def ended_by(error: BaseException, step: int) -> Ending:
    """The end of a task that raised, or was stopped."""
    if isinstance(error, Stopped):
        return stopped(str(error), error.exit_code, step)
    if isinstance(error, KeyboardInterrupt):
        return stopped("interrupted by the user", ExitCode.INTERRUPTED, step)
    if is_of(error, "bdb", "BdbQuit"):
        return stopped("ended in the debugger", ExitCode.INTERRUPTED, step)
    trace, message = own_traceback(error), words_of(error)[:KEPT_CHARACTERS]
    failure = Failure(type=type(error).__name__, message=message, traceback=trace)
    code, line, told = ExitCode.RAISED, last_line(error), trace
    if isinstance(error, CrownError):
        code = ExitCode(error.exit_code)
        if code is ExitCode.USAGE and not isinstance(error, REFUSALS):  # a task that ran
            code = ExitCode.RAISED
        line, told = str(error), "\n".join(filter(None, [str(error), last_place(error)]))
    elif is_out_of_memory(error):
        code = ExitCode.OUT_OF_MEMORY
    return Ending(int(code), step, error=line, failure=failure, told=told)


def after_out_of_memory(ending: Ending, parts: Parts, turn: int) -> Ending:
    """How an attempt ends that ran out of memory: to be tried again with smaller parts, or for good."""
    more = parts.more(turn)
    if more is not None:
        why = f"out of memory with {in_parts(parts.count)}; tried again with {more}"
        return replace(
            ending, exit_code=int(ExitCode.PREEMPTED), error=why, failure=None, told="", parts=more
        )
    if parts.in_turn == turn:
        advice = "that was one sample at a time: make the model or the samples smaller"
    elif parts.whole:
        advice = "it was outside of run.split, where smaller parts do not help: use smaller batches there"
    else:
        advice = (
            "go over the parts, for part in run.split(batch), and they become smaller by themselves"
        )
    line = f"out of memory: {ending.error}; {advice}"
    told = f"{ending.told.rstrip()}\n{line}"
    return replace(ending, error=line, told=told)
