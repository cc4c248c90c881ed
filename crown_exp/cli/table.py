"""Rows of texts as lines: see `crown_exp.launch.table`, which plans use, too."""

from __future__ import annotations

from crown_exp.launch.table import (
    COLOURS,
    GAP,
    LEAST,
    STATES,
    Cell,
    Column,
    Head,
    Text,
    fitted,
    painted,
    table,
)

__all__ = [
    "COLOURS",
    "GAP",
    "LEAST",
    "STATES",
    "Cell",
    "Column",
    "Head",
    "Text",
    "fitted",
    "painted",
    "table",
]
