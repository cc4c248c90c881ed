"""The traceback of a task's error, without our frames."""

from __future__ import annotations

import traceback
from pathlib import Path

OURS = str(Path(__file__).resolve().parents[1])


def own_traceback(error: BaseException) -> str:
    """The formatted traceback with every frame of crown_exp left out, causes included.

    An error that has no other frame is told by its last line alone.
    """
    told = traceback.TracebackException.from_exception(error)
    part: traceback.TracebackException | None = told
    while part is not None:
        kept = [frame for frame in part.stack if not is_ours(frame.filename)]
        part.stack = traceback.StackSummary.from_list(kept)
        part = part.__cause__ or (None if part.__suppress_context__ else part.__context__)
    lines = told.format()
    return "".join(line for line in lines if told.stack or not line.startswith("Traceback"))


def last_place(error: BaseException) -> str:
    """The innermost line of the user's own code that an error passed through; "" if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if not is_ours(frame.filename)]
    if not outside:
        return ""
    frame = outside[-1]
    return f"  at {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"


def is_ours(filename: str) -> bool:
    """Whether a source file is crown_exp's own, or part of starting Python."""
    return filename.startswith((OURS, "<frozen"))
