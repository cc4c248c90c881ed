"""Batches whose order is a pure function of (seed, epoch, position), and moving them to a device.

Names are imported on first use: torch is paid for only by the process that trains.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crown_exp.data.batches import Batches
    from crown_exp.data.move import leading, move_to, split
    from crown_exp.data.order import mix
    from crown_exp.data.stream import Stream, is_stream
    from crown_exp.data.zipped import Zipped

__all__ = ["Batches", "Stream", "Zipped", "is_stream", "leading", "mix", "move_to", "split"]

_HOME = {
    "Batches": "batches",
    "Stream": "stream",
    "Zipped": "zipped",
    "is_stream": "stream",
    "leading": "move",
    "mix": "order",
    "move_to": "move",
    "split": "move",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
