"""What keeps a run from being saved: since when, and why, until a save succeeds again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crown_exp.cli.ages import age, plural

if TYPE_CHECKING:
    from crown_exp.registry.base import EventInfo


@dataclass(frozen=True, slots=True)
class SaveTrouble:
    """Saves that failed since the last that did not. count: of them. since: when the first did, UTC.

    step: after which the last was to save. why: what it failed for.
    """

    count: int
    since: datetime
    step: int | None
    why: str

    def text(self, now: datetime) -> str:
        """`3 saves failed in a row, the first 12 min ago, the last after step 70: no such bucket`."""
        when = "" if self.step is None else f" after step {self.step}"
        if self.count == 1:
            return f"a save{when} failed {age(self.since, now)}: {self.why}"
        failed = f"{plural(self.count, 'save')} failed in a row"
        return f"{failed}, the first {age(self.since, now)}, the last{when}: {self.why}"


def save_trouble(events: Sequence[EventInfo]) -> SaveTrouble | None:
    """What is known of it. events: in their order. None if the last save succeeded, or there was none."""
    failed: list[EventInfo] = []
    for it in reversed(events):
        if it.kind == "saved":
            break
        if it.kind == "unsaved":
            failed.append(it)
    if not failed:
        return None
    last: Mapping[str, Any] = failed[0].data if isinstance(failed[0].data, Mapping) else {}
    step = last.get("step")
    return SaveTrouble(
        len(failed),
        since_epoch(failed[-1].time),
        step if isinstance(step, int) else None,
        str(last.get("why") or "no reason was noted"),
    )


def since_epoch(seconds: float) -> datetime:
    """Seconds since 1970 as a time; 1970 for nonsense."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)
