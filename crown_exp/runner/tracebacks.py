"""What an error of a task says: its traceback without our frames, its last line, whether memory ran out."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

OURS = str(Path(__file__).resolve().parents[1])
IMPORTING = (importlib.__file__, "<frozen ")
FUTURES = str(Path(importlib.__file__).parents[1] / "concurrent" / "futures")
KEPT_CHARACTERS = 16_000
"""The end of a traceback is kept: deep recursion makes megabytes."""

# A frame as it stands in the text of a worker's traceback: its place, its line, its markers.
FRAME = re.compile(r'^ *File "(?P<file>[^"]+)", line \d+.*\n(?: {4,}.*\n)*', re.MULTILINE)


def own_traceback(error: BaseException) -> str:
    """The formatted traceback with every frame of crown_exp left out, causes included.

    An error that has no other frame is told by its last line alone.
    """
    told = traceback.TracebackException.from_exception(error)
    for part in chain(told):
        kept = [frame for frame in part.stack if not is_ours(frame.filename)]
        part.stack = traceback.StackSummary.from_list(kept)
        part._str = without_our_frames(str(part))  # type: ignore[attr-defined]
    lines = list(told.format())
    text = "".join(line for line in lines if told.stack or not line.startswith("Traceback"))
    return text if len(text) <= KEPT_CHARACTERS else f"…{text[-KEPT_CHARACTERS:]}"


def chain(told: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """An error, what caused it, and the errors of a group."""
    yield told
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            yield from chain(other)


def without_our_frames(text: str) -> str:
    """A message that holds a traceback (of a worker's error), with our frames cut out of it."""
    return FRAME.sub(lambda match: "" if is_ours(match["file"]) else match[0], text)


def last_line(error: BaseException) -> str:
    """`ValueError: what was wrong`: one line; of a worker's error, its own last line."""
    message, kind = words_of(error).strip(), type(error).__name__
    _, header, original = message.rpartition("Traceback (most recent call last):\n")
    if header:
        return next((line for line in original.splitlines() if not line.startswith(" ")), kind)
    return f"{kind}: {first}" if (first := message.partition("\n")[0]) else kind


def words_of(error: BaseException) -> str:
    """An error's message, also of one that cannot say it."""
    try:
        return str(error)
    except Exception:
        return "<its message cannot be told: str() raised>"


def last_place(error: BaseException) -> str:
    """The innermost line of the user's own code that an error passed through; "" if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if not is_ours(frame.filename) and not is_portal(frame)]
    if not outside:
        return ""
    own = [frame for frame in outside if "site-packages" not in frame.filename]
    frame = (own or outside)[-1]
    return f"  at {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"


def is_portal(frame: traceback.FrameSummary) -> bool:
    """Whether a frame hands an error on from another thread, or from an event loop."""
    return frame.filename.startswith(FUTURES) or "/anyio/" in frame.filename


def is_ours(filename: str) -> bool:
    """Whether a source file is crown_exp's own, or part of starting Python."""
    return filename.startswith((OURS, *IMPORTING))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: python's, the device's, or torch's on the CPU, which has no type of its own."""
    return (
        isinstance(error, MemoryError)
        or is_of(error, "torch", "OutOfMemoryError")
        or (isinstance(error, RuntimeError) and "can't allocate memory" in words_of(error))
    )


def is_of(error: BaseException, module: str, name: str) -> bool:
    """Whether an error is of a module's type, without importing the module."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(error, kind)
