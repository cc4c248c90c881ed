"""A run as `--json` gives it, and what people call its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crown_exp.registry.values import ALONE, leaves

if TYPE_CHECKING:
    from crown_exp.registry.base import RunInfo


def run_json(run: RunInfo, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """A run as one object. cost: null until costs are recorded. config: as composed, null if unreadable."""
    return {
        "id": run.id,
        "experiment": run.experiment,
        "name": run.name,
        "user": run.user,
        "status": run.state,
        "signature": run.signature,
        "attempt": run.attempt,
        "step": run.step,
        "result": run.result,
        "cost": None,
        "created": run.created,
        "config": config,
        "task": run.task,
        "compute": run.compute,
        "seed": run.seed,
        "overrides": run.overrides,
        "tags": run.tags,
        "note": run.note,
        "sweep": run.sweep,
        "code": run.code,
        "lineage": run.lineage,
        "started": run.started,
        "ended": run.ended,
        "exit_code": run.exit_code,
        "reason": run.reason,
        "last_beat": run.last_beat,
        "stopping": run.stopping,
        "lost": run.lost,
        "exact_until": run.exact_until,
        "bytes": run.bytes,
        "store": run.store,
    }


def numbers_of(result: object) -> dict[str, float | int]:
    """The numbers of a result by their dotted names, in its order; a bare number is called `result`."""
    if isinstance(result, Mapping):
        return {name: value for name, value in leaves(result) if _is_number(value)}
    return {ALONE: result} if _is_number(result) else {}  # type: ignore[dict-item]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
