"""What `show` says of one attempt: how long it lived, from which step to which it came, why it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from crown_exp.cli.ages import plural, size, took
from crown_exp.outcome import STATE_OF_EXIT, ExitCode

if TYPE_CHECKING:
    from crown_exp.registry.base import AttemptInfo, EventInfo, RunInfo

MOST_DAMAGED = 3


def attempt_took(attempt: AttemptInfo, now: datetime) -> str:
    """How long an attempt lived, or has lived."""
    if attempt.started is None:
        return "?"
    return took(((attempt.ended or now) - attempt.started).total_seconds())


def numerics_text(numerics: Mapping[str, Any] | None) -> str:
    """The device and the precision of an attempt."""
    known = numerics or {}
    return " ".join(str(known[name]) for name in ("device", "precision") if name in known)


def memory_text(events: Sequence[EventInfo], attempt: int) -> str:
    """The most memory that an attempt took: of its process, and of a GPU's own."""
    peaks = [it.data for it in events if it.kind == "memory" and it.attempt == attempt]
    found = peaks[-1] if peaks and isinstance(peaks[-1], Mapping) else {}
    return " + ".join(size(count) for count in found.values() if isinstance(count, int))


def ended_text(attempt: AttemptInfo) -> str:
    """How an attempt ended: the state, else the code; nothing while it goes on."""
    if attempt.exit_code is None:
        return ""
    try:
        code = ExitCode(attempt.exit_code)
    except ValueError:
        return f"exit code {attempt.exit_code}"
    return STATE_OF_EXIT.get(code, "superseded")


def steps_text(attempt: AttemptInfo, run: RunInfo) -> str:
    """From which step to which an attempt came: `0-75`; `60-…` if that is not known."""
    first = attempt.resumed.step if attempt.resumed else 0
    last = attempt.step
    if last is None and attempt.attempt == run.attempt:
        last = max(first, run.step)
    return f"{first}-{'…' if last is None else last}"


def attempt_story(attempt: AttemptInfo, run: RunInfo) -> Iterator[str]:
    """What there is to tell of an attempt, a sentence each; of one that went as one expects, nothing."""
    resumed = attempt.resumed
    if resumed and attempt.attempt > 1:
        start = f"went on from step {resumed.step}" if resumed.step else "began again at the start"
        yield f"{start}, {plural(resumed.lost, 'step')} done again" if resumed.lost else start
    if resumed and resumed.numerics:
        yield f"not bit for bit comparable from step {resumed.step} on: {changes_text(resumed.numerics)}"
    for line in resumed.damaged[:MOST_DAMAGED] if resumed else ():
        yield f"damaged: {line}"
    if attempt.changes:
        yield f"with {', '.join(f'{key}={value}' for key, value in attempt.changes.items())}"
    if attempt.attempt < run.attempt and attempt.reason not in (None, "", "completed"):
        yield f"{ended_text(attempt)}: {attempt.reason}"


def changes_text(numerics: Mapping[str, Any]) -> str:
    """What of the numerics was then, and is now."""
    pairs = numerics.items()
    return ", ".join(
        f"{name} {it[0]} → {it[1]}"
        if isinstance(it, list | tuple) and len(it) == 2
        else f"{name} {it}"
        for name, it in pairs
    )
