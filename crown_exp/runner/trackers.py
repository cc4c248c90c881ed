"""The tracker that a config chooses, with its feed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crown_exp.config.schema import TRACKER_KEYS
from crown_exp.folder import RunRecord
from crown_exp.runner.build import build
from crown_exp.tracking import Point, TrackedRun
from crown_exp.tracking.feed import Feed


def open_feed(
    config: Mapping[str, Any],
    record: RunRecord,
    attempt: int,
    home: Path,
    *,
    resumed: int | None = None,
    earlier: Callable[[], Sequence[Point]] = tuple,
) -> Feed | None:
    """The feed of `tracker._target_`, already running; None if the config names none.

    resumed, earlier: as in TrackedRun. `earlier` is called on the feed's thread, if at all; for a run in a
    store it is `crown_exp.tracking.replay.earlier_points`, carried out by the portal.
    """
    group = {key: value for key, value in config["tracker"].items() if key not in TRACKER_KEYS}
    if not group.get("_target_"):
        return None
    run = TrackedRun(
        id=record.id, name=record.name, experiment=record.experiment,
        sweep=record.sweep["id"] if record.sweep else None, tags=tuple(record.tags),
        user=record.user, config=config, attempt=attempt, home=home, resumed=resumed, earlier=earlier,
    )  # fmt: skip
    return Feed(lambda: build(group), str(group["_target_"]).rpartition(".")[2], run)
