"""Into how many parts `run.split` cuts a batch, and what is done when memory runs out.

Smaller parts add up to the same global batch, so running out of memory costs a new attempt and no change of
what is computed but rounding. What was found is kept for the next run of the same kind on the same device.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crown_exp.folder import AttemptRecord
from crown_exp.identity import short, signature


@dataclass
class Parts:
    """How batches are cut.

    asked: `device.accumulate`. count: parts now, more than asked once memory ran out. whole: samples of the
    largest batch that was cut. in_turn: the turn in which a part is worked on, or was when the loop was left.
    """

    asked: int
    count: int
    whole: int = 0
    in_turn: int | None = None

    def of(self, samples: int) -> int:
        """The parts of a batch of so many samples; never more than it has, unless more were asked for."""
        self.whole = max(self.whole, samples)
        return self.count if self.count == self.asked else min(self.count, samples)

    def more(self, turn: int) -> int | None:
        """The parts to try next, in place of those of a turn; None if smaller ones would not help."""
        if self.in_turn != turn or self.count >= self.whole:
            return None
        return min(2 * self.count, self.whole)


def in_parts(count: int) -> str:
    """For people."""
    return "batches in one part" if count == 1 else f"batches in {count} parts"


class Found:
    """What was found to fit, for one kind of run on one device: a file in `parts/` of the home."""

    def __init__(self, home: Path, config: Mapping[str, Any], device: Mapping[str, Any]) -> None:
        self.path = home / "parts" / f"{short(signature(kind_of_run(config, device)))}.json"

    def read(self) -> int:
        """The parts that fitted; 1 if nothing is known."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return max(1, int(json.loads(self.path.read_text())["parts"]))
        return 1

    def write(self, parts: int) -> None:
        """Keep it; a disk that is full costs the next run a try."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"parts": parts}))


def kind_of_run(config: Mapping[str, Any], device: Mapping[str, Any]) -> dict[str, Any]:
    """What decides how much memory a part takes."""
    optimizer = config.get("optimizer") or {}
    return {
        "task": config["task"],
        "model": config.get("model"),
        "dataset": config.get("dataset"),
        "optimizer": optimizer.get("_target_"),
        "device": device,
    }


def used_before(attempts: Iterable[AttemptRecord]) -> int:
    """The most parts that an earlier attempt of the run worked with."""
    return max((attempt.numerics.get("accumulate", 1) for attempt in attempts), default=1)
