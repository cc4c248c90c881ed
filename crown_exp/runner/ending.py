"""How an attempt ends: from what a task returned or raised to an exit code and the words for it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from crown_exp.errors import CrownError, Stopped
from crown_exp.folder.records import Failure
from crown_exp.outcome import ExitCode
from crown_exp.runner.task import storable
from crown_exp.runner.tracebacks import last_place, own_traceback


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    error: one line, "" if it completed. step: the last turn that was done. failure: the exception, if the
    task raised one. told: what to print of it.
    """

    exit_code: int
    step: int
    result: Any = None
    error: str = ""
    failure: Failure | None = None
    told: str = ""


def completed(result: Any, step: int) -> Ending:
    """The end of a task that returned. Raises TaskError if its result cannot be kept."""
    return Ending(int(ExitCode.OK), step, storable(result))


def ended_by(error: BaseException, step: int) -> Ending:
    """The end of a task that raised, or was stopped."""
    if isinstance(error, Stopped):
        return Ending(error.exit_code, step, error=str(error))
    if isinstance(error, KeyboardInterrupt):
        return Ending(int(ExitCode.INTERRUPTED), step, error="interrupted by the user")
    kind, trace = type(error).__name__, own_traceback(error)
    failure = Failure(type=kind, message=str(error), traceback=trace)
    if isinstance(error, CrownError):
        told = "\n".join(filter(None, [str(error), last_place(error)]))
        return Ending(error.exit_code if error.exit_code != ExitCode.USAGE else int(ExitCode.RAISED),
                      step, error=str(error), failure=failure, told=told)  # fmt: skip
    if is_out_of_memory(error):
        line = f"out of memory: {first_line(error)}; a larger device.accumulate makes the parts smaller"
        return Ending(int(ExitCode.OUT_OF_MEMORY), step, error=line, failure=failure, told=trace)
    line = f"{kind}: {first_line(error)}" if str(error) else kind
    return Ending(int(ExitCode.RAISED), step, error=line, failure=failure, told=trace)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: python's or the device's."""
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (
        torch is not None and isinstance(error, torch.OutOfMemoryError)
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error).strip().partition("\n")[0]
