"""What a run descends from, in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from crown_exp.registry.values import forked_from

if TYPE_CHECKING:
    from crown_exp.registry.base import EventInfo


def lineage_text(lineage: Mapping[str, Any] | None, events: Iterable[EventInfo] = ()) -> str:
    """`forked from r261122-k7f3q2@60`, `weights from r261122-k7f3q2@60: 34 of 36 tensors`; "" if of nothing.

    events: of the run, as far as they are known; one of them tells how many tensors it took.
    """
    if not lineage:
        return ""
    if origin := forked_from(lineage):
        return f"forked from {origin[0]}@{'?' if origin[1] is None else origin[1]}"
    if source := source_text(lineage.get("init_from")):
        return f"weights from {source}{taken_text(events)}"
    return json.dumps(lineage, ensure_ascii=False)


def source_text(origin: Any) -> str:
    """Where weights came from; "" if that cannot be told."""
    if not isinstance(origin, Mapping):
        return ""
    if "file" in origin:
        return f"{origin['file']} (sha256 {str(origin.get('sha256'))[:12]})"
    if "run" not in origin:
        return ""
    where = f"{origin['store']}/runs/" if origin.get("store") else ""
    return f"{where}{origin['run']}@{origin.get('step', '?')}"


def taken_text(events: Iterable[EventInfo]) -> str:
    """How many tensors were taken, by the last event that tells."""
    told = [it.data for it in events if it.kind == "initialized" and isinstance(it.data, Mapping)]
    if not told or not {"matched", "of"} <= told[-1].keys():
        return ""
    return f": {told[-1]['matched']} of {told[-1]['of']} tensors"
