"""What the checkpoints room gives and takes: plain values, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

PARALLEL = 4
"""How many packs are hashed, written or read at once."""

GRACE = timedelta(hours=1)
"""How long a pack that no manifest names stays, by the store's clock: it may be of a save that goes on."""

Progress = Callable[[str, int, int], None]
"""What is being done (`saving`, `restoring`, `verifying`, `exporting`, `pruning`), bytes done, bytes in all.
Called often, in threads of the storage: it has to be quick, and must not raise."""


@dataclass(frozen=True)
class Best:
    """Which checkpoint is the best: that with the greatest, or the least, value of a metric."""

    metric: str
    greatest: bool


@dataclass(frozen=True)
class Keep:
    """Which checkpoints are kept: the newest `last`, those at multiples of `every` steps, the best.

    The newest that is known to verify is always among them.
    """

    last: int = 2
    every: int | None = None
    best: Best | None = None


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is committed.

    bytes: of all tensors. written: of the packs that were not there yet. seconds: that it took until it was
    durable; the caller was held up for `stall` of them.
    """

    step: int
    bytes: int
    written: int
    seconds: float
    stall: float


@dataclass(frozen=True)
class Unsaved:
    """A save that failed, and why, in one line. The checkpoints before it are untouched."""

    step: int
    why: str


@dataclass(frozen=True)
class Superseded:
    """A save that was not committed, as a later attempt has taken the run over."""

    step: int


@dataclass(frozen=True)
class Restored:
    """A checkpoint that was read, and whose every byte is what was written.

    state: the tree. Its tensors lie in one piece of memory; whoever keeps one keeps that alive.
    damaged: a line for each newer checkpoint that was found damaged and passed over.
    """

    step: int
    attempt: int
    name: str
    metrics: Mapping[str, float]
    state: Any
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class Listed:
    """A checkpoint that is there and not known to be damaged. bytes: of all its tensors."""

    attempt: int
    step: int
    name: str
    created: datetime = field(compare=False)
    bytes: int = field(compare=False)
    metrics: Mapping[str, float] = field(compare=False)
